"""The cells of the fault matrix: how a video lives under one fault, and everything that may be
wrong about it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime

from tests.trials.faults.own_table import (
    GEMINI,
    HOSTED_VLLM,
    OWN_COLUMNS,
    OWN_EXPECTED,
    OWN_FAULTS,
    OWN_NOWHERE,
    RESTART,
    SGLANG,
)
from tests.trials.faults.table import (
    ASKING,
    AZURE,
    CALLED,
    CODES,
    COLUMNS,
    CONTENT,
    CREATE,
    EXCEPTIONS,
    FAULTS,
    FINISHED,
    LIST,
    MOVE,
    NOWHERE,
    OVER,
    POLL,
    PROMPT,
    REMIX,
    RUNNING,
    SLOW,
    TOKEN_FAULTS,
    TOKENS,
    USUALLY,
    Expected,
)
from tests.trials.faults.world import POLL_SECONDS, RECONCILE_SECONDS, FaultWorld, Lives, Story

# The fault of the column comes after these.
_STORIES = {
    CREATE: Story(PROMPT),
    REMIX: Story(PROMPT, remix=True),
    LIST: Story(PROMPT, ({"kind": "reset_after", "operation": "create", "times": 1},)),
    MOVE: Story(PROMPT, second=True),
    POLL: Story(PROMPT),
    CONTENT: Story(PROMPT),
    RUNNING: Story(PROMPT, delete_when="running"),
    FINISHED: Story(PROMPT, delete_when="completed"),
}
# Seconds until the second deployment has made a video, of which its job takes up to 66; where the
# first has not refused the create outright, the job is looked for before.
_MOVED_AT_ONCE = 75.0
_MOVED_AFTER_A_SEARCH = _MOVED_AT_ONCE + RECONCILE_SECONDS + POLL_SECONDS
_CLOSING = ("upstream_auth_error", "upstream_misconfigured", "model_retired")
_MOST_LOOKS = 50  # at a job, where looking is not what goes wrong
# Answers that nobody hears to their end, and those that are no failure by themselves: only that
# they never say more is one.
_NAMELESS = ("cut short", "unknown status", "missing prompt")


@dataclass(frozen=True)
class Cell:
    """One fault in one column, once or always, at a server of this dialect. With an `identity`, the
    upstream is reached with tokens.
    """

    fault: str
    column: str
    always: bool
    identity: bool = False
    dialect: str = AZURE

    def __str__(self) -> str:
        how = "always" if self.always else "once"
        where = (
            f"{self.column}{' (with tokens)' if self.identity else ''}{'' if self.dialect == AZURE else f' of {self.dialect}'}"
        )
        return f"{self.fault}, {how}, in: {where}"

    @property
    def operation(self) -> str:
        return CALLED[self.column]

    @property
    def expected(self) -> Expected:
        if self.identity:
            return TOKENS[self.column][self.always]
        if self.dialect != AZURE:
            usually, exceptions = OWN_EXPECTED[self.dialect][self.column]
            return exceptions.get(self.fault, usually)[self.always]
        return EXCEPTIONS[self.column].get(self.fault, USUALLY[self.column])[self.always]

    async def lives(self, world: FaultWorld) -> Lives:
        """A video under this fault."""
        known = FAULTS if self.dialect == AZURE else OWN_FAULTS[self.dialect]
        fault = {**known[self.fault], "operation": self.operation, "times": None if self.always else 1}
        if fault.get("headers", {}).get("retry-after") == "in half a minute":
            fault["headers"] = {"retry-after": format_datetime(world.clock.now() + timedelta(seconds=30), usegmt=True)}
        if fault["kind"] == "trickle" and self.column == CONTENT:
            fault["bytes_per_second"] = 50_000
        story = _STORIES[self.column]
        faults = (*story.faults, fault)
        return await world.live(replace(story, faults=faults, identity=self.identity, over=self.fault == OVER))

    def wrong(self, lives: Lives) -> list[str]:
        """Everything that is not as promised, in words."""
        calls, renewals = lives.asked[self.operation], self._renewals(lives)
        wrong = [*lives.broken, *_not_as_expected(lives, self.operation, self.expected), *self._elsewhere(lives)]
        if lives.video.status == "failed" and lives.end not in CODES:
            wrong.append(f"{lives.end} is no code of ours")
        if lives.closed != self._closed(lives):
            wrong.append(f"closed: {', '.join(lives.closed) or 'nothing'}")
        if self.column == MOVE and lives.took > self._patience:
            wrong.append(f"it took {lives.took:.0f} s")
        if self.column == RUNNING and not self.always and self.fault not in SLOW and lives.kept:
            wrong.append("its job is still there")
        heard = lives.request_ids.get(self.operation)
        if heard and self._names_the_answer(lives) and lives.video.upstream_request_id not in heard:
            wrong.append(f"the request id is {lives.video.upstream_request_id}, which no answer to {self.operation} had")
        if self.identity and lives.renewed != renewals:
            wrong.append(f"{lives.renewed} × a new token in {calls} calls")
        return wrong

    def _names_the_answer(self, lives: Lives) -> bool:
        """Whether it failed by an answer that the vendor can look up."""
        nameless = self.fault in _NAMELESS or (self.fault, self.column) == ("missing id", LIST)
        return lives.end not in ("completed", "cancelled") and not nameless

    def _renewals(self, lives: Lives) -> int:
        """One for each refusal; a call that is repeated with a new token and refused again is left
        at that.
        """
        calls = lives.asked[self.operation]
        if not self.always:
            return 1
        return calls if self.column == CONTENT else calls // 2

    def _closed(self, lives: Lives) -> set[str]:
        """What should be closed at the end: a deployment that refuses everybody, and nothing for a
        single refusal.
        """
        if self.column == MOVE:
            return lives.closed  # until it is asked again, which may be before or after the end
        refuses = self.column in (CREATE, REMIX) and lives.end in _CLOSING
        return {lives.end} if refuses else set()

    @property
    def _patience(self) -> float:
        alone = EXCEPTIONS[CREATE].get(self.fault, USUALLY[CREATE])[True]
        return _MOVED_AFTER_A_SEARCH if alone.end == "upstream_uncertain" else _MOVED_AT_ONCE

    def _elsewhere(self, lives: Lives) -> Iterator[str]:
        """Calls of the operations that do not go wrong: as many as without any fault."""
        saved = lives.end == "completed" and self.column != RUNNING
        usual = {
            "remix" if self.column == REMIX else "create": (1, 1 + max(lives.lost, lives.video.lost_jobs)),
            "list": (0, 35) if self.column in ASKING else (0, 0),  # it tells when connections work again
            "get": (0, _MOST_LOOKS * (1 + lives.video.lost_jobs)),
            "content": (1, 1) if saved else (0, 0),
            # A copy, or a job at its deadline.
            "delete": (int(saved), 1) if self.dialect in (HOSTED_VLLM, SGLANG) else (0, 0),
        }
        for operation, (least, most) in usual.items():
            if operation != self.operation and not least <= lives.asked[operation] <= most:
                yield f"{lives.asked[operation]} × {operation}"


def _not_as_expected(lives: Lives, operation: str, expected: Expected) -> Iterator[str]:
    calls = lives.asked[operation]
    if lives.end != expected.end:
        yield f"it ended as {lives.end}, not as {expected.end}"
    if not expected.least <= calls <= expected.most:
        yield f"{calls} × {operation}, not {expected.least} to {expected.most}"
    if lives.jobs > 1 + lives.video.lost_jobs or lives.jobs + lives.lost < (lives.end == "completed"):
        yield f"{lives.jobs} jobs upstream"


def cells() -> list[Cell]:
    """Every fault in every column; where there are two deployments, the first always has it."""
    plain = [
        Cell(fault, column, always)
        for fault in FAULTS
        for column in COLUMNS
        if column not in NOWHERE.get(fault, ())
        for always in ((True,) if column == MOVE else (False, True))
    ]
    own = [
        Cell(fault, column, always, dialect=dialect)
        for dialect, faults in OWN_FAULTS.items()
        for fault in faults
        for column in OWN_COLUMNS[dialect]
        if column not in OWN_NOWHERE.get(fault, ())
        for always in (False, True)
    ]
    tokens = [Cell(fault, column, always, True) for fault in TOKEN_FAULTS for column in TOKENS for always in (False, True)]
    return plain + tokens + own


@dataclass(frozen=True)
class Tale:
    """A video's life that is no cell: a fault in another place, or two of them. The calls of
    `operation` are counted.
    """

    name: str
    story: Story
    operation: str
    expected: Expected
    kept: int = 0  # jobs that are still upstream at the end
    dialect: str = AZURE

    def __str__(self) -> str:
        return self.name if self.dialect == AZURE else f"{self.name}, at {self.dialect}"

    async def lives(self, world: FaultWorld) -> Lives:
        return await world.live(self.story)

    def wrong(self, lives: Lives) -> list[str]:
        wrong = [*lives.broken, *_not_as_expected(lives, self.operation, self.expected)]
        if lives.kept != self.kept:
            wrong.append(f"{lives.kept} jobs are still upstream, not {self.kept}")
        if lives.closed:
            wrong.append(f"closed: {', '.join(lives.closed)}")
        return wrong


def _fault(kind: str, operation: str = "create", times: int | None = 1, **more: object) -> dict[str, object]:
    return {"kind": kind, "operation": operation, "times": times, **more}


_LOST_UPLOAD = _fault("status", documented="E9")
TALES = (
    Tale("the job is blocked by moderation", Story("A disturbing canary"), "get", Expected("moderation_blocked", 4, 18), 1),
    Tale("the job fails", Story("An unlucky canary"), "get", Expected("internal_error", 4, 18), 1),
    Tale("the job never ends", Story("An endless canary"), "get", Expected("deadline_exceeded", 7, 20), 1),
    Tale(
        "deleted while its lost create is looked for",
        Story(PROMPT, (_fault("reset_after"),), delete_when="unclear"),
        "create",
        Expected("completed", 1, 1),
    ),
    Tale(
        "the same, and no job was made",
        Story(PROMPT, (_fault("reset_before"),), delete_when="unclear"),
        "create",
        Expected("cancelled", 1, 1),
    ),
    Tale(
        "a lost create that is not to be repeated",
        Story(PROMPT, (_fault("reset_before"),), on_unclear="fail"),
        "create",
        Expected("upstream_uncertain", 1, 1),
    ),
    Tale(
        "the same, and its job is found",
        Story(PROMPT, (_fault("reset_after"),), on_unclear="fail"),
        "create",
        Expected("completed", 1, 1),
        1,
    ),
    Tale(
        "a lost upload, then a lost create",
        Story(PROMPT, (_LOST_UPLOAD, _fault("reset_before"))),
        "create",
        Expected("completed", 3, 3),
        1,
    ),
    Tale(
        "a lost create, then two lost uploads",
        Story(PROMPT, (_fault("reset_before"), _LOST_UPLOAD, _LOST_UPLOAD)),
        "create",
        Expected("completed", 4, 4),
        1,
    ),
    Tale("no token, once", Story(PROMPT, (_fault("no_token"),), identity=True), "create", Expected("completed", 1, 1), 1),
    Tale(
        "no token, ever",
        Story(PROMPT, (_fault("no_token", times=None),), identity=True),
        "create",
        Expected("queue_timeout", 0, 0),
    ),
    *(
        tale
        for dialect, blocked in ((HOSTED_VLLM, "moderation_blocked"), (SGLANG, "generation_failed"))
        for tale in (
            Tale("the job is blocked", Story("A disturbing canary"), "get", Expected(blocked, 4, 18), 1, dialect),
            Tale("the job fails", Story("An unlucky canary"), "get", Expected("generation_failed", 4, 18), 1, dialect),
            Tale(
                "a lost create, then a restart",
                Story(PROMPT, (_fault("reset_after"), _fault(RESTART, "list"))),
                "create",
                Expected("completed", 2, 2),
                0,
                dialect,
            ),
        )
    ),
    Tale("the job is blocked", Story("A disturbing canary"), "get", Expected("moderation_blocked", 4, 18), 1, GEMINI),
    Tale("the job fails", Story("An unlucky canary"), "get", Expected("generation_failed", 4, 18), 1, GEMINI),
    Tale("deleted while it runs", Story(PROMPT, delete_when="running"), "content", Expected("completed", 0, 0), 1, GEMINI),
    Tale("deleted when it is done", Story(PROMPT, delete_when="completed"), "content", Expected("completed", 1, 1), 1, GEMINI),
    Tale(
        "a lost create that is not found",
        Story(PROMPT, (_fault("reset_before"),)),
        "create",
        Expected("upstream_uncertain", 1, 1),
        0,
        GEMINI,
    ),
    Tale(
        "the job never ends, and is stopped",
        Story("An endless canary"),
        "delete",
        Expected("deadline_exceeded", 1, 1),
        0,
        HOSTED_VLLM,
    ),
)
