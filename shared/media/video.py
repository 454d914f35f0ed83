"""A video: its id, its record, and the object that callers see."""

import re
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from shared.config.catalog import MICROS

MASTER_OWNER = "key_00000000"  # the partition of videos made with the master key
GATEWAY_OWNER = "gateway"  # the partition of the gateway-wide budget

Status = Literal["queued", "in_progress", "completed", "failed"]

_ID = re.compile(r"video_[0-9a-f]{32}")
_LATEST = 2**44 - 1  # milliseconds; eleven hex digits last until the year 2527


class RunningJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a video's record by which its job is followed. The engine keeps it between looks,
    so it is short and has no text that a caller wrote.
    """

    id: str  # the video's
    model: str
    created_at: datetime
    seconds: int
    status: Status = "queued"
    progress: int = 0
    progress_estimated: bool = False  # from the usual time, if the upstream tells no progress
    deployment: str | None = None
    upstream_id: str | None = None
    accepted_at: datetime | None = None  # when its job was known
    made_at: datetime | None = None  # when the job was made, if it was found only some time later
    started_at: datetime | None = None  # when the job was first seen to run
    lost_jobs: int = 0  # how often the upstream has lost the job
    hooked: bool = False  # whether webhooks are told of it, or once were


class Video(RunningJob, frozen=True, kw_only=True):
    """One video's record, a row of its key's partition.

    `cost` is the full price in micro-dollars: reserved while the video is unfinished, spent once it
    is completed, released when it failed. Spend and reservation are not stored: they follow from
    `status` and `cost`. `attempted_at` is written before the create is sent, `upstream_id` after
    its answer. So a record with the first and without the second has an unclear create.
    """

    prompt: str
    size: str
    cost: int
    user: str | None = None
    metadata: str | None = None
    tags: str | None = None  # the key's tags when it was admitted, as JSON text
    key_alias: str | None = None  # the key's, when it was admitted
    key_user: str | None = None  # the key's `user_id` when it was admitted, or who used the key by a token
    request_id: str | None = None  # the `x-request-id` of the response to its create
    traceparent: str | None = None  # the span of that request, if there is telemetry
    admitted_at: datetime | None = None
    reference: str | None = None  # media type of the stored reference image
    attempted_at: datetime | None = None
    upstream_request_id: str | None = None
    rendered_at: datetime | None = None  # when the upstream was first seen to have completed it
    saved_at: datetime | None = None  # when its bytes were stored
    gone_since: datetime | None = None  # since when the upstream says that it has no such job
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    bytes: int | None = None
    attempts: int = 0  # how often the upstream was asked
    lost_uploads: int = 0  # how often it lost the reference image
    lost_answers: int = 0  # how often its answer was lost and no job was found
    parameters: str | None = None  # those beside OpenAI's, as JSON text
    upstream: str | None = None  # what the upstream has told of the finished job, as JSON text
    charge: int | None = None  # the price of the finished job in micro-dollars, if it may be less than `cost`
    priority: int = 1  # the key's, when it was admitted
    fallback_from: str | None = None  # the model that was asked for, if another one makes it
    crossed: str | None = None  # the soft budget that its price made its key cross, as JSON text
    guardrails: str | None = None  # the verdicts of the guardrails on its request, as JSON text
    callback_url: str | None = None  # where its webhooks go beside the key's endpoints
    remixed_from: str | None = None
    source_upstream_id: str | None = None  # of a remix: the job it is made from, on `source_deployment`
    source_deployment: str | None = None
    deleted: bool = False
    error_code: str | None = None
    error_message: str | None = None

    @property
    def job(self) -> RunningJob:
        """The part of the record by which the job is followed."""
        return RunningJob(**{name: getattr(self, name) for name in RunningJob.__struct_fields__})

    @property
    def owner(self) -> str:
        return owner_of(self.id)

    @property
    def finished(self) -> bool:
        return self.status in ("completed", "failed")

    def expired(self, now: datetime) -> bool:
        """Whether its retention time is over."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def waits(self) -> bool:
        """Whether no upstream has been asked for it yet."""
        return self.status == "queued" and self.attempted_at is None

    @property
    def recreated(self) -> bool:
        """Whether it is a remix that was made anew, and not from the job of its source."""
        return self.remixed_from is not None and self.source_upstream_id is None

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters beside OpenAI's that its job is made with."""
        return msgspec.json.decode(self.parameters) if self.parameters else {}

    @property
    def told(self) -> dict[str, Any] | None:
        """What the upstream told of the finished job, and the seed that makes it again; None if
        there is nothing.
        """
        told = msgspec.json.decode(self.upstream) if self.upstream else {}
        if "seed" in (asked := self.asked):
            told["seed"] = asked["seed"]
        return told or None

    @property
    def reserved(self) -> int:
        """Micro-dollars held for it now."""
        return 0 if self.finished else self.cost

    @property
    def spent(self) -> int:
        """Micro-dollars it has cost."""
        return self.cost if self.status == "completed" else 0

    def to_row(self) -> dict[str, Any]:
        """The columns of the video's row; its key is the id. One that has its default is left out,
        but for the status, by which storage picks rows: no default may change.
        """
        row: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(datetime,))
        del row["id"]
        return {**row, "status": self.status}

    @property
    def _reason(self) -> dict[str, Any] | None:
        """Why it failed, as callers see it."""
        if self.status != "failed":
            return None
        return {"code": self.error_code, "message": self.error_message, "upstream_request_id": self.upstream_request_id}

    def wire(self, queue: dict[str, int] | None = None) -> dict[str, Any]:
        """The OpenAI video object: all of OpenAI's keys, and then ours, from `queue` on. `queue` is
        its place among the waiting videos. Times are unix seconds.
        """
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": self.status,
            "progress": self.progress,
            "created_at": unix(self.created_at),
            "completed_at": unix(self.finished_at) if self.status == "completed" else None,
            "expires_at": unix(self.expires_at),
            "prompt": self.prompt,
            "size": self.size,
            "seconds": str(self.seconds),
            "remixed_from_video_id": self.remixed_from,
            "error": self._reason,
            "queue": queue,
            "progress_estimated": self.progress_estimated and not self.finished,
            "parameters": self.asked or None,
            "upstream": self.told,
            "fallback_from": self.fallback_from,
            "guardrails": msgspec.json.decode(self.guardrails) if self.guardrails else None,
            "remix": "recreated" if self.recreated else None,
            "usage": {"duration_seconds": float(self.seconds)},
            "user": self.user,
            "metadata": msgspec.json.decode(self.metadata) if self.metadata else None,
            "request_id": self.request_id,
        }


