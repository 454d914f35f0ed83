"""Starts the videos that messages of a queue ask for, as `POST /v1/videos` does.

A message is the create's JSON with `key_id`, the key that pays. A program that may write to the
queue may use every key. It names a key and does not send the secret, which any reader of the queue
could see.
"""

import asyncio
import hashlib
import json
import logging
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.accounts.idempotency import read_identity
from shared.errors import GatewayError, GuardrailUnavailable, InvalidRequest, NotFound, RequestError
from shared.events.record import rejected
from shared.gateway import Gateway
from shared.media.requests import parse_create
from shared.routes.admission import Asked, admit
from shared.routes.calls import pieces
from shared.routes.json_bodies import read_json
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

# What is refused for now (429) is tried again for a day: a budget's window may begin anew by then.
_LONGEST = timedelta(hours=24)
_USUAL_PAUSE, _SHORTEST_PAUSE, _LONGEST_PAUSE = 300, 10, 3600  # seconds
_LONGEST_ID = 200  # characters
# Of a blob in the container for inputs. `..` would be resolved on the way, and lead out of it.
_BLOB_NAME = re.compile(r"(?!.*(?:^|/)\.{0,2}(?:/|$))[^\x00-\x1f\x7f\\]{1,1024}")


class Message(msgspec.Struct, frozen=True):
    """What a message asks for. By its `id` it starts only one video, however often it is delivered;
    `since` is when it was first put into the queue.
    """

    id: str
    key_id: str
    since: datetime
    fields: Mapping[str, Any]


async def take(gateway: Gateway, orchestrations: Orchestrations, delivery_id: str, body: bytes) -> None:
    """Start a video. If the message is refused for now, put it back for a while; if for good, into
    the poison queue. Other errors are raised: then the host delivers the message again.
    """
    text, now, message = _plain(body), gateway.clock.now(), None
    try:
        message = _message(delivery_id, await read_json(pieces(text)), now)
        await _start(gateway, orchestrations, message)
    except (RequestError, GuardrailUnavailable) as refusal:
        if message is not None and _may_pass(refusal) and now - message.since < _LONGEST:
            await _put_back(gateway, message, text, refusal)
        else:
            await _reject(gateway, delivery_id, message, text, refusal)


def _plain(body: bytes) -> bytes:
    """The text of a message, which senders may have encoded in base64, as Functions does."""
    if body.lstrip().startswith(b"{"):
        return body
    try:
        return b64decode(body, validate=True)
    except ValueError:
        return body


def _message(delivery_id: str, fields: Mapping[str, Any], now: datetime) -> Message:
    """Raises InvalidRequest."""
    told = {name: fields.get(name) for name in ("id", "key_id", "since")}
    if not isinstance(told["key_id"], str):
        raise InvalidRequest("`key_id` must be the id of the key that pays (`key_…`).", param="key_id")
    name = told["id"] if told["id"] is not None else delivery_id
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID:
        raise InvalidRequest(f"`id` must be a text of 1 to {_LONGEST_ID} characters.", param="id")
    since = told["since"]
    if since is not None and (isinstance(since, bool) or not isinstance(since, int) or not 0 < since <= now.timestamp() + 60):
        raise InvalidRequest("`since` is set by the gateway, in unix seconds: leave it out.", param="since")
    asked = {name: value for name, value in fields.items() if name not in told}
    return Message(name, told["key_id"], datetime.fromtimestamp(since, UTC) if since else now, asked)


async def _start(gateway: Gateway, orchestrations: Orchestrations, message: Message) -> None:
    caller = await gateway.keys.named(message.key_id)
    fields = await _with_reference(gateway, message.fields)
    request = await asyncio.to_thread(parse_create, fields, gateway.settings.catalog)
    once = {"idempotency-key": f"message:{message.id}"}
    identity = await asyncio.to_thread(read_identity, once, request, gateway.clock.now())
    admitted = await admit(gateway, orchestrations, Asked(caller, request, identity, _request_id(message.id)))
    logger.info("message %s: video %s%s", message.id, admitted.video.id, " again" if admitted.replayed else "")


async def _with_reference(gateway: Gateway, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields with the bytes of a blob that `input_reference` names. Raises InvalidRequest,
    NotFound or TooLarge.
    """
    named = fields.get("input_reference")
    if not isinstance(named, dict) or "blob" not in named:
        return fields
    name = named["blob"]
    if not isinstance(name, str) or len(named) > 1 or not _BLOB_NAME.fullmatch(name):
        raise InvalidRequest("`input_reference.blob` must be the name of a blob in the container.", param="input_reference")
    image = await gateway.archive.input(name)
    if image is None:
        raise NotFound("The container has no such blob.", code="blob_not_found", param="input_reference")
    return {**fields, "input_reference": image}


def _may_pass(refusal: GatewayError) -> bool:
    return refusal.status in (429, 503)


async def _put_back(gateway: Gateway, message: Message, text: bytes, refusal: GatewayError) -> None:
    """A crash after this leaves the message twice. Both have one id, so they start one video."""
    pause = round(min(max(refusal.retry_after or _USUAL_PAUSE, _SHORTEST_PAUSE), _LONGEST_PAUSE))
    again = {**json.loads(text), "id": message.id, "since": int(message.since.timestamp())}
    await gateway.queues.put(gateway.settings.requests_queue, json.dumps(again).encode(), pause)
    logger.info("message %s: %s; tried again in %d s", message.id, refusal.code, pause)


async def _reject(gateway: Gateway, delivery_id: str, message: Message | None, text: bytes, refusal: GatewayError) -> None:
    """Tell why, then keep the message in the poison queue. May be repeated."""
    name, key_id = (message.id, message.key_id) if message else (delivery_id, "")
    await gateway.journal.tell_rejected(rejected(_request_id(name), key_id, refusal, gateway.clock.now()))
    await gateway.queues.put(f"{gateway.settings.requests_queue}-poison", text)
    logger.warning("message %s: %s: %s", name, refusal.code, refusal.message)


def _request_id(message_id: str) -> str:
    """For the log and for events: without what a row's key may not hold."""
    return f"msg_{hashlib.sha256(message_id.encode()).hexdigest()[:24]}"
