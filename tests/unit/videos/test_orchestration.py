"""The recipe of a video's life, replayed by the real SDK from histories as the host writes them."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.videos.orchestration import CHECK, FINISH, SAVE, SUBMIT, video_lifecycle

VIDEO = "video_7e6a1c0ffee0a1b2c3d4000000000001"
DONE: dict[str, Any] = {"done": True}
MOST_ATTEMPTS = 6
MOST_WAITS = 10  # in one execution

StepResult = dict[str, Any] | Exception | None


def again(seconds: float) -> dict[str, Any]:
    return {"again": seconds}


def failed(code: str) -> dict[str, Any]:
    return {"failed": {"code": code, "message": "Why."}}


class Stopped(Exception):
    """The orchestrator failed; the state it leaves comes with the message."""


@dataclass
class Execution:
    """One execution of the recipe: what was called and waited for, and every state that the SDK
    answered with.
    """

    given: Any
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    called: list[tuple[str, Any]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    episodes: list[tuple[list[dict[str, Any]], dict[str, Any]]] = field(default_factory=list)
    _tasks: int = 0
    _seen: int = 0

    def run(self, outcomes: Iterator[StepResult]) -> Any:
        """Go on until it ends; the input of the next execution where it continues as new. Raises
        Stopped.
        """
        state = self._episode(self._event(0, Name="video_lifecycle", Version="", Input=json.dumps(self.given)))
        while not state["isDone"]:
            (action,) = state["actions"][0][self._seen :]
            self._seen += 1
            state = self._wait(action) if action["actionType"] == 5 else self._call(action["compoundActions"][0], outcomes)
        rest = state["actions"][0][self._seen :]
        return json.loads(rest[0]["input"]) if rest else None

    def _wait(self, action: dict[str, Any]) -> dict[str, Any]:
        due = datetime.strptime(action["fireAt"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        self.waited.append((due - self.now).total_seconds())
        timer = self._take(10, FireAt=action["fireAt"])
        self.now = due
        return self._episode(self._event(11, TimerId=timer, FireAt=action["fireAt"]))

    def _call(self, action: dict[str, Any], outcomes: Iterator[StepResult]) -> dict[str, Any]:
        """Call an activity as the host does, with the retries that the action asks for."""
        most = action["retryOptions"]["maxNumberOfAttempts"]
        pause = timedelta(milliseconds=action["retryOptions"]["firstRetryIntervalInMilliseconds"])
        for attempt in range(1, most + 1):
            task = self._take(4, Name=action["functionName"], Version="", Input=action["input"])
            self.called.append((action["functionName"], json.loads(action["input"])))
            outcome = next(outcomes)
            self.now += timedelta(seconds=1)
            if not isinstance(outcome, Exception):
                return self._episode(self._event(5, TaskScheduledId=task, Result=json.dumps(outcome)))
            self._episode(self._event(6, TaskScheduledId=task, Reason=str(outcome), Details=repr(outcome)))
            due = self.now + pause if attempt < most else self.now
            timer = self._take(10, FireAt=_text(due))
            self.now = due
            state = self._episode(self._event(11, TimerId=timer, FireAt=_text(due)))
        return state

    def _episode(self, event: dict[str, Any]) -> dict[str, Any]:
        self.history += [self._event(12), event]
        state = replayed(self.history, self.given)
        self.episodes.append((deepcopy(self.history), state))
        self.history.append(self._event(13))
        return state

    def _take(self, kind: int, **keys: Any) -> int:
        """Schedule something under the next id: before the end of the episode that asked for it."""
        task, self._tasks = self._tasks, self._tasks + 1
        self.history.insert(-1, self._event(kind, task, **keys))
        return task

    def _event(self, kind: int, task: int = -1, **keys: Any) -> dict[str, Any]:
        return {"EventType": kind, "EventId": task, "IsPlayed": False, "Timestamp": _text(self.now), **keys}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def replayed(history: list[dict[str, Any]], given: Any) -> dict[str, Any]:
    """The state that the SDK makes of a history, through JSON as the host hands it on."""
    payload = {
        "history": history,
        "input": json.dumps(given),
        "instanceId": VIDEO,
        "isReplaying": False,
        "parentInstanceId": None,
        "upperSchemaVersion": 1,
        "upperSchemaVersionNew": 2,
        "longRunningTimerIntervalDuration": "3.00:00:00",
        "maximumShortTimerDuration": "6.00:00:00",
        "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
    }
    try:
        answer = df.Orchestrator.create(video_lifecycle)(func.OrchestrationContext(json.dumps(payload)))
    except Exception as error:
        raise Stopped(str(error)) from error
    state: dict[str, Any] = json.loads(answer)
    assert len(state["actions"]) == 1
    return state


def lived(*outcomes: StepResult, given: Any = None) -> Execution:
    """A whole execution, that used up all of the outcomes."""
    execution, script = Execution(given if given is not None else {"step": SUBMIT}), iter(outcomes)
    assert execution.run(script) is None
    assert list(script) == []
    return execution


def finish(code: str | None = None) -> tuple[str, Any]:
    failure = failed(code)["failed"] if code else None
    return (FINISH, {"video": VIDEO, "failure": failure})


def test_a_straight_run_is_submit_check_save_finish() -> None:
    """Each step gets the id of the video, and nothing else is kept in the history."""
    execution = lived(DONE, DONE, DONE, None)
    assert execution.called == [(SUBMIT, VIDEO), (CHECK, VIDEO), (SAVE, VIDEO), finish()]
    assert execution.waited == []


@pytest.mark.parametrize("given", [None, {}, {"step": SUBMIT}])
def test_a_start_without_a_step_begins_at_the_beginning(given: Any) -> None:
    """As an operator would start it by hand."""
    script: Iterator[StepResult] = iter([DONE, DONE, DONE, None])
    execution = Execution(given)
    execution.run(script)
    assert execution.called[0] == (SUBMIT, VIDEO)


def test_a_step_that_says_again_is_run_again_after_its_wait() -> None:
    """Each with its own wait, also none at all, and only then comes the next step."""
    execution = lived(again(63), again(0), DONE, again(5), again(2.5), DONE, again(5), DONE, None)
    assert [name for name, _ in execution.called] == [SUBMIT] * 3 + [CHECK] * 3 + [SAVE] * 2 + [FINISH]
    assert execution.waited == [63, 0, 5, 2.5, 5]


@pytest.mark.parametrize("before", [[], [DONE], [DONE, again(5)], [DONE, DONE]])
def test_a_failure_in_any_step_ends_with_its_reason(before: list[StepResult]) -> None:
    """Finish is told why; the steps that are left are not run."""
    execution = lived(*before, failed("moderation_blocked"), None)
    assert execution.called[-1] == finish("moderation_blocked")
    assert len(execution.called) == len(before) + 2


def test_after_its_most_waits_it_continues_as_new_at_the_same_step() -> None:
    """History is replayed at every step, so it must not grow without end."""
    execution = Execution({"step": SUBMIT})
    assert execution.run(iter([DONE, *[again(5)] * MOST_WAITS])) == {"step": CHECK}
    assert len(execution.waited) == MOST_WAITS
    assert [name for name, _ in execution.called] == [SUBMIT] + [CHECK] * MOST_WAITS


def test_waits_of_all_steps_count_together() -> None:
    """Those for capacity and those for the upstream."""
    execution = Execution({"step": SUBMIT})
    assert execution.run(iter([*[again(9)] * (MOST_WAITS - 3), DONE, *[again(5)] * 3])) == {"step": CHECK}


def test_one_wait_fewer_needs_no_new_execution() -> None:
    """The limit is exact."""
    assert len(lived(DONE, *[again(5)] * (MOST_WAITS - 1), DONE, DONE, None).waited) == MOST_WAITS - 1


@pytest.mark.parametrize(("step", "rest"), [(SUBMIT, [SUBMIT, CHECK, SAVE]), (CHECK, [CHECK, SAVE]), (SAVE, [SAVE])])
def test_a_continued_execution_goes_on_where_it_was(step: str, rest: list[str]) -> None:
    """With ids from zero and a history of its own."""
    execution = lived(*[DONE] * len(rest), None, given={"step": step})
    assert [name for name, _ in execution.called] == [*rest, FINISH]


def test_a_step_that_raises_is_run_again_a_few_times() -> None:
    """Storage that does not answer for a moment costs a moment, at every step."""
    trouble = RuntimeError("storage")
    execution = lived(trouble, DONE, trouble, trouble, again(5), DONE, DONE, trouble, None)
    names = [name for name, _ in execution.called]
    assert names == [SUBMIT] * 2 + [CHECK] * 4 + [SAVE] + [FINISH] * 2
    assert execution.waited == [5]


@pytest.mark.parametrize("before", [[], [DONE], [DONE, DONE], [DONE, DONE, DONE]])
def test_a_step_that_keeps_raising_fails_the_orchestration(before: list[StepResult]) -> None:
    """It never ends as if the video had: the sweep finds it and starts anew."""
    execution = Execution({"step": SUBMIT})
    with pytest.raises(Stopped, match="storage"):
        execution.run(iter([*before, *[RuntimeError("storage")] * MOST_ATTEMPTS]))
    assert len(execution.called) == len(before) + MOST_ATTEMPTS


OUTCOMES = st.one_of(
    st.just(DONE),
    st.sampled_from([0, 0.5, 5, 63, 3600]).map(again),
    st.just(failed("generation_failed")),
    st.just(RuntimeError("storage")),
)


@settings(max_examples=30)
@given(st.lists(OUTCOMES, max_size=12))
def test_every_prefix_of_a_history_replays_to_the_same_actions(outcomes: list[StepResult]) -> None:
    """Whatever happened: what was decided stays decided, and is only ever added to."""
    execution = Execution({"step": SUBMIT})
    try:
        execution.run(iter([*outcomes, DONE, DONE, DONE, None, None]))
    except Stopped:
        assert sum(isinstance(each, Exception) for each in outcomes) >= MOST_ATTEMPTS
    known: list[Any] = []
    for history, state in execution.episodes:
        assert replayed(history, execution.given) == state
        actions = state["actions"][0]
        assert actions[: len(known)] == known
        known = actions


def test_the_recorded_history_of_a_life_replays_to_the_same_actions() -> None:
    """Videos that were running when a new version was deployed go on: this history must never need
    a change.
    """
    execution = lived(again(63), DONE, again(5), DONE, DONE, None)
    call = {"actionType": 1, "retryOptions": {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": 6}}

    def called(name: str, given: Any) -> dict[str, Any]:
        return {"actionType": 12, "compoundActions": [{**call, "functionName": name, "input": json.dumps(given)}]}

    def waited(until: str) -> dict[str, Any]:
        return {"actionType": 5, "fireAt": f"2026-01-01T{until}.000000Z", "isCanceled": False}

    assert {**execution.episodes[-1][1], "customStatus": None} == {
        "isDone": True,
        "customStatus": None,
        "schemaVersion": 2,
        "actions": [
            [
                called("submit", VIDEO),
                waited("00:01:04"),
                called("submit", VIDEO),
                called("check", VIDEO),
                waited("00:01:11"),
                called("check", VIDEO),
                called("save", VIDEO),
                called("finish", {"video": VIDEO, "failure": None}),
            ]
        ],
    }


def test_the_status_says_what_it_is_at_and_until_when_it_waits() -> None:
    """By that the sweep tells an orchestration that sleeps from one that is stuck."""
    execution = lived(again(63), DONE, DONE, DONE, None)
    said = [state["customStatus"] for _, state in execution.episodes[:-1]]
    until = datetime(2026, 1, 1, 0, 1, 4, tzinfo=UTC).isoformat()
    assert said == [
        {"step": SUBMIT},
        {"step": SUBMIT, "until": until},
        *({"step": step} for step in (SUBMIT, CHECK, SAVE, FINISH)),
    ]
