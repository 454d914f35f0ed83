"""The first and the last step of a video: start, finish, delete. Between them come submission and
rendering.

Every step may run twice, and may be killed between any two lines: it reads the record first and
continues from there.
"""

import asyncio
import json
import logging
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from shared.accounts.account import Account, Crossing, reserve
from shared.accounts.account_changes import CANCELLED_MESSAGE, Admitted
from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.idempotency import RequestIdentity
from shared.accounts.ledger import Ledger
from shared.accounts.spend_lines import SpendLine, SpendLines
from shared.capacity.pool import Pool
from shared.clock import Clock
from shared.config.catalog import Model
from shared.config.file import GatewayKnobs
from shared.errors import GatewayError, NotPassed, RequestError, StorageUnavailable, UpstreamError
from shared.events.alerts import Alert, Alerts
from shared.events.journal import Journal
from shared.media.reference_image import Reference, ReferenceImages
from shared.media.requests import CreateRequest
from shared.media.video import Video, dollars, new_id
from shared.storage.blobs import Archive
from shared.storage.tables import retry_conflicts
from shared.storage.video_store import VideoStore
from shared.telemetry.trace_parent import TraceParent
from shared.upstream.upstreams import Upstreams
from shared.videos.copies import Copies
from shared.videos.step_result import Failure, failed

if TYPE_CHECKING:
    from shared.guardrails.screening import Screening

logger = logging.getLogger("gateway")

_SEEDS = 2**31  # seeds are below this, as every server requires
_TO_STOP = 20.0  # seconds to stop a job, while the caller waits for the answer to a delete


