"""The client of the /videos dialect, for Azure OpenAI and for any other server that keeps to it.

Only `create` and `remix` can make a job. Their errors say whether they may have made one:
Unreachable (no), Uncertain (perhaps), or a refusal (no). All other calls may be repeated.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.dialects.bodies import field_of
from shared.dialects.dialect import Ask
from shared.errors import GatewayError, Misrouted, Refused, Uncertain, Unreachable, UpstreamError, UpstreamReport
from shared.media.content import Content
from shared.media.reference_image import Reference
from shared.upstream.answers import from_upstream, request_id_of
from shared.upstream.bodies import ACCEPTED, Response, read_answer
from shared.upstream.downloads import Downloads, Place, Resolve, addresses_of
from shared.upstream.jobs import PAGE, Job, Listing, Page
from shared.upstream.masking import mask_of
from shared.upstream.tracing import Trace, told

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("gateway")

_REDIRECTS = 3
_DENIED = (401, 403)
_LONGEST_CALL = 120.0  # seconds, of any call but a download: a server may send a byte a minute without end
_MOST_PAGES = 30  # of a list; a longer one counts as incomplete
_LARGEST_ANSWER = 16 * 1024 * 1024  # bytes of JSON; a list of 100 videos with the longest prompts fits


class TokenSource(Protocol):
    """Gives a bearer token for a scope. `renew` asks for a new one, since the last was refused."""

    async def __call__(self, scope: str, *, renew: bool = False) -> str: ...


class Accepted(msgspec.Struct, frozen=True):
    """The upstream has accepted the job."""

    job: Job
    request_id: str | None


class Upstream:
    """One deployment's videos. Every method raises a leaf of UpstreamError."""

    def __init__(
        self,
        deployment: Deployment,
        client: "Callable[[], httpx.AsyncClient]",
        tokens: TokenSource,
        clock: Clock,
        resolve: Resolve = addresses_of,
        *,
        trace: Trace | None = None,
    ) -> None:
        self.deployment = deployment
        self._client = client
        self._tokens = tokens
        self._clock = clock
        self._resolve = resolve
        self._trace = trace or Trace(deployment)

    async def create(self, ask: Ask, reference: Reference | None = None) -> Accepted:
        """Start a job."""
        texts = self.deployment.dialect.form(self.deployment.model, ask)
        parts: dict[str, Any] = {name: (None, text) for name, text in texts.items()}
        if reference is not None:
            parts["input_reference"] = (reference.filename, reference.data, reference.media_type)
        return await self._start("/videos", files=parts)

    async def remix(self, upstream_id: str, prompt: str) -> Accepted:
        """Start a job from a finished one. The upstream takes no other parameter than the prompt.

        Raises Missing if it no longer has the finished one, and Refused (`not_supported`) if it has
        no remix, which does not mean that the deployment's creates fail.
        """
        try:
            return await self._start(f"/videos/{_segment(upstream_id)}/remix", about_video=True, json={"prompt": prompt})
        except Misrouted as error:
            raise Refused("The upstream cannot remix.", code="not_supported", report=error.report) from error

    async def get(self, upstream_id: str) -> Job:
        """The job as it is now. Some servers answer with a 4xx or 5xx if the job has failed, so an
        answer that holds the job counts as a success.
        """
        answer = await self._exchange("GET", f"/videos/{_segment(upstream_id)}")
        if answer.is_success or field_of(answer.body, "id") != upstream_id:
            self._check(answer, about_video=True)
        return self._job(answer, Unreachable)

    async def recent(self, since: datetime) -> Listing:
        """The resource's jobs made since then, newest first, and some older ones."""
        listing, after = Listing(since), ""
        for _ in range(_MOST_PAGES):
            params = {"limit": str(PAGE), "order": "desc", **({"after": after} if after else {})}
            answer = await self._send("GET", "/videos", params=params)
            page = _decode(answer, Page, Unreachable)
            following = listing.add(page, answer.headers.get("date"), self._clock.now())
            if following is None:
                break
            after = following
        return listing

    async def ping(self) -> None:
        """Send a small request that makes no job, to learn whether the upstream answers."""
        await self._send("GET", self.deployment.dialect.probe, params={"limit": "1"})

    async def delete(self, upstream_id: str) -> None:
        """Delete a job's copy, if the server can."""
        if not self.deployment.dialect.deletes:
            return
        await self._send("DELETE", f"/videos/{_segment(upstream_id)}", about_video=True)

    async def stop(self, upstream_id: str) -> bool:
        """Stop a job. Returns False if the server cannot, or if the job has ended by itself."""
        if not self.deployment.dialect.stops or (await self.get(upstream_id)).ended:
            return False
        await self.delete(upstream_id)
        return True

    @asynccontextmanager
    async def content(self, upstream_id: str, variant: str = "video") -> AsyncIterator[Content]:
        """Stream a job's bytes, from wherever the upstream has them."""
        path = f"/videos/{_segment(upstream_id)}/content"
        with self._trace.call("GET", path):
            async with self._content(upstream_id, variant) as content:
                yield content

    @asynccontextmanager
    async def _content(self, upstream_id: str, variant: str) -> AsyncIterator[Content]:
        import httpx

        downloads = Downloads(self.deployment, await self._credentials(), self._resolve)
        try:
            place = await self._place(downloads, upstream_id, variant)
            for _ in range(_REDIRECTS + 1):
                ask = self._client().stream("GET", place.url, headers=place.headers, extensions=dict(place.extensions))
                async with ask as response:
                    if response.has_redirect_location:
                        place = await downloads.redirected(place.url, response.headers["location"])
                        continue
                    if not response.is_success:
                        if response.status_code in _DENIED and self._uses_token():
                            await self._credentials(renew=True)  # for the next try: this download is not repeated
                        answer = await read_answer(response, _LARGEST_ANSWER)
                        raise self._failure(answer, creating=False, about_video=True)
                    yield _content(response)
                    return
        # UnicodeError: looking up a host name that is not valid raises it.
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _transport_failure(error, creating=False) from error
        raise Misrouted("The upstream redirected a download too many times.")

    async def _place(self, downloads: Downloads, upstream_id: str, variant: str) -> Place:
        """Where a job's bytes are: at the address that the job names, or at the usual route."""
        import httpx

        address = (await self.get(upstream_id)).address if self.deployment.dialect.tells_address else None
        if address is not None:
            return await downloads.named(address)
        path = f"/videos/{_segment(upstream_id)}/content"
        return downloads.at(httpx.URL(self._url(path), params=self._params({} if variant == "video" else {"variant": variant})))

    async def _start(self, path: str, *, about_video: bool = False, **body: Any) -> Accepted:
        answer = await self._send("POST", path, creating=True, about_video=about_video, **body)
        return Accepted(self._job(answer, Uncertain), request_id_of(answer.headers))

    async def _send(
        self, method: str, path: str, *, creating: bool = False, about_video: bool = False, **request: Any
    ) -> Response:
        answer = await self._exchange(method, path, creating=creating, **request)
        self._check(answer, creating=creating, about_video=about_video)
        return answer

    async def _exchange(
        self, method: str, path: str, *, creating: bool = False, params: Mapping[str, str] | None = None, **body: Any
    ) -> Response:
        """Send a request and read its answer, whatever its status."""
        import httpx

        async def send(*, renew: bool) -> Response:
            headers = {"accept-encoding": ACCEPTED, **self._trace.headers, **await self._credentials(renew=renew)}
            url, query = self._url(path), self._params(params or {})
            async with self._client().stream(method, url, params=query, headers=headers, **body) as response:
                return await read_answer(response, _LARGEST_ANSWER)

        try:
            async with asyncio.timeout(_LONGEST_CALL):
                with self._trace.call(method, path, creating=creating) as span:
                    answer = await send(renew=False)
                    if answer.status in _DENIED and self._uses_token():
                        answer = await send(renew=True)  # the token may have run out; a new one has not
                    told(span, answer.status)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _transport_failure(error, creating=creating) from error
        except TimeoutError as error:
            raise (Uncertain if creating else Unreachable)("The upstream takes too long to answer.") from error
        return answer

    def _check(self, answer: Response, *, creating: bool = False, about_video: bool = False) -> None:
        """Raises the error of an answer that is not a success, or is too long."""
        if not answer.is_success:
            raise self._failure(answer, creating=creating, about_video=about_video)
        if not answer.whole:
            raise (Uncertain if creating else Unreachable)("The upstream's answer is too large to be one.")

    def _job(self, answer: Response, failure: type[UpstreamError]) -> Job:
        """The job of an answer. Its error is shown to callers, so it is masked; the prompt is not,
        because it is compared with the video's.
        """
        return _decode(answer, Job, failure).masked(mask_of(self.deployment))

    def _uses_token(self) -> bool:
        return self.deployment.dialect.identity and self.deployment.api_key is None

    async def _credentials(self, *, renew: bool = False) -> dict[str, str]:
        key = self.deployment.api_key
        if key is not None:
            return self.deployment.dialect.key_header(key)
        if not self._uses_token():
            return {}  # a server on a private network may need none
        from azure.core.exceptions import AzureError

        try:
            token = await self._tokens(self.deployment.token_scope, renew=renew)
        except AzureError as error:  # nothing was sent yet; its text describes the identity, so it stays out
            report = UpstreamReport(message=type(error).__name__)
            raise Unreachable("The gateway got no token for the upstream.", report=report) from error
        return {"authorization": f"Bearer {token}"}

    def _url(self, path: str) -> str:
        return f"{self.deployment.base_url}{path}"

    def _params(self, params: Mapping[str, str]) -> dict[str, str]:
        version = self.deployment.api_version
        return {**params, "api-version": version} if version else dict(params)

    def _failure(self, answer: Response, *, creating: bool, about_video: bool) -> UpstreamError:
        """The error of an answer, in words that callers may see."""
        refused = creating and self.deployment.dialect.proves_refusal(answer.status, answer.body)
        return from_upstream(
            answer.status,
            answer.headers,
            answer.body,
            self._clock.now(),
            creating=creating and not refused,
            about_video=about_video,
            mask=mask_of(self.deployment),
        )