class VideoFilter(msgspec.Struct, frozen=True):
    """Matches videos with this status, model, user and metadata. None means any."""

    status: Status | None = None
    model: str | None = None
    user: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def stored(self) -> dict[str, str]:
        """The part that a query of storage can match: values of a video's row."""
        named = {"status": self.status, "model": self.model, "user": self.user}
        return {name: value for name, value in named.items() if value is not None}

    def takes(self, video: Video) -> bool:
        """Whether a video matches."""
        fits = all(getattr(video, name) == value for name, value in self.stored.items())
        return fits and (not self.metadata or set(self.metadata) <= msgspec.json.decode(video.metadata or "{}").items())


EVERY_VIDEO = VideoFilter()


def new_id(owner: str, now: datetime) -> str:
    """A new id, which sorts newest first and contains its partition: reversed milliseconds, the
    owner's eight digits, 52 random bits, all in hex.
    """
    reversed_time = _LATEST - int(now.timestamp() * 1000)
    return f"video_{reversed_time:011x}{owner.removeprefix('key_')}{secrets.randbits(52):013x}"


def reversed_id(video_id: str) -> str:
    """The id without its prefix and with its time reversed, so that it sorts oldest first. Applied
    to its own result, it returns the id's digits.
    """
    bare = video_id.removeprefix("video_")
    return f"{_LATEST - int(bare[:11], 16):011x}{bare[11:]}"


def id_bound(moment: datetime) -> str:
    """A bound between ids: those made at `moment` or later sort before it, earlier ones after."""
    return f"video_{_LATEST - int(moment.timestamp() * 1000):011x}g"


def created_at(video_id: str) -> datetime:
    """The time in an id."""
    return datetime.fromtimestamp((_LATEST - int(video_id[6:17], 16)) / 1000, UTC)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def owner_of(video_id: str) -> str:
    """The id of the key that made the video, which is its partition: the eight digits after the
    time.
    """
    return f"key_{video_id[17:25]}"


def dollars(micros: int) -> str:
    """Micro-dollars as a plain decimal number of dollars: 400000 → "0.4"."""
    whole, rest = divmod(abs(micros), MICROS)
    text = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if micros < 0 else text


def unix(moment: datetime | None) -> int | None:
    """Whole seconds, as OpenAI's objects tell times."""
    return None if moment is None else int(moment.timestamp())
