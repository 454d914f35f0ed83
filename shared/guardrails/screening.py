"""Runs the operator's guardrails on a request, before it costs anything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.config.guardrail import Guardrail, GuardrailParams
from shared.errors import ContentBlocked, GuardrailUnavailable
from shared.guardrails.content_safety import ContentSafety, ImageModeration, PromptShield, TextModeration
from shared.guardrails.findings import Finding, Passed
from shared.guardrails.keywords import Keywords
from shared.upstream.identity import Connections

logger = logging.getLogger("gateway")

T = TypeVar("T")
Check = Callable[[T], Awaitable[Finding | None]]  # of a prompt, or of an image's bytes


@dataclass(frozen=True)
class Rule(Generic[T]):
    """A guardrail, and how it looks at a request. `check` raises GuardrailUnavailable."""

    name: str
    params: GuardrailParams
    check: Check[T]

    def runs(self, asked: Collection[str]) -> bool:
        return self.params.default_on or self.name in asked

    async def run(self, subject: T) -> Passed | Finding | GuardrailUnavailable:
        """What it says, as a value: with several at once, the order of the configuration decides
        which is told.
        """
        try:
            found = await self.check(subject)
        except GuardrailUnavailable as error:
            logger.warning("the guardrail %s did not answer: %s", self.name, error.message)
            return Passed(self.name, "unavailable") if self.params.on_error == "allow" else error
        return found or Passed(self.name, "passed")


@dataclass(frozen=True)
class Screening:
    """The guardrails for prompts and for reference images."""

    prompts: Sequence[Rule[str]]
    images: Sequence[Rule[bytes]]

    async def prompt(self, text: str, asked: Collection[str]) -> tuple[Passed, ...]:
        """Look at a prompt; `asked` are the guardrails that the request names. Raises
        ContentBlocked, or GuardrailUnavailable (503).
        """
        local = [rule for rule in self.prompts if rule.params.is_local]
        services = [rule for rule in self.prompts if not rule.params.is_local]
        # A service is paid for: it is not asked about what the operator's own words refuse.
        return (*await _run(local, text, asked, "prompt"), *await _run(services, text, asked, "prompt"))

    async def image(self, data: bytes, asked: Collection[str]) -> tuple[Passed, ...]:
        """The same for a reference image, checked and in the video's size."""
        return await _run(self.images, data, asked, "input_reference")


async def _run(rules: Iterable[Rule[T]], subject: T, asked: Collection[str], param: str) -> tuple[Passed, ...]:
    running = [rule for rule in rules if rule.runs(asked)]
    said = await asyncio.gather(*(rule.run(subject) for rule in running))
    for rule, each in zip(running, said, strict=True):
        if isinstance(each, Finding):
            logger.info("the guardrail %s blocked a request: %s", rule.name, each.category)
            raise _blocked(rule.name, each, param)
    for each in said:
        if isinstance(each, GuardrailUnavailable):
            raise GuardrailUnavailable(
                "The request could not be screened just now; nothing was started. Try again.", retry_after=each.retry_after
            )
    return tuple(each for each in said if isinstance(each, Passed))


def _blocked(name: str, finding: Finding, param: str) -> ContentBlocked:
    what = "prompt" if param == "prompt" else "reference image"
    told = f"The guardrail '{name}' blocked the {what} ({finding.category}): {finding.reason}."
    details = {"guardrail_name": name, "guardrail_mode": "pre_call", "category": finding.category}
    return ContentBlocked(told, param=param, details=details)


def screening_of(guardrails: Sequence[Guardrail], connections: Connections) -> Screening:
    """The guardrails of the configuration. Raises ConfigurationError."""
    prompts: list[Rule[str]] = []
    images: list[Rule[bytes]] = []
    for each in guardrails:
        params = each.params
        if params.guardrail == "azure/image_moderations":
            images.append(Rule(each.guardrail_name, params, ImageModeration(_service(params, connections), params).check))
        else:
            prompts.append(Rule(each.guardrail_name, params, _prompt_check(params, connections)))
    return Screening(prompts, images)


def _prompt_check(params: GuardrailParams, connections: Connections) -> Check[str]:
    if params.is_local:
        return Keywords(params.words, params.expressions).check
    service = _service(params, connections)
    return (
        TextModeration(service, params).check if params.guardrail == "azure/text_moderations" else PromptShield(service).check
    )


def _service(params: GuardrailParams, connections: Connections) -> ContentSafety:
    return ContentSafety(params.api_base or "", params.api_key, params.api_version, connections)
