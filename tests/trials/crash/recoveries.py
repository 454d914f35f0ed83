"""How soon a video moves again after each of three disasters, with Azure's time-outs: messages of a
dead instance stay hidden for a minute, and only the watch looks, every 20 seconds.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.trials.crash.app import Order
from tests.trials.crash.check import check
from tests.trials.crash.client import until
from tests.trials.crash.lab import App, Lab
from tests.trials.crash.stage import Stage, stage
from tests.trials.crash.terms import Terms

PROMISED = 90.0  # seconds
# Slower than the matrix: what a machine takes in life counts for ten times as much here.
_TERMS = Terms(hurry=10.0)
_LONG = {"seconds": "12"}

Disaster = Callable[["_Scene"], Awaitable[int]]
"""What it struck: one at least, or there is nothing to recover from."""


@dataclass
class _Scene:
    lab: Lab
    stage: Stage
    app: App | None = None

    async def start(self) -> None:
        """An app, where none lives."""
        order = Order(
            str(self.stage.folder),
            self.stage.settings,
            death=None,
            began=self.stage.clock.began,
            later=0.0,
            hurry=self.stage.terms.hurry,
            as_in_azure=True,
        )
        self.app = self.stage.where.app = await self.lab.launcher.start(order)
        self.stage.where.up.set()

    async def kill(self) -> None:
        assert self.app is not None
        self.stage.where.up.clear()
        self.app.kill()
        await self.app.ended


async def _killed(scene: _Scene) -> int:
    """kill -9 while a look at the job is under way, and a new instance at once."""
    await scene.kill()
    await scene.start()
    return 1


async def _host_restarted(scene: _Scene) -> int:
    """The job host starts again inside its process, and holds messages that nobody works on."""
    return scene.stage.lose_messages()


async def _worker_died(scene: _Scene) -> int:
    """All that the Python worker had in hand has failed at once."""
    return scene.stage.fail_orchestrations()


DISASTERS: dict[str, Disaster] = {
    "kill -9": _killed,
    "restart of the job host inside its process": _host_restarted,
    "death of the Python worker": _worker_died,
}


async def recovery(lab: Lab, disaster: Disaster) -> tuple[float, list[str]]:
    """Seconds from a disaster until the video's job is looked at again; and what is wrong in the
    end.
    """
    async with stage(lab, _TERMS, patient=True) as set_up:
        scene = _Scene(lab, set_up)
        await scene.start()
        video_id = await set_up.client.create(**_LONG)
        set_up.fault(kind="delay", operation="get", seconds=3)
        await set_up.asked("get", 2)  # the first answer is late, so that a step is under way
        before = set_up.clock.now().timestamp()
        if not await disaster(scene):
            set_up.result.wrong.append("the disaster struck nothing")
        moved: float | None = None

        async def moves() -> bool:
            """A video whose film was fetched by then is not looked at again: it never stood."""
            nonlocal moved
            looks = [each for each in set_up.sora.requests if each.operation in ("get", "content")]
            later = (each.time for each in looks if each.time > before + 1.0)
            moved = next(later, before if looks[-1].operation == "content" else None)
            return moved is not None

        try:
            await until(moves)
            await set_up.client.reaches(video_id, "completed")
        finally:
            await scene.kill()
        await check(set_up, ())
        return (moved or before) - before, set_up.result.wrong
