"""The queue: the order in which videos wait.

A row `wait_<tag>_<id>` of the model's partition is one place; rows sort by tag. A remix can only
run on its source's deployment: its row names that deployment as `bound`.

A free slot is offered to the first place. If many deployments free slots at the same moment, all
but one of their offers to that place would conflict. So an offer goes to a random one of the first
1 + deployments / 32 places, but to none whose tag is more than so many steps behind the first. With
fewer than 32 deployments the order is strict.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Sequence, Set
from random import Random

import msgspec

from shared.capacity.equality import shown
from shared.capacity.slots import STEP
from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.storage.tables import Insert, Row, Table, partition_of

_FIRST, _AFTER = "wait_", "wait`"
NEAR = 100  # places from the head that are read at every look
_IN_ORDER = 32  # deployments for each place beyond the first that an offer may go to
_FRESH = 3600.0  # seconds: a place far back decides only how long its video sleeps if nobody wakes it
_TURNED_ROUND = str.maketrans("0123456789abcdef", "fedcba9876543210")


Skip = Callable[[Row], bool]  # whether a place is passed over


def nobody(_: Row) -> bool:
    """Skips no place."""
    return False


class Before(msgspec.Struct, frozen=True):
    """How many videos stand before a place, and how many of those (the rivals) could use a slot
    that is free now.
    """

    all: int
    rivals: int


class Head(msgspec.Struct, frozen=True):
    """The first places of a queue, at most `page`; if it is shorter, the whole queue."""

    rows: Sequence[Row] = ()
    page: int = NEAR

    @property
    def _is_all(self) -> bool:
        return len(self.rows) < self.page

    def place(self, video_id: str) -> Row | None:
        """A video's place, if it is among these."""
        return next((row for row in self.rows if video_of(row) == video_id), None)

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

    def takers(self, deployment: Deployment, asked_for: Collection[str]) -> Sequence[Row]:
        """The places that can use a slot of this deployment, in order, and of equal creates only
        the first. `asked_for` is what is `shown` of those that none may be equal to.
        """
        bound, seen = (None, deployment.name), set(asked_for)
        takers = []
        for row in self.rows:
            if row.values.get("bound") in bound and (ask := shown_of(deployment, row)) not in seen:
                seen.add(ask)
                takers.append(row)
        return takers

    @property
    def videos(self) -> Sequence[str]:
        """The videos of these places, in order."""
        return [video_of(row) for row in self.rows]

    def bound_to(self, deployments: Collection[str]) -> Sequence[str]:
        """Those of the videos that can only use one of these deployments."""
        return [video_of(row) for row in self.rows if row.values.get("bound") in deployments]

    def without(self, skip: Skip) -> "Head":
        """The places that are not to be skipped."""
        return Head([row for row in self.rows if not skip(row)], self.page)


def spread(deployments: int) -> int:
    """How many of the first places an offer may go to."""
    return 1 + deployments // _IN_ORDER


def next_of(takers: Sequence[Row], most: int, deployments: int, random: Random) -> Sequence[Row]:
    """The places that the next `most` slots of a model with so many deployments are offered to."""
    few = spread(deployments)
    near = [each for each in takers[: most and most - 1 + few] if tag_of(each) <= tag_of(takers[0]) + few * STEP]
    return near if len(near) <= most else sorted(random.sample(near, most), key=lambda each: each.key)


class Queue(msgspec.Struct):
    """The queues of all models, as one instance sees them."""

    table: Table
    clock: Clock
    _read: dict[str, tuple[float, list[str]]] = msgspec.field(default_factory=dict)

    async def place(self, model_name: str, tag: int | None, video_id: str) -> Row | None:
        """A video's place, if it has one."""
        return None if tag is None else await self.table.get(partition_of(model_name), _key(tag, video_id))

    async def head(self, model_name: str, page: int = NEAR) -> Head:
        """The first places. One read."""
        partition = partition_of(model_name)
        return Head(await self.table.first(partition, page, after=_FIRST, before=_AFTER, select=["bound", "ask"]), page)

    def places(self, model_name: str, page: int | None = None, select: Sequence[str] = ()) -> AsyncIterator[Row]:
        """All places in order, read `page` at a time."""
        return self.table.scan(partition_of(model_name), after=_FIRST, before=_AFTER, page=page, select=select)

    async def before(self, model_name: str, head: Head, place: str, free: Set[str]) -> Before:
        """How many stand before a place. `free` names the deployments that have a free slot. Exact
        within the first 100 places, up to an hour old further back.
        """
        near = head.before(place, free)
        if head.covers(place):
            return near
        everybody = max(near.all, await self._far_back(model_name, place))
        return Before(everybody, near.rivals + everybody - near.all)

    async def _far_back(self, model_name: str, place: str) -> int:
        """How many stand before a place: counting far back reads nearly the whole queue, so all
        who are far back share the count.
        """
        now = self.clock.now().timestamp()
        read_at, known = self._read.get(model_name, (0.0, []))
        if now - read_at > _FRESH:
            known = [row.key async for row in self.places(model_name)]
            self._read[model_name] = (now, known)
        return bisect_left(known, place)


def new_place(tag: int, video_id: str, ask: str, bound: str | None) -> Insert:
    """The row of a video's place."""
    return Insert(_key(tag, video_id), {"bound": bound, "ask": ask})


def video_of(place: Row) -> str:
    """The id of the video that has a place."""
    return f"video_{place.key[len(_FIRST) :].partition('_')[2].translate(_TURNED_ROUND)}"


def shown_of(deployment: Deployment, place: Row) -> str:
    """What the deployment's list of jobs would show of the create of the video that has a place."""
    return shown(deployment, video_of(place), place.values.get("ask", place.key))


def tag_of(place: Row) -> int:
    """The tag of a place."""
    return int(place.key[len(_FIRST) :].partition("_")[0])


def _key(tag: int, video_id: str) -> str:
    """The key of a place: by tag, then the oldest video first. Ids sort newest first, so their
    digits are complemented.
    """
    return f"{_FIRST}{tag:015d}_{video_id.removeprefix('video_').translate(_TURNED_ROUND)}"
