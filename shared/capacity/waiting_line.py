"""The queue: the order in which videos wait.

A row `wait_<tag>_<id>` of the model's partition is one place; rows sort by tag. A remix can only
run on its source's deployment: its row names that deployment as `bound`.
"""

from bisect import bisect_left
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from shared.clock import Clock
from shared.media.video import Video
from shared.storage.tables import Insert, Row, Table, partition_of

_FIRST, _AFTER = "wait_", "wait`"
_NEAR = 100  # places from the head that are counted anew by everybody
_PASSED_OVER = 20  # places at the head that may be bound to other deployments
_FRESH = 60.0  # seconds
_TURNED_ROUND = str.maketrans("0123456789abcdef", "fedcba9876543210")


@dataclass(frozen=True)
class Before:
    """How many videos stand before a place, and how many of those (the rivals) could use a slot
    that is free now.
    """

    all: int
    rivals: int


@dataclass(frozen=True)
class Head:
    """The first places of a queue, at most one page; the whole queue where it is shorter than a
    page.
    """

    rows: Sequence[Row] = ()

    @property
    def _is_all(self) -> bool:
        return len(self.rows) < _NEAR

    def place(self, video_id: str) -> Row | None:
        """A video's place, if it is among these."""
        return next((row for row in self.rows if _video_of(row.key) == video_id), None)

    def covers(self, place: str) -> bool:
        """Whether every place before this one is among these."""
        return self._is_all or place <= self.rows[-1].key

    def may_lack(self, video_id: str) -> bool:
        """Whether a video may have a place that lies behind these."""
        return not self._is_all and self.place(video_id) is None

    def before(self, place: str, free: Set[str]) -> Before:
        """How many of these stand before a place. `free` names the deployments that have a free
        slot.
        """
        ahead = [row for row in self.rows if row.key < place]
        return Before(len(ahead), sum(row.values.get("bound") in (None, *free) for row in ahead))


@dataclass
class Queue:
    """The queues of all models, as one instance sees them."""

    table: Table
    clock: Clock
    _read: dict[str, tuple[float, list[str]]] = field(default_factory=dict, init=False)

    async def place(self, model_name: str, tag: int | None, video_id: str) -> Row | None:
        """A video's place, if it has one."""
        return None if tag is None else await self.table.get(partition_of(model_name), _key(tag, video_id))

    async def head(self, model_name: str) -> Head:
        """The first places."""
        rows: list[Row] = []
        pages = self.table.scan(partition_of(model_name), after=_FIRST, before=_AFTER, page=_NEAR, select=["bound"])
        async for row in pages:
            rows.append(row)
            if len(rows) == _NEAR:
                break
        return Head(rows)

    async def before(self, model_name: str, head: Head, place: str, free: Set[str]) -> Before:
        """How many stand before a place. `free` names the deployments that have a free slot. Exact
        within the first 100 places, up to a minute old further back.
        """
        near = head.before(place, free)
        if head.covers(place):
            return near
        everybody = max(near.all, await self._far_back(model_name, place))
        return Before(everybody, near.rivals + everybody - near.all)

    async def first(self, model_name: str, most: int, free: Set[str]) -> list[str]:
        """The first videos in order, at most `most`, that could use a slot on one of the
        deployments `free`.
        """
        found: list[str] = []
        page = most + _PASSED_OVER
        rows = self.table.scan(partition_of(model_name), after=_FIRST, before=_AFTER, page=page, select=["bound"])
        async for row in rows:
            if row.values.get("bound") in (None, *free):
                found.append(_video_of(row.key))
            page -= 1
            if len(found) == most or page == 0:
                break
        return found

    async def _far_back(self, model_name: str, place: str) -> int:
        """How many stand before a place, up to a minute old: counting far back reads nearly the
        whole queue, so the count is shared.
        """
        now = self.clock.now().timestamp()
        read_at, known = self._read.get(model_name, (0.0, []))
        index = bisect_left(known, place)
        if known[index : index + 1] != [place] or now - read_at > _FRESH:
            known = [row.key async for row in self.table.scan(partition_of(model_name), after=_FIRST, before=_AFTER, select=[])]
            self._read[model_name] = (now, known)
            index = bisect_left(known, place)
        return index


def new_place(tag: int, video: Video) -> Insert:
    """The row of a video's place."""
    return Insert(_key(tag, video.id), {"bound": video.source_deployment} if video.source_deployment else {})


def tag_of(place: Row) -> int:
    return int(place.key[len(_FIRST) :].partition("_")[0])


def _key(tag: int, video_id: str) -> str:
    """The key of a place: by tag, then the oldest video first. Ids sort newest first, so their
    digits are complemented.
    """
    return f"{_FIRST}{tag:015d}_{video_id.removeprefix('video_').translate(_TURNED_ROUND)}"


def _video_of(key: str) -> str:
    return f"video_{key[len(_FIRST) :].partition('_')[2].translate(_TURNED_ROUND)}"
