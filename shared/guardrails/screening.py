"""Runs the operator's guardrails on a request, before it costs anything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from shared.config.guardrail import Guardrail, GuardrailParams
from shared.errors import ContentBlocked, GuardrailUnavailable
from shared.guardrails.content_safety import ContentSafety, ImageModeration, PromptShield, TextModeration
from shared.guardrails.findings import Finding, Verdict
from shared.guardrails.keywords import Keywords
from shared.upstream.identity import Connections

logger = logging.getLogger("gateway")

T = TypeVar("T")
Check = Callable[[T], Awaitable[Finding | None]]  # of a prompt, or of an image's bytes


@dataclass(frozen=True)
class Rule(Generic[T]):
    """A guardrail and its check, of a prompt or of an image, which raises GuardrailUnavailable."""

    name: str
    params: GuardrailParams
    check: Check[T]

    def runs(self, asked: Collection[str]) -> bool:
        """Whether it runs on a request that names the guardrails `asked`."""
        return self.params.default_on or self.name in asked

    async def run(self, subject: T) -> Finding | GuardrailUnavailable | None:
        """The result of the check. An error is returned, not raised: rules run at the same time,
        and their order in the configuration decides which one the caller is told.
        """
        try:
            return await self.check(subject)
        except GuardrailUnavailable as error:
            logger.warning("the guardrail %s did not answer: %s", self.name, error.message)
            return error


@dataclass(frozen=True)
class Screening:
    """The guardrails for prompts and for reference images."""

    prompts: Sequence[Rule[str]]
    images: Sequence[Rule[bytes]]

    async def prompt(self, text: str, asked: Collection[str]) -> tuple[Verdict, ...]:
        """Check a prompt with the guardrails that are always on and those that the request names
        (`asked`). Raises ContentBlocked, or GuardrailUnavailable if a guardrail with `on_error:
        block` does not answer; both hold the verdicts until then in `said`.
        """
        local = [rule for rule in self.prompts if rule.params.is_local]
        services = [rule for rule in self.prompts if not rule.params.is_local]
        # Services cost money, so they run only if the operator's own words have not blocked.
        said = await _run(local, text, asked, "prompt", ())
        return await _run(services, text, asked, "prompt", said)

    async def image(self, data: bytes, asked: Collection[str], said: tuple[Verdict, ...] = ()) -> tuple[Verdict, ...]:
        """The same for a reference image, which has the video's size already. `said` are the
        verdicts on its prompt, which the returned ones begin with.
        """
        return await _run(self.images, data, asked, "input_reference", said)


async def _run(
    rules: Iterable[Rule[T]], subject: T, asked: Collection[str], param: str, before: tuple[Verdict, ...]
) -> tuple[Verdict, ...]:
    running = [rule for rule in rules if rule.runs(asked)]
    outcomes = list(zip(running, await asyncio.gather(*(rule.run(subject) for rule in running)), strict=True))
    said = (*before, *(_verdict(rule.name, outcome) for rule, outcome in outcomes))
    for rule, outcome in outcomes:
        if isinstance(outcome, Finding):
            logger.info("the guardrail %s blocked a request: %s", rule.name, outcome.category)
            raise _blocked(rule.name, outcome, param, said)
    for rule, outcome in outcomes:
        if isinstance(outcome, GuardrailUnavailable) and rule.params.on_error == "block":
            raise _unseen(outcome, said)
    return said


def _verdict(name: str, outcome: Finding | GuardrailUnavailable | None) -> Verdict:
    if isinstance(outcome, Finding):
        return Verdict(name, "blocked", outcome.category)
    return Verdict(name, "unavailable" if outcome else "passed")


def _blocked(name: str, finding: Finding, param: str, said: Sequence[Verdict]) -> ContentBlocked:
    what = "prompt" if param == "prompt" else "reference image"
    told = f"The guardrail '{name}' blocked the {what} ({finding.category}): {finding.reason}."
    details = {"guardrail_name": name, "guardrail_mode": "pre_call", "category": finding.category}
    return ContentBlocked(told, param=param, details=details, said=msgspec.to_builtins(said))


def _unseen(error: GuardrailUnavailable, said: Sequence[Verdict]) -> GuardrailUnavailable:
    told = "The request could not be screened just now; nothing was started. Try again."
    return GuardrailUnavailable(told, retry_after=error.retry_after, said=msgspec.to_builtins(said))


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