class Lifecycle(msgspec.Struct, frozen=True):
    """The steps, with everything they use."""

    videos: VideoStore
    lines: SpendLines
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    archive: Archive
    images: ReferenceImages
    screening: "Screening | None"
    upstreams: Upstreams
    copies: Copies
    clock: Clock
    knobs: GatewayKnobs
    journal: Journal
    alerts: Alerts

    async def start(
        self,
        request: CreateRequest,
        owner: str,
        identity: RequestIdentity | None = None,
        account: Account | None = None,
        request_id: str | None = None,
    ) -> Admitted:
        """Admit a request: enter its video into the pool, then reserve its price and record it.

        With `identity`, a request that was admitted before gets its earlier video. `account` is the
        one that the caller was authenticated with, `request_id` the one in the response. Raises the
        RequestError or NotPassed that refuses it, or StorageUnavailable.
        """
        token = account.token if account else None
        # First: a repeated request is answered even if nothing more could be admitted.
        earlier = await self._earlier(owner, identity, token)
        if earlier is not None:
            return earlier
        video = _video_of(request, owner, self.clock.now(), request_id, self.journal.telemetry.current)
        try:
            if account is not None:
                video = msgspec.structs.replace(video, key_user=account.user_id)
                await self._refuse_early(video, account)
            # Only now: guardrails cost money, and unpacking an image is the most expensive part.
            video, reference = await self._examined(video, request)
            return await self._admit(video, request.model, reference, identity, token)
        except (RequestError, NotPassed) as refusal:
            # A concurrent equal request may have been admitted meanwhile; answer with its video.
            earlier = await self._earlier(owner, identity, token)
            if earlier is not None:
                return earlier
            await self._note_refusal(video, account, refusal, identity)
            raise

    async def _note_refusal(
        self, video: Video, account: Account | None, refusal: GatewayError, identity: RequestIdentity | None
    ) -> None:
        """Tell of a blocked request, and remember a 429 for the request's retries."""
        if isinstance(refusal, NotPassed):
            await self._tell_blocked(video, account, refusal)
        if identity is not None and refusal.status == 429:
            await self.ledger.remember_refusal(video.owner, identity, refusal.retry_after)

    async def _examined(self, video: Video, request: CreateRequest) -> tuple[Video, Reference | None]:
        """The video with the verdicts of the guardrails, and its reference image, fetched and
        checked. Raises InvalidRequest, TooLarge, ContentBlocked or GuardrailUnavailable.
        """
        screening, asked = self.screening, request.guardrails
        said = await screening.prompt(request.words, asked) if screening else ()
        reference = None
        if request.image is not None:
            reference = await self.images.check(request.image, request.size, request.fit)
            said = await screening.image(reference.data, asked, said) if screening else ()
        told = msgspec.json.encode(said).decode() if said else None
        return msgspec.structs.replace(video, guardrails=told), reference

    async def _earlier(self, owner: str, identity: RequestIdentity | None, token: str | None) -> Admitted | None:
        """The video that an equal request got before, if any."""
        return await self.ledger.earlier(owner, identity, token) if identity else None

    async def _admit(
        self,
        video: Video,
        model: Model,
        reference: Reference | None,
        identity: RequestIdentity | None,
        token: str | None,
    ) -> Admitted:
        """Reserve the price, and record the video with all that it needs until it is finished."""
        with self.ledger.foreseen(video.owner):
            await self.pool.enter(model, video.id)
            if reference is not None:
                video = msgspec.structs.replace(video, reference=reference.media_type)
            try:
                await self.lines.open(video.id)
                if reference is not None:
                    await self.archive.keep_reference(video, reference)
                await self.budget.hold(video)
                admitted = await self.ledger.admit(video, identity, token)
            except RequestError:
                await self._forget(video)
                raise
        if admitted.replayed:
            await self._forget(video)
            return admitted
        await self._tell_start(admitted)
        return admitted

    async def _tell_start(self, admitted: Admitted) -> None:
        """Tell of the start. If storage fails now, it is told with the end: the video is admitted,
        so the create must not fail any more.
        """
        video = admitted.video
        self.journal.note("started", video)
        try:
            await self.tell(video)
        except StorageUnavailable:
            logger.warning("video %s: its start was not told yet", video.id)

    async def tell(self, video: Video) -> None:
        """Tell the events of a video that are not told yet, and whether it made its key cross its
        soft budget. May be repeated. Raises StorageUnavailable.
        """
        await self.journal.tell(video)
        if video.crossed is not None:
            await self.alerts.tell(_over_soft_budget(video, msgspec.json.decode(video.crossed, type=Crossing)))

    async def _tell_blocked(self, video: Video, account: Account | None, refusal: NotPassed) -> None:
        """Tell of a blocked request. If storage fails now, the log has it, and the sweep tells it
        if its mark was written; the caller gets the refusal all the same.
        """
        if account is not None:
            video = msgspec.structs.replace(video, tags=account.tags, key_alias=account.alias)
        try:
            await self.journal.tell_blocked(video, refusal)
        except StorageUnavailable:
            logger.warning("video %s: the blocked request was not told to every logging provider yet", video.id)

    async def _refuse_early(self, video: Video, account: Account) -> None:
        """Refuse what the account clearly forbids, at the cost of one read, so that a client which
        keeps asking does not slow down others. Raises RequestError.

        The account that the caller was authenticated with may be seconds old, so a refusal is
        decided on the newest one.
        """
        try:
            reserve(account, video, self.clock.now())
        except RequestError:
            newest = await self.ledger.account(video.owner)
            if newest is not None:
                reserve(newest, video, self.clock.now())

    async def _forget(self, video: Video) -> None:
        """Remove everything that was only needed while the video was unfinished. May be
        repeated.
        """
        await self._clear(video)
        await self._leave(video)

    async def _clear(self, video: Video) -> None:
        await self.budget.release(video.id, video.spent)
        if video.finished:
            await self.lines.close(SpendLine.of(video))
            await self.tell(video)
        else:  # it was never admitted
            await self.lines.drop(video.id)
        if video.reference:
            await self.archive.drop_reference(video.id)

    async def _leave(self, video: Video) -> None:
        """Last: as long as the pool has the video, the sweep repeats all this after a crash."""
        await self.pool.leave(video.model, video.id, ended=video.rendered_at is not None)

    async def finish(self, video_id: str, failure: Failure | None) -> Video | None:
        """Finish a video, which is completed if `failure` is None: settle the price, free the slot,
        and remove what was only needed until now. May be repeated. Raises StorageUnavailable.

        Returns the video where its manifest is to be written now, and `leave` called then: so long
        the sweep finds it, and a manifest that was not written is written again.
        """
        now = self.clock.now()
        if failure is None:
            days = self.knobs.retention_days
            expires_at = None if days is None else now + timedelta(days=days)
            outcome: dict[str, Any] = {"status": "completed", "progress": 100, "expires_at": expires_at, "error_message": None}
        else:
            told = {"error_message": failure["message"], "upstream_request_id": failure.get("request_id")}
            outcome = {"status": "failed", "error_code": failure["code"], **{name: text for name, text in told.items() if text}}
        video = await self.ledger.settle(video_id, finished_at=now, **outcome)
        if video is None:
            return None
        if video.deleted or (video.status == "failed" and video.rendered_at is not None):
            await self.archive.drop(video)  # another run may have been saving it
        # If it is completed and its caller has deleted it, its job is deleted upstream already.
        if video.deleted if video.status == "failed" else self._deletes_copy(video):
            await self.copies.drop(video)
        await self._note_end(video, now)
        await self._clear(video)
        if self.knobs.manifests and video.status == "completed" and not video.deleted:
            return video
        await self._leave(video)
        return None

    async def leave(self, video_id: str) -> None:
        """The end of a video whose manifest was written. One that its caller has deleted meanwhile
        loses it. May be repeated.
        """
        entry = await self.videos.find(video_id)
        if entry is None:
            return
        if entry.video.deleted:
            await self.archive.drop_manifest(entry.video)
        await self._leave(entry.video)

    async def _note_end(self, video: Video, now: datetime) -> None:
        """Log and measure the end if this run has ended the video. Also log it if an earlier run
        was cut off, since that one may not have logged it.
        """
        ended_here = video.finished_at == now
        if ended_here or await self.pool.is_unfinished(video.model, video.id):
            self.journal.note("ended", video)
        if ended_here and self.journal.telemetry.on:
            from shared.videos.measuring import measure

            measure(self.journal.telemetry, video)

    async def note_reason(self, video_id: str, failure: Failure) -> Failure:
        """Write a failure's message to the record of its unfinished video. Returns the failure
        without the message. May be repeated. Raises StorageUnavailable.
        """

        async def attempt() -> None:
            entry = await self.videos.find(video_id)
            if entry is not None and not entry.video.finished and entry.video.error_message != failure["message"]:
                await self.videos.change(entry, error_message=failure["message"])

        await retry_conflicts(attempt, self.clock, self.videos.random)
        return {**failure, "message": ""}

    async def delete(self, video_id: str, token: str | None = None) -> None:
        """Delete a video: its caller no longer sees it. May be repeated.

        A waiting video is cancelled and costs nothing. If the upstream may be making the video, its
        orchestration goes on until the job ends, and it is charged if the job completes. A finished
        video loses its bytes. Raises Unauthenticated if `token` is no longer the key's.
        """
        now = self.clock.now()
        video = await self.ledger.give_up(video_id, now, token)
        if video is None:
            return
        if video.finished and not video.deleted:
            # Hide it last: after that the caller gets 404, and could not repeat the delete to
            # remove the rest.
            await self.archive.drop(video)
            await self.copies.drop(video)
            await self.videos.hide(video_id)
            # An image may have been stored since the bytes were dropped. A call that stores one
            # from now on sees that the video is hidden, and drops the image.
            await self.archive.drop_images(video)
        elif video.finished and video.attempted_at is None:
            await self._note_end(video, now)
            await self._forget(video)
        elif not video.finished:
            await self._stop(video)
        logger.info("video %s deleted", video_id)

    async def _stop(self, video: Video) -> None:
        """Stop the job of a deleted video if the server can, so that its slot is free at once. If
        it cannot be stopped now, the video's orchestration follows it to its end.
        """
        upstream = self.upstreams.of(video)
        if upstream is None or video.upstream_id is None:
            return
        try:
            async with asyncio.timeout(_TO_STOP):
                stopped = await upstream.stop(video.upstream_id)
        except (UpstreamError, TimeoutError) as error:
            logger.warning("video %s: its job was not stopped: %s", video.id, type(error).__name__)
            return
        if stopped:
            await self.finish(video.id, failed("cancelled", CANCELLED_MESSAGE)["failed"])

    def _deletes_copy(self, video: Video) -> bool:
        """Whether the server's copy is deleted once the film is stored here."""
        deployment = self.upstreams.catalog.deployment(video.deployment)
        return deployment is not None and deployment.delete_after_saving


