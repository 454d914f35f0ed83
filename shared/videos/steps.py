"""The steps as the engine runs them: whatever a step raises, the video continues or fails.

The engine runs a step that raises again, and the sweep restarts an orchestration that fails. That
helps while storage does not answer, and in no other case, so a step raises only StorageUnavailable.

The engine keeps what a step returns and raises, and an upstream's message may quote a prompt. So
the message of a failure goes to the video's record before the step returns, and an error is raised
without its cause.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from traceback import format_tb
from typing import Any

import msgspec

from shared.clock import Clock
from shared.errors import StorageUnavailable
from shared.events.manifest import manifest_of
from shared.storage.tables import WriteConflict
from shared.telemetry.telemetry import POLL_LAG, Span
from shared.videos.heartbeats import Heartbeats
from shared.videos.lifecycle import Lifecycle
from shared.videos.orchestration import CHECK, FINISH, LEAVE, SUBMIT
from shared.videos.rendering import Rendering
from shared.videos.step_result import Seen, StepResult, again, failed
from shared.videos.submission import Submission
from shared.videos.tracing import Tracing, tell

logger = logging.getLogger("gateway")

_TRIES = 3  # of a step that raises an unexpected error
_PAUSE = 5.0  # seconds between them
_OVERTAKEN = 5.0  # seconds until a step runs again whose video another run has changed
_MOST_EARLY = 1.0  # seconds that a timer may fire early; more than that is a wrong clock
_SHORTEST_TIMER = 1.0  # seconds: the engine's timers come up to a second early
_MOST_REPEATS = timedelta(seconds=1)  # during which `_repeat` runs a step again itself

Step = Callable[..., Awaitable[StepResult]]  # of a video's id, and of what its last run has seen


class Steps(msgspec.Struct, frozen=True):
    """What the activities call. Raises only StorageUnavailable."""

    submission: Submission
    rendering: Rendering
    lifecycle: Lifecycle
    heartbeats: Heartbeats
    clock: Clock
    tracing: Tracing

    async def submit(self, video_id: str, due: datetime | None = None) -> StepResult:
        """Try to get the video accepted. `due` is when this run was to begin; None: at once."""
        await self._until(due)
        async with self._watched(SUBMIT, video_id) as span:
            outcome = await self._repeat(self.submission.submit, video_id)
            tell(span, outcome)
            return outcome

    async def check(self, video_id: str, due: datetime | None = None, seen: Seen | None = None) -> StepResult:
        """Look at the running job, and save its bytes once it is completed."""
        await self._until(due)
        if due is not None:
            late = max((self.clock.now() - due).total_seconds(), 0.0)
            self.tracing.telemetry.measure(POLL_LAG, late, {})
        async with self._watched(CHECK, video_id) as span:
            outcome = await self._repeat(self.rendering.check, video_id, seen)
            tell(span, outcome)
            return outcome

    async def save(self, video_id: str) -> StepResult:
        """Save the bytes: a step of its own only in the former recipe."""
        async with self.heartbeats.of(video_id):
            return await self._run(self.rendering.save, video_id)

    @asynccontextmanager
    async def _watched(self, name: str, video_id: str) -> AsyncIterator[Span]:
        """While a step runs: the sweep sees heartbeats of it, and telemetry a span."""
        async with self.heartbeats.of(video_id), self.tracing.step(name, video_id) as span:
            yield span

    async def finish(self, outcome: Any) -> str | None:
        """Finish the video. Returns its manifest where it is to have one; then `leave` follows.
        Whatever this raises, the engine runs it again.
        """
        async with self._ending(FINISH, outcome["video"]):
            video = await self.lifecycle.finish(outcome["video"], outcome["failure"])
            return manifest_of(video, prompts=self.lifecycle.journal.log_prompts) if video else None

    async def leave(self, video_id: str) -> None:
        """Take the video off the unfinished ones, after its manifest was written."""
        async with self._ending(LEAVE, video_id):
            await self.lifecycle.leave(video_id)

    @asynccontextmanager
    async def _ending(self, name: str, video_id: str) -> AsyncIterator[None]:
        try:
            async with self.tracing.step(name, video_id):
                yield
        except StorageUnavailable as error:
            raise StorageUnavailable(error.message) from None
        except Exception as error:
            _log(video_id, name, error)
            raise StorageUnavailable(f"The video was not settled: {type(error).__name__}.") from None

    async def _until(self, due: datetime | None) -> None:
        """Sleep until a step is due: the engine's timers come up to a second early, and an upstream
        is not asked sooner than it wants.
        """
        early = (due - self.clock.now()).total_seconds() if due else 0.0
        if early > 0:
            await self.clock.sleep(min(early, _MOST_EARLY))

    async def _repeat(self, step: Step, video_id: str, seen: Seen | None = None) -> StepResult:
        """Run a step, and run it again here while it asks for waits of less than a second: the
        engine's timers are not that exact.
        """
        until = self.clock.now() + _MOST_REPEATS
        while True:
            outcome = await self._run(step, video_id, *([seen] if seen else []))
            seen = outcome.get("seen")
            seconds = outcome.get("again", _SHORTEST_TIMER)
            if seconds >= _SHORTEST_TIMER:
                return outcome
            if self.clock.now() >= until:
                return again(_SHORTEST_TIMER, seen=seen)
            await self.clock.sleep(seconds)

    async def _run(self, step: Step, video_id: str, *seen: Seen) -> StepResult:
        """Run a step; after an unexpected error again, up to three times. The third one fails the
        video.
        """
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._noted(video_id, await step(video_id, *seen))
            except StorageUnavailable as error:
                raise StorageUnavailable(error.message) from None
            except WriteConflict:
                # Another run of this step has changed the video since this one read it.
                logger.info("video %s: %s was overtaken", video_id, _name(step))
                return again(_OVERTAKEN)
            except Exception as error:
                if tries_left == 0:
                    _log(video_id, _name(step), error)
            if tries_left:
                await self.clock.sleep(_PAUSE)
        return failed("internal_error", "Something went wrong in the gateway; its log has the rest.")

    async def _noted(self, video_id: str, outcome: StepResult) -> StepResult:
        """The outcome as the engine may keep it: without a failure's message."""
        if "failed" not in outcome:
            return outcome
        return {"failed": await self.lifecycle.note_reason(video_id, outcome["failed"])}


def _name(step: Callable[..., Any]) -> str:
    return getattr(step, "__name__", "step")


def _log(video_id: str, step: str, error: Exception) -> None:
    """Log the type and the place of an error. Not its message, which may quote a prompt or an
    address.
    """
    where = "".join(format_tb(error.__traceback__))
    logger.error("video %s: %s: unexpected error %s\n%s", video_id, step, type(error).__name__, where)
