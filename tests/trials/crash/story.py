"""What a crash run is told, and what it comes to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from shared.accounts.account import Account
from tests.trials.crash.points import Passed

if TYPE_CHECKING:
    from tests.trials.crash.run import Run

UPSTREAM_KEY = "the-key-of-the-upstream"
MASTER_KEY = "sk-the-key-of-the-operator"
POLL_SECONDS, RECONCILE_SECONDS = 3.0, 40.0  # two of ours, through which a job that nobody heard of is looked for
AT_THE_UPSTREAM = ("sora-2", "sora-2-pro")  # the deployments of the first model and of the one that takes its place


@dataclass(frozen=True)
class Story:
    """What a client does: `act`, with an app that dies. It is given what came of the last of these,
    if there are any:

    `before` happens with an app that is not told to die, or only at the end: at the point
    `dies_at`, and then the client does not try again. `between` happens while no app runs.

    `ends` are the ends that a video may have: `completed`, or the code of its error; `check` finds
    what else is wrong. There is a model for each of `prices` (dollars a second), and the second
    takes the first one's place. `max_running` and `pace` (creates a minute) are what the app is
    told and what the upstream allows. `busy` is how often the upstream says that this is too much
    although it is not, `unclear` how often a create comes to nothing that anybody can know of, and
    where the first model is `retired`, it says so for ever. `knobs`, `general` and `account` are
    settings of the gateway and of the key; the sweep sees everything as it will be `later`.
    """

    name: str
    act: "Callable[[Run, Any], Awaitable[None]]"
    before: "Callable[[Run], Awaitable[Any]] | None" = None
    dies_at: str | None = None
    between: "Callable[[Run, Any], Awaitable[Any]] | None" = None
    check: "Callable[[Run], Awaitable[list[str]]] | None" = None
    ends: tuple[str, ...] = ("completed",)
    prices: tuple[float, ...] = (0.1,)
    max_running: int = 2
    pace: int = 100
    busy: int = 0
    unclear: int = 0
    retired: bool = False
    knobs: dict[str, Any] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    later: timedelta = timedelta(minutes=15)  # more than the sweep's patience with anything unfinished


@dataclass
class Result:
    """What a run came to. `wrong` says what is not as promised; `passed` are the points, the last
    one before each death too.
    """

    died: int = 0
    completed: int = 0
    failed: int = 0
    most_creates: int = 0  # of any video
    wrong: list[str] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)

    def expect(self, so: bool, otherwise: str) -> None:
        if not so:
            self.wrong.append(otherwise)


def app_settings(story: Story, storage: str, upstream: str, folder: Path, models: Sequence[str]) -> dict[str, str]:
    """All that the app is told; its configuration file, with models of these names, is written to
    `folder`.
    """
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(_configuration(story, models)))
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
        "GATEWAY_MASTER_KEY": MASTER_KEY,
        "GATEWAY_CONFIG": str(path),
        "TASK_HUB": "Crash",
    }


def _configuration(story: Story, models: Sequence[str]) -> dict[str, Any]:
    entries = [
        {
            "model_name": name,
            "params": {"model": f"azure/{deployment}", "max_running": story.max_running, "creates_per_minute": story.pace},
            "model_info": {"id": f"at-{name}", "sizes": ["720x1280"], "output_cost_per_video_per_second": price},
        }
        for name, deployment, price in zip(models, AT_THE_UPSTREAM, story.prices, strict=False)
    ]
    knobs: dict[str, Any] = {"poll_seconds": POLL_SECONDS, "reconcile_seconds": RECONCILE_SECONDS, **story.knobs}
    if len(models) > 1:
        knobs["fallbacks"] = {models[0]: [models[1]]}
    return {"model_list": entries, "gateway": knobs, "general_settings": story.general}
