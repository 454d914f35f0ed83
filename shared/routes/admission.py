"""Admits a request for a video, from HTTP or from a queue, and starts its orchestration."""

import logging

import msgspec

from shared.accounts.account import callback_hosts, over_soft_budget
from shared.accounts.account_changes import Admitted
from shared.accounts.idempotency import RequestIdentity
from shared.accounts.keys import Caller
from shared.config.guardrails import check_asked
from shared.gateway import Gateway
from shared.media.requests import CreateRequest
from shared.media.video import Video
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")


class Asked(msgspec.Struct, frozen=True):
    """A valid request and who makes it. `request_id` is for the log."""

    caller: Caller
    request: CreateRequest
    identity: RequestIdentity | None
    request_id: str


async def admit(gateway: Gateway, orchestrations: Orchestrations | None, asked: Asked) -> Admitted:
    """Reserve the price, record the video and start its orchestration; a request that was admitted
    before gets its earlier video. Raises the error that refuses it.
    """
    caller, request = asked.caller, asked.request
    check_asked(request.guardrails, gateway.settings.guardrails)
    if request.callback_url is not None:
        gateway.webhooks.addresses.check(request.callback_url, callback_hosts(caller.account), "callback_url")
    admitted = await gateway.lifecycle.start(request, caller.owner, asked.identity, caller.account, asked.request_id)
    if not admitted.replayed and over_soft_budget(admitted.account):
        logger.warning("key %s has passed its soft budget", caller.owner)
    if not admitted.video.finished:
        await _start_orchestration(orchestrations, admitted.video, asked.request_id, maybe_started=admitted.replayed)
    return admitted


async def _start_orchestration(
    orchestrations: Orchestrations | None, video: Video, request_id: str, *, maybe_started: bool
) -> None:
    """Start the video's orchestration. A failure is only logged, and the caller is answered: the
    video is on record, and the sweep starts what has no orchestration.
    """
    try:
        if orchestrations is None or (maybe_started and await orchestrations.alive(video.id)):
            return
        await orchestrations.start(video.id)
    except Exception:
        logger.exception("%s: the orchestration of %s did not start", request_id, video.id)
