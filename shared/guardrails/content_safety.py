"""Azure AI Content Safety: text:analyze, text:shieldPrompt and image:analyze, by its REST API
(2024-09-01).

An answer that leaves out a category counts as no answer: it does not say that the text is harmless.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from shared.config.guardrail import GuardrailParams
from shared.errors import GuardrailUnavailable
from shared.guardrails.findings import Finding
from shared.media.reference_image import smaller_copy
from shared.upstream.bodies import ACCEPTED, Response, read_answer
from shared.upstream.identity import Connections

if TYPE_CHECKING:
    import httpx

LONGEST_TEXT = 10_000  # characters (code points) of one call
OVERLAP = 500  # characters that two pieces share, so that one of them has each sentence whole
LARGEST_IMAGE = 4_000_000  # bytes; sides of 50 to 7,200 pixels, which every reference image has
_SCOPE = "https://cognitiveservices.azure.com/.default"
_LONGEST_CALL = 10.0  # seconds, the second try included: the caller waits
_LARGEST_ANSWER = 256 * 1024  # bytes
_AT_ONCE = 16  # calls; the free tier allows 5 a second, the paid one 100
_NEVER = 1_000  # above any severity: the service's are 0 to 7
_LONGEST_WAIT = 60.0  # seconds that a caller is told to wait at most

T = TypeVar("T")


class _Severity(msgspec.Struct, frozen=True):
    category: str
    severity: int


class _Match(msgspec.Struct, frozen=True, rename="camel"):
    blocklist_name: str


class _Analysis(msgspec.Struct, frozen=True, rename="camel"):
    categories_analysis: list[_Severity]
    blocklists_match: list[_Match] = []


class _Shield(msgspec.Struct, frozen=True, rename="camel"):
    attack_detected: bool


class _Shielding(msgspec.Struct, frozen=True, rename="camel"):
    user_prompt_analysis: _Shield


@dataclass(frozen=True)
class ContentSafety:
    """One Content Safety resource, reached with its key, or with the app's identity."""

    base_url: str
    api_key: str | None = field(repr=False)
    api_version: str
    connections: Connections
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def ask(self, operation: str, body: Any, kind: type[T]) -> T:
        """Call one operation and decode its answer as `kind`. Raises GuardrailUnavailable."""
        import httpx
        from azure.core.exceptions import AzureError

        try:
            async with self._turns, asyncio.timeout(_LONGEST_CALL):
                answer = await self._answer(operation, msgspec.json.encode(body))
        except (httpx.HTTPError, TimeoutError, AzureError) as error:
            raise GuardrailUnavailable(f"{operation}: {type(error).__name__}") from error
        if answer.status != 200 or not answer.whole:
            raise GuardrailUnavailable(f"{operation}: it answered {answer.status}", retry_after=_retry_after(answer.headers))
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GuardrailUnavailable(f"{operation}: an answer that is not its own") from error

    async def _answer(self, operation: str, body: bytes) -> Response:
        """One call, sent again once if the connection broke (a server may have closed it while it
        was idle) or if the token was refused.
        """
        import httpx

        try:
            answer = await self._send(operation, body)
        except httpx.TransportError:
            return await self._send(operation, body)
        if answer.status == 401 and self.api_key is None:
            return await self._send(operation, body, renew=True)
        return answer

    async def _send(self, operation: str, body: bytes, *, renew: bool = False) -> Response:
        client, headers = self.connections.http(), await self._credentials(renew=renew)
        headers |= {"content-type": "application/json", "accept-encoding": ACCEPTED}
        url = f"{self.base_url}/contentsafety/{operation}"
        ask = client.build_request("POST", url, params={"api-version": self.api_version}, content=body, headers=headers)
        # Redirects are not followed: no other server may see the prompt or judge it.
        answer = await client.send(ask, stream=True, follow_redirects=False)
        try:
            return await read_answer(answer, _LARGEST_ANSWER)
        finally:
            await answer.aclose()

    async def _credentials(self, *, renew: bool) -> dict[str, str]:
        if self.api_key is not None:
            return {"ocp-apim-subscription-key": self.api_key}
        return {"authorization": f"Bearer {await self.connections.token(_SCOPE, renew=renew)}"}


