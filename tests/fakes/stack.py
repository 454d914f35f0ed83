"""The whole gateway for a test: the real app in the stand-in host, real storage, the simulated
Azure OpenAI.

It runs on a loop in a thread of its own, so that clients which block can be used as their users use
them.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import av
import httpx
import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from local.durable import TaskHub
from local.functions_host.functions import load
from local.functions_host.host import Host, timing_of
from local.simulator.dialects.dialect import ServedModel
from local.simulator.process import listening
from local.simulator.server import SimulatedServer
from shared import gateway as composition
from shared.accounts.account import Account
from shared.clock import Clock, SystemClock
from shared.config.settings import load as load_settings

T = TypeVar("T")

CHECKOUT = Path(__file__).parents[2]
MODEL = "azure-sora-2"  # what clients ask for: an alias, behind a prefix of the test's own
MASTER_KEY = "sk-1234"
UPSTREAM_KEY = "the-key-of-the-upstream"
SPEED = 100.0  # a film of 4 seconds takes 0.6 s
_PATIENCE = 60.0  # seconds for what takes one or two on a machine with nothing else to do
_LOOK_AGAIN = 0.05


@dataclass(frozen=True)
class Served:
    """A running gateway: its address, a key and a model of its own, its task hub, and the
    simulator's address.
    """

    url: str
    key: str
    model: str
    hub: TaskHub
    upstream: str
    settings: Mapping[str, str]

    def client(self, key: str | None = None) -> httpx.Client:
        """A plain HTTP client that follows no redirects; a `key` of "" sends none."""
        return client(self.url, self.key if key is None else key)

    def new_key(self, **limits: Any) -> str:
        """The secret of a key that has made nothing yet."""
        with self.client(MASTER_KEY) as operator:
            answer = operator.post("/key/generate", json=limits)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["key"])


def client(url: str, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


@contextmanager
def serving(
    storage: str,
    data: Path,
    *,
    speed: float = SPEED,
    clock: Clock | None = None,
    dialect: str = "azure",
    environment: Mapping[str, str] | None = None,
    **knobs: Any,
) -> Iterator[Served]:
    """A gateway on `storage` with one model on one deployment without quotas, at a server of this
    dialect; `knobs` are the `gateway:` section's, `environment` further app settings. With a
    `clock` the app goes by that one; its engine and its upstream do not.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            _served(storage, data, environment or {}, speed=speed, clock=clock, dialect=dialect, knobs=knobs)
        ) as served,
    ):
        yield served