def _content(response: "httpx.Response") -> Content:
    length = response.headers.get("content-length", "")
    return Content(
        length=int(length) if length.isdigit() else None,
        media_type=response.headers.get("content-type", ""),
        chunks=response.aiter_raw(),
        request_id=request_id_of(response.headers),
    )


def _transport_failure(error: Exception, *, creating: bool) -> UpstreamError:
    """The error of a call without an answer. Only a connection that was never made proves that
    nothing was accepted. Names no address: errors reach callers.
    """
    import httpx

    report = UpstreamReport(message=type(error).__name__)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol):
        return Unreachable("The upstream cannot be reached.", report=report)
    return (Uncertain if creating else Unreachable)("The connection to the upstream broke.", report=report)


_T = TypeVar("_T")


def _decode(answer: Response, kind: type[_T], failure: type[UpstreamError]) -> _T:
    try:
        return msgspec.json.decode(answer.body, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        report = UpstreamReport(answer.status, str(error)[:200], request_id=request_id_of(answer.headers))
        raise failure("The upstream's answer cannot be read.", report=report) from error


def log_failure(video_id: str, operation: str, error: GatewayError) -> None:
    """Log a failed call with the vendor's request id. The upstream's message stays out, because it
    may quote the prompt.
    """
    report = error.report if isinstance(error, UpstreamError) else UpstreamReport()
    logger.warning(
        "video %s: %s: %s status=%s apim-request-id=%s", video_id, operation, error.code, report.status, report.request_id
    )


def _segment(upstream_id: str) -> str:
    """An id as one path segment, escaped so that an id from another server cannot change
    the path.
    """
    from urllib.parse import quote

    # Dots are escaped too: clients and servers resolve `.` and `..`.
    return quote(upstream_id, safe="").replace(".", "%2E")