def _retry_after(headers: "httpx.Headers") -> float | None:
    told = headers.get("retry-after", "")
    return min(float(told), _LONGEST_WAIT) if told.isascii() and told.isdigit() else None


@dataclass(frozen=True)
class TextModeration:
    """`azure/text_moderations`: severities by category, and the resource's block lists."""

    service: ContentSafety
    params: GuardrailParams

    async def check(self, prompt: str) -> Finding | None:
        """Why the prompt is blocked, or None. Raises GuardrailUnavailable."""
        return await _found_in(prompt, self._check_piece)

    async def _check_piece(self, piece: str) -> Finding | None:
        body = {
            "text": piece,
            "categories": self.params.categories,
            "blocklistNames": self.params.blocklist_names,
            "haltOnBlocklistHit": self.params.halt_on_blocklist_hit,
            "outputType": self.params.output_type,
        }
        return _finding(await self.service.ask("text:analyze", body, _Analysis), self.params)


@dataclass(frozen=True)
class PromptShield:
    """`azure/prompt_shield`: attempts to talk the model out of its rules."""

    service: ContentSafety

    async def check(self, prompt: str) -> Finding | None:
        """Why the prompt is blocked, or None. Raises GuardrailUnavailable."""
        return await _found_in(prompt, self._check_piece)

    async def _check_piece(self, piece: str) -> Finding | None:
        said = await self.service.ask("text:shieldPrompt", {"userPrompt": piece, "documents": []}, _Shielding)
        attacked = said.user_prompt_analysis.attack_detected
        return Finding("prompt_attack", "it tries to change the rules of the model") if attacked else None


@dataclass(frozen=True)
class ImageModeration:
    """`azure/image_moderations`: severities by category of a reference image."""

    service: ContentSafety
    params: GuardrailParams

    async def check(self, image: bytes) -> Finding | None:
        """Why the image is blocked, or None. Raises GuardrailUnavailable."""
        content = await asyncio.to_thread(_encoded, image)
        body = {"image": {"content": content}, "categories": self.params.categories, "outputType": "FourSeverityLevels"}
        return _finding(await self.service.ask("image:analyze", body, _Analysis), self.params)


def _encoded(image: bytes) -> str:
    return base64.b64encode(smaller_copy(image, LARGEST_IMAGE)).decode()


def pieces(text: str) -> list[str]:
    """A text in pieces that fit one call; each begins with the last 500 characters of the one
    before.
    """
    step = LONGEST_TEXT - OVERLAP
    return [text[at : at + LONGEST_TEXT] for at in range(0, max(1, len(text) - OVERLAP), step)]


async def _found_in(text: str, check: Callable[[str], Awaitable[Finding | None]]) -> Finding | None:
    """The first finding in the pieces of a text. If there is none, but a piece could not be
    checked, its GuardrailUnavailable is raised.
    """
    said = await asyncio.gather(*map(check, pieces(text)), return_exceptions=True)
    failures = [each for each in said if isinstance(each, BaseException)]
    found = next((each for each in said if isinstance(each, Finding)), None)
    if failures and found is None:
        raise failures[0]
    return found


def _finding(analysis: _Analysis, params: GuardrailParams) -> Finding | None:
    """Why an analysis blocks, or None. Raises GuardrailUnavailable if it leaves out a category."""
    if analysis.blocklists_match:
        return Finding(analysis.blocklists_match[0].blocklist_name, "it holds what this list blocks")
    thresholds = params.thresholds
    for each in analysis.categories_analysis:
        if each.severity >= thresholds.get(each.category, _NEVER):
            return Finding(each.category, f"severity {each.severity}, and {thresholds[each.category]} is blocked")
    left_out = thresholds.keys() - {each.category for each in analysis.categories_analysis}
    if left_out:
        raise GuardrailUnavailable(f"an answer without {', '.join(sorted(left_out))}")
    return None
