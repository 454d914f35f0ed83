"""What the benchmark measures, each in a process of its own: storage, the simulated upstream, the
app; and its memory.
"""

import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from local.processes import Child
from tests.trials.bench.load import Client

MASTER_KEY = "sk-bench-0123456789"
UPSTREAM_KEY = "simulated"
_SPEED = 60.0  # how much faster than life the upstream renders: a video of 4 s takes one
_POLL_SECONDS = 0.5
_CHECKOUT = Path(__file__).parents[3]
_STATUS = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class App:
    """A gateway, answering at `url`: the app under the local host, or another one."""

    url: str
    pid: int

    def client(self, key: str = MASTER_KEY) -> Client:
        return Client(f"{self.url}/v1", {"authorization": f"Bearer {key}"})


@dataclass(frozen=True)
class Upstream:
    """The simulated Azure OpenAI. `direct` speaks its API, `simulator` steers it."""

    url: str
    direct: Client
    simulator: Client


@asynccontextmanager
async def simulated_upstream(folder: Path) -> AsyncIterator[Upstream]:
    """Without quotas; its data is in `folder`, which exists. Raises ChildError."""
    command = [sys.executable, "-m", "local.simulator", "--port", "0", "--data", str(folder), "--unlimited"]
    command += ["--speed", f"{_SPEED:g}", "--api-key", UPSTREAM_KEY]
    child = await Child.start("The simulated Azure OpenAI", command, log=folder / "sora.log", environment=_PATH)
    try:
        (line,) = await child.says(r'^\{"url": .*\}$')
        url = json.loads(line.group())["url"]
        async with (
            Client(f"{url}/openai/v1", {"api-key": UPSTREAM_KEY}) as direct,
            Client(f"{url}/_sim", {}) as simulator,
        ):
            yield Upstream(url, direct, simulator)
    finally:
        await child.stop()


@asynccontextmanager
async def running_app(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[App]:
    """`python -m local run` with these app settings and its data in `folder`. Raises ChildError."""
    command = [sys.executable, "-m", "local", "run", "--quiet", "--port", "0", "--data", str(folder)]
    child = await Child.start("The app", command, log=folder / "app.log", environment={**_PATH, **settings})
    try:
        (line,) = await child.says(r"^ +URL +(http\S+)$")
        yield App(line[1], child.pid)
    finally:
        await child.stop()


def app_settings(folder: Path, storage: str, upstream: str, delivery: str) -> dict[str, str]:
    """App settings for one model that is never full, with a configuration file in `folder`, which
    is made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    model = {"model_name": "bench", "params": {"model": "azure/sora-2", "max_running": 10_000, "creates_per_minute": 100_000}}
    config = {"model_list": [model], "gateway": {"poll_seconds": _POLL_SECONDS, "delivery": delivery}}
    (folder / "bench.yaml").write_text(yaml.safe_dump(config))
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
        "GATEWAY_CONFIG": str(folder / "bench.yaml"),
        "GATEWAY_MASTER_KEY": MASTER_KEY,
        "TASK_HUB": "Bench",
    }


@dataclass(frozen=True)
class Memory:
    """What a process holds in memory now, and the most it held since `forget_peak()`: in bytes."""

    resident: int
    peak: int


def memory(pid: int) -> Memory:
    """Linux only."""
    return parse_memory(Path(f"/proc/{pid}/status").read_text())


def parse_memory(status: str) -> Memory:
    """From the text of /proc/<pid>/status (proc(5)): VmRSS and VmHWM."""
    kibibytes = {name: int(number) for name, number in _STATUS.findall(status)}
    return Memory(kibibytes["VmRSS"] * 1024, kibibytes["VmHWM"] * 1024)


def processor_seconds(pid: int) -> float:
    """What a process has taken of the processor. Linux only."""
    return parse_processor(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")


def parse_processor(stat: str) -> int:
    """From the text of /proc/<pid>/stat (proc(5)): the clock ticks of its own code and of the
    kernel's for it, the 14th and the 15th field. The second, in brackets, may have spaces.
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def forget_peak(pid: int) -> None:
    """Start the peak again from what is held now: proc(5), 5 in /proc/<pid>/clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


_PATH = {"PYTHONPATH": str(_CHECKOUT)}
