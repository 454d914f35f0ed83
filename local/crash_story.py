"""What a crash run is told, and what it comes to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from local.crash_site import MASTER_KEY, UPSTREAM_KEY, Site

if TYPE_CHECKING:
    from local.crash_run import Run

POLL_SECONDS, RECONCILE_SECONDS = 0.1, 3.0


@dataclass(frozen=True)
class Story:
    """What a client does. `before` happens in an app that is not told to die, and may give `act` something.

    `ends` are the ends that a video may have: `completed`, or the code of its error. `model` adds to the model's parameters,
    `config` to the configuration; with `spare`, there is a second model that falls back for the first.
    """

    name: str
    act: "Callable[[Run, Any], Awaitable[None]]"
    before: "Callable[[Run], Awaitable[Any]] | None" = None
    orphaned: bool = False  # that app dies before it starts the orchestration, and the client does not try again
    ends: tuple[str, ...] = ("completed",)
    model: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    spare: bool = False


@dataclass
class Result:
    """What a run came to. `wrong` says what is not as promised; `points` were passed, the last one before each death too."""

    died: int = 0
    completed: int = 0
    failed: int = 0
    most_creates: int = 0  # of any video
    wrong: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)


def app_settings(story: Story, site: Site, folder: Path, models: Sequence[str]) -> dict[str, str]:
    """All that the app is told; its configuration file, with models of these names, is written to `folder`."""
    params = {
        "model": "azure/sora-2",
        "api_base": "os.environ/AZURE_OPENAI_API_BASE",
        "api_key": "os.environ/AZURE_OPENAI_API_KEY",
        "max_running": 10,
        "creates_per_minute": 1000,
        **story.model,
    }
    entries = [{"model_name": name, "params": params, "model_info": {"id": f"at-{name}"}} for name in models]
    knobs: dict[str, Any] = {"poll_seconds": POLL_SECONDS, "reconcile_seconds": RECONCILE_SECONDS}
    if story.spare:
        knobs["fallbacks"] = {models[0]: [models[1]]}
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({"model_list": entries, "gateway": knobs, **story.config}))
    return {
        "AzureWebJobsStorage": site.storage,
        "AZURE_OPENAI_API_BASE": site.upstream,
        "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
        "GATEWAY_MASTER_KEY": MASTER_KEY,
        "GATEWAY_CONFIG": str(path),
        "TASK_HUB": "Crash",
    }