def _over_soft_budget(video: Video, crossed: Crossing) -> Alert:
    used, limit = dollars(crossed.used), dollars(crossed.limit)
    return Alert(
        kind="soft_budget_crossed",
        subject=video.owner,
        since=f"{crossed.window} {crossed.limit}",
        message=f"The key has spent and reserved ${used}, more than its soft budget of ${limit}.",
        key_id=video.owner,
        key_alias=video.key_alias,
    )


def _video_of(request: CreateRequest, owner: str, now: datetime, request_id: str | None, trace: TraceParent | None) -> Video:
    """The record of a requested video, not yet with its reference image."""
    source = request.source
    job = None if request.recreated else source
    return Video(
        id=new_id(owner, now),
        model=request.model.name,
        created_at=now,
        prompt=request.prompt,
        seconds=request.seconds,
        size=request.size,
        cost=request.price,
        user=request.user,
        metadata=request.metadata,
        request_id=request_id,
        traceparent=str(trace) if trace else None,
        callback_url=request.callback_url,
        remixed_from=source.id if source else None,
        source_upstream_id=job.upstream_id if job else None,
        source_deployment=job.deployment if job else None,
        parameters=_parameters(request),
    )


def _parameters(request: CreateRequest) -> str | None:
    """The parameters as JSON text. If the server takes a seed and the request has none, one is
    drawn, so that two videos of one prompt differ and each can be made again.
    """
    asked = dict(request.parameters)
    if "seed" in request.model.capability.parameters:
        asked.setdefault("seed", secrets.randbelow(_SEEDS))
    return json.dumps(asked) if asked else None