@contextmanager
def simulating(data: Path, *, speed: float = SPEED, key: str = UPSTREAM_KEY) -> Iterator[str]:
    """The simulated Azure OpenAI alone, without quotas; its address."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_simulated(data, speed, key)) as upstream:
        yield upstream


@asynccontextmanager
async def _simulated(data: Path, speed: float, key: str = UPSTREAM_KEY, dialect: str = "azure") -> AsyncIterator[str]:
    # Made on the thread that serves it: its database belongs to one.
    server = SimulatedServer(
        data / "upstream",
        SystemClock(),
        speed,
        dialect,
        creates_per_minute=None,
        max_running=None,
        api_key=key,
        models={name: ServedModel(name) for name in ("sora-2", "sora-2-pro")},
    )
    async with listening(server) as upstream:
        yield upstream


@asynccontextmanager
async def _served(
    storage: str,
    data: Path,
    environment: Mapping[str, str],
    *,
    speed: float,
    clock: Clock | None,
    dialect: str,
    knobs: dict[str, Any],
) -> AsyncIterator[Served]:
    async with _simulated(data, speed, dialect=dialect) as upstream:
        settings = app_settings(storage, upstream, data, dialect=dialect, **knobs) | dict(environment)
        with pytest.MonkeyPatch.context() as patch:  # needed only while the app reads it
            for name, value in settings.items():
                patch.setenv(name, value)
            if environment:  # which of its triggers there are is decided at the import
                patch.delitem(sys.modules, "function_app", raising=False)
            functions = load("function_app")
            if environment:  # the next one is to have its own
                del sys.modules["function_app"]
            if clock is not None:
                composition._gateways[asyncio.get_running_loop()] = composition.build(load_settings(), clock)
            gateway = composition.current()
        try:
            async with Host(functions, data, SystemClock(), timing=timing_of(functions).faster(speed)) as host:
                issued = await gateway.keys.issue(Account())
                model = gateway.settings.catalog.models[0].name
                yield Served(host.url, issued.secret, model, host.hub, upstream, settings)
        finally:
            await gateway.close()


def app_settings(storage: str, upstream: str, data: Path, **knobs: Any) -> dict[str, str]:
    """All that the app is told; its configuration file is written to `data`."""
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
        "GATEWAY_MASTER_KEY": MASTER_KEY,
        "GATEWAY_CONFIG": str(write_config(data / "gateway.yaml", **knobs)),
        "TASK_HUB": "VideoGateway",
    }


def write_config(path: Path, *, dialect: str = "azure", max_running: int = 50, **knobs: Any) -> Path:
    """A configuration in a hurry. The model's name begins anew each time, so that tests which share
    storage share no queue.
    """
    params = {
        "model": f"{dialect}/sora-2",
        "api_base": "os.environ/AZURE_OPENAI_API_BASE",
        "api_key": "os.environ/AZURE_OPENAI_API_KEY",
        "max_running": max_running,
        "creates_per_minute": 1000,
    }
    entry = {"model_name": f"{secrets.token_hex(4)}/{MODEL}", "params": params}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"model_list": [entry], "gateway": {"poll_seconds": 0.1, **knobs}}))
    return path


def wait_for_end(gateway: httpx.Client, video_id: str, patience: float = _PATIENCE) -> dict[str, Any]:
    """The video, once it is completed or failed."""

    def ended() -> dict[str, Any] | None:
        answer = gateway.get(f"/v1/videos/{video_id}")
        assert answer.status_code == 200, answer.text
        video: dict[str, Any] = answer.json()
        return video if video["status"] in ("completed", "failed") else None

    return eventually(ended, patience)


def eventually(look: Callable[[], T | None], patience: float = _PATIENCE) -> T:
    """What `look` gives as soon as it is something."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < deadline, f"it did not come about in {patience:g} s"
        time.sleep(_LOOK_AGAIN)
    return seen


@dataclass(frozen=True)
class Played:
    """What a player sees of a file: size in pixels, length in seconds, number of pictures that
    decode.
    """

    size: str
    seconds: float
    pictures: int


def play(film: Path | bytes) -> Played:
    """Decode a film to its last picture."""
    with av.open(BytesIO(film) if isinstance(film, bytes) else str(film), "r") as container:
        stream = container.streams.video[0]
        size = f"{stream.width}x{stream.height}"
        pictures = sum(1 for _ in container.decode(stream))
        return Played(size, (container.duration or 0) / av.time_base, pictures)


def arm(upstream: str, **fault: Any) -> None:
    """Script a fault (`local.simulator.faults`) into the simulator."""
    answer = httpx.post(f"{upstream}/_sim/faults", json=fault, trust_env=False)
    assert answer.status_code == 200, answer.text


def asked(upstream: str, operation: str) -> list[dict[str, Any]]:
    """What the simulator was asked, oldest first."""
    requests = httpx.get(f"{upstream}/_sim/requests", trust_env=False).json()
    return [each for each in requests if operation in (each["operation"], "any")]


def accepted(upstream: str) -> list[dict[str, Any]]:
    """Every create the simulator ever accepted, oldest first."""
    jobs: list[dict[str, Any]] = httpx.get(f"{upstream}/_sim/jobs", trust_env=False).json()["data"]
    return jobs
