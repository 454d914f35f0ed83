"""An upstream's jobs: a single one, or the list of a resource, read page by page."""

import logging
from datetime import datetime
from typing import Annotated, Any

import msgspec

from shared.http_dates import seconds_until
from shared.upstream.masking import Mask

logger = logging.getLogger("gateway")

PAGE = 100  # jobs in a page, the most that the dialect allows
_MOST_JOBS = 10_000  # in all pages together; a longer list is not read to its end
_LONGEST_LENGTH = 6  # digits of a length in seconds
_UNSUCCESSFUL = ("failed", "cancelled", "expired", "deleted")
_LATEST = 2.0**33  # unix seconds, in the year 2242; a larger number is in another unit


class JobError(msgspec.Struct, frozen=True):
    """Why a job failed. A `code` that is a number is an HTTP status, which does not help a caller:
    it becomes None.
    """

    code: str | None = None
    message: str | None = None

    @classmethod
    def read(cls, told: object) -> "JobError":
        """The error of a job, in any form that servers use."""
        if not isinstance(told, dict):
            return cls(message=told if isinstance(told, str) else None)
        code, message = told.get("code"), told.get("message")
        named = isinstance(code, str) and not code.isdigit()
        return cls(code if named else None, message if isinstance(message, str) else None)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the upstream answers it. Only `id` is certain: some servers answer a create with
    little else.

    Times are unix seconds; a time out of range becomes None. `progress` is percent, limited to 0 to
    100. `model` is the deployment's name or the model's own. `error` may be anything: see `reason`.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    status: str = "queued"
    progress: float | None = None
    created_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    model: str | None = None
    prompt: str | None = None
    seconds: str | float | None = None
    size: str | None = None
    error: Any = None
    url: Any = None
    video: Any = None
    inference_time_s: Any = None
    duration_s: Any = None
    fps: Any = None
    num_frames: Any = None
    remixed_from_video_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("created_at", "completed_at", "expires_at"):
            if not 0 <= (getattr(self, name) or 0) < _LATEST:
                msgspec.structs.force_setattr(self, name, None)
        msgspec.structs.force_setattr(self, "progress", min(max(self.progress or 0.0, 0.0), 100.0))

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def failed(self) -> bool:
        """Whether it has ended without a film. An unknown status counts as running."""
        return self.status in _UNSUCCESSFUL

    @property
    def ended(self) -> bool:
        return self.completed or self.failed

    @property
    def reason(self) -> JobError:
        """Why the job failed, as far as the server says."""
        return self.error if isinstance(self.error, JobError) else JobError.read(self.error)

    @property
    def length(self) -> str | None:
        """The length in seconds, as text; None if the server does not say."""
        return f"{self.seconds:g}" if isinstance(self.seconds, int | float) else self.seconds

    @property
    def address(self) -> str | None:
        """The address of its bytes, if it names one: `url`, or `video.url`."""
        named = self.url or (self.video.get("url") if isinstance(self.video, dict) else None)
        return named if isinstance(named, str) else None

    @property
    def told(self) -> dict[str, float]:
        """The numbers that it tells of how it was made: seconds of computing, seconds of video,
        frames per second, and frames.
        """
        named = {name: getattr(self, name) for name in ("inference_time_s", "duration_s", "fps", "num_frames")}
        return {name: value for name, value in named.items() if isinstance(value, int | float) and 0 <= value < _LATEST}

    @property
    def made_seconds(self) -> float | None:
        """The length of the finished video in seconds, if the server says."""
        named = self.length or ""
        readable = named.isascii() and named.isdigit() and len(named) <= _LONGEST_LENGTH
        return self.told.get("duration_s") or (float(named) if readable else None) or None

    def masked(self, mask: Mask) -> "Job":
        """The same job, with a masked reason that callers may see."""
        code, message = self.reason.code, self.reason.message
        return msgspec.structs.replace(self, error=JobError(code and mask(code), message and mask(message)))


class Page(msgspec.Struct, frozen=True):
    """One page of the list. Servers without paging leave out `has_more`."""

    data: list[msgspec.Raw]
    has_more: bool | None = None


class Listing(msgspec.Struct):
    """The newest jobs of a resource, read page by page until they are older than `since`.

    `unreadable` holds one item for each listed entry that is not a job: its `created_at`, or None.
    `complete` is True if no job made since then can be missing. `ahead` is how many seconds the
    upstream's clock is ahead of ours, or None if its answers have no `Date`.
    """

    since: datetime
    jobs: list[Job] = msgspec.field(default_factory=list)
    unreadable: list[float | None] = msgspec.field(default_factory=list)
    complete: bool = False
    ahead: float | None = None
    _seen: set[str] = msgspec.field(default_factory=set)
    _last: float | None = None  # when the last job was made
    _in_order: bool = True  # every job so far has a time, and none is newer than the one before

    def add(self, page: Page, dated: str | None, now: datetime) -> str | None:
        """Add a page. `dated` is the `Date` header of its answer. Returns the id after which the
        next page begins, or None if no further page is needed.
        """
        self.ahead = seconds_until(dated, now) if self.ahead is None else self.ahead
        if len(self.jobs) + len(page.data) > _MOST_JOBS:
            return None
        last: str | None = None
        for raw in page.data:
            last = self._take(raw) or last
        if self._reaches_back() or self._is_the_last(page):
            self.complete = True
            return None
        return last  # None too if the server repeats a page

    def _take(self, raw: msgspec.Raw) -> str | None:
        """Add an entry. Returns its id if it is a job that was not listed before."""
        try:
            job = msgspec.json.decode(raw, type=Job, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("the upstream lists a job that cannot be read")  # the others still can
            self.unreadable.append(_time_of(raw))
            return None
        if job.id in self._seen:
            return None
        self._seen.add(job.id)
        self.jobs.append(job)
        told = job.created_at
        self._in_order = self._in_order and told is not None and (self._last is None or told <= self._last)
        self._last = told
        return job.id

    def _reaches_back(self) -> bool:
        """Whether all further pages are older than `since`, by the upstream's clock and by ours."""
        if not self._in_order or self._last is None:
            return False
        return self._last < self.since.timestamp() + min(self.ahead or 0.0, 0.0)

    def _is_the_last(self, page: Page) -> bool:
        return page.has_more is False or (page.has_more is None and len(page.data) < PAGE)


def _time_of(raw: msgspec.Raw) -> float | None:
    """The `created_at` of an entry that is not a job, if it has a usable one."""
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    made_at = told.get("created_at") if isinstance(told, dict) else None
    return made_at if isinstance(made_at, int | float) and 0 <= made_at < _LATEST else None
