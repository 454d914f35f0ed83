"""The recorded histories of real runs, replayed through the SDK with today's orchestrator."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import azure.functions as func
import pytest

from local.durable.protocol import ActionType, Event, EventType, replay_payload
from local.functions_host.functions import load
from shared.videos.orchestration import CHECK, VIDEO_LIFE
from tests.fakes.stack import Served, arm, eventually, serving, wait_for_end

SCHEDULED = (EventType.TASK_SCHEDULED, EventType.TIMER_CREATED)


@pytest.fixture(scope="module")
def gateway(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack")) as served:
        yield served


def made(gateway: Served, prompt: str) -> str:
    with gateway.client() as caller:
        return str(caller.post("/v1/videos", json={"prompt": prompt}).json()["id"])


def lived(gateway: Served, prompt: str, status: str) -> list[Event]:
    """The history of a video that has ended like this."""
    video_id = made(gateway, prompt)
    with gateway.client() as caller:
        assert wait_for_end(caller, video_id)["status"] == status
    return eventually(lambda: _whole(gateway.hub.history(video_id)))


def _whole(history: list[Event]) -> list[Event] | None:
    """The history once `finish` is in it: the video has ended a moment before its orchestration."""
    finished = [each for each in history if each["EventType"] == EventType.TASK_SCHEDULED and each["Name"] == "finish"]
    ended = [each.get("TaskScheduledId") for each in history if each["EventType"] == EventType.TASK_COMPLETED]
    return history if finished and finished[0]["EventId"] in ended else None


def replayed(history: list[Event]) -> dict[str, Any]:
    """The state that the newest recipe of `function_app` answers with."""
    recipes = {each.name: each for each in load("function_app", {"TASK_HUB": "x"}).triggered_by("orchestrationTrigger")}
    orchestrator = recipes[VIDEO_LIFE]
    context = func.OrchestrationContext(replay_payload("video_replayed", history))
    state: dict[str, Any] = json.loads(orchestrator.call(**{orchestrator.trigger.name: context}))
    return state


def uncancelled(actions: list[Any]) -> str:
    return json.dumps(actions).replace('"isCanceled": true', '"isCanceled": false')


def flat(actions: list[Any]) -> Iterator[dict[str, Any]]:
    """Single actions, out of the compounds that retries are wrapped in."""
    for action in actions:
        yield from flat(action["compoundActions"]) if "compoundActions" in action else [action]


def check(history: list[Event]) -> None:
    """Every prefix gives a prefix of the actions, and the whole gives what the host once scheduled,
    in its order.
    """
    states = [replayed(history[:length]) for length in range(2, len(history) + 1)]
    lists = [state["actions"][0] for state in states]
    for earlier, later in pairwise(lists):
        assert uncancelled(later[: len(earlier)]) == uncancelled(earlier)
    unscheduled = (ActionType.CONTINUE_AS_NEW, ActionType.WAIT_FOR_EVENT)
    decided = [action.get("functionName", "timer") for action in flat(lists[-1]) if action["actionType"] not in unscheduled]
    scheduled = sorted((each for each in history if each["EventType"] in SCHEDULED), key=lambda each: each["EventId"])
    assert decided[: len(scheduled)] == [each.get("Name", "timer") for each in scheduled]


def names(history: list[Event]) -> list[str]:
    return [each.get("Name", "timer") for each in history if each["EventType"] in SCHEDULED]


def test_the_history_of_a_completed_video_replays_to_the_same_actions(gateway: Served) -> None:
    """Submitted, looked at until its bytes are stored, finished."""
    history = lived(gateway, "A cat", "completed")
    check(history)
    happened = names(history)
    assert happened[-2:] == ["check", "finish"]
    assert replayed(history)["isDone"]


def test_the_history_of_a_failed_video_replays_to_the_same_actions(gateway: Served) -> None:
    """The upstream ends it."""
    history = lived(gateway, "An unlucky cat", "failed")
    check(history)
    assert names(history)[-1] == "finish"


def test_the_history_of_a_video_that_waited_for_capacity_replays_to_the_same_actions(gateway: Served) -> None:
    """The upstream was full: a timer, and submit again."""
    arm(gateway.upstream, kind="status", operation="create", documented="E2", headers={"retry-after-ms": "2000"})
    history = lived(gateway, "An unlucky cat that waited", "failed")
    check(history)
    assert names(history)[:3] == ["submit", "timer", "submit"]


def test_the_history_of_a_later_execution_replays_to_the_same_actions(gateway: Served) -> None:
    """After many looks a video's orchestration begins anew, with a short history, at the step where
    it was.
    """
    video_id = made(gateway, "An endless cat")

    def continued() -> list[Event] | None:
        history = gateway.hub.history(video_id)
        return history if len(history) > 8 and json.loads(history[1]["Input"])["step"] == CHECK else None

    history = eventually(continued)
    check(history)
    assert set(names(history)) <= {"check", "timer"}
