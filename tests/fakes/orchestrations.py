"""Orchestrations that a test kills, stops and finds, in place of the engine's."""

from collections.abc import Sequence
from datetime import datetime

from shared.upkeep.engine import Status


class Engine:
    """Orchestrations of which `living` are alive, and due to act at `due`, where that is known.

    `started`, `terminated` and `purged` are those that were asked to be, `asked` those whose status
    was asked for, `watched` how often the watches were to be started. What has failed or is over is
    what the test says.
    """

    def __init__(self, *living: str) -> None:
        self.living = set(living)
        self.due: dict[str, datetime] = {}
        self.having_failed: set[str] = set()
        self.failed_at: dict[str, datetime] = {}
        self.restarts: dict[str, int] = {}
        self.finished: list[str] = []
        self.started: list[str] = []
        self.terminated: list[str] = []
        self.purged: list[str] = []
        self.asked: list[str] = []
        self.watched = 0

    async def start(self, video_id: str, restarts: int = 0) -> None:
        self.started.append(video_id)
        self.restarts[video_id] = restarts
        self.living.add(video_id)
        self.due.pop(video_id, None)
        self.having_failed.discard(video_id)

    async def keep_watch(self) -> None:
        self.watched += 1

    async def alive(self, video_id: str) -> bool:
        return video_id in self.living

    async def status(self, video_id: str) -> Status | None:
        self.asked.append(video_id)
        if video_id in self.living:
            return Status(True, self.due.get(video_id))
        if video_id in self.failed_at:
            return Status(False, None, self.restarts.get(video_id, 0), self.failed_at[video_id])
        return None

    async def terminate(self, video_id: str) -> None:
        self.terminated.append(video_id)
        self.living.discard(video_id)

    async def failed(self) -> Sequence[str]:
        return sorted(self.having_failed)

    async def over(self, started_before: datetime) -> Sequence[str]:
        return self.finished[:100]

    async def purge(self, video_id: str) -> None:
        self.purged.append(video_id)
        self.finished.remove(video_id)
