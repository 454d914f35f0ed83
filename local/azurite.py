"""Azurite, the storage emulator, as a child process with its data in one directory."""

import asyncio
import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from local.processes import Child, ChildError

# The account every Azure storage emulator has; the key is public by design.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

Say = Callable[[str], None]

_SERVICES = ("Blob", "Queue", "Table")
_USUAL_PORTS = (10000, 10001, 10002)
_ANY_PORTS = (0, 0, 0)
_AUTOSAVE = Path(__file__).with_name("azurite_autosave.cjs")
_CONNECTION = "connection"  # how to reach the Azurite that runs on a directory
_LOOK_AGAIN_SECONDS = 0.05


class AzuriteError(RuntimeError):
    """Azurite cannot be started; the message says what to do."""


class Azurite:
    """Serves blobs, queues and tables from `directory` between `async with` and its end.

    It listens on its usual ports 10000 to 10002 if all are free, else on any. It runs in a session
    of its own and gets SIGTERM when this process ends, so it saves its data even when our whole
    process group is killed. Without `keep` its data is in memory alone, and gone at the end. An
    Azurite that is still shutting down on the same directory is waited for, `patience` seconds
    long, after a line to `say`. Raises AzuriteError if it is not installed or the directory is in
    use, ChildError if it does not start.
    """

    def __init__(
        self,
        directory: Path,
        executable: Path | None = None,
        *,
        patience: float = 15.0,
        say: Say | None = None,
        keep: bool = True,
    ) -> None:
        self._directory = directory
        self._executable = executable
        self._patience = patience
        self._keep = keep
        self._say = say
        self._child: Child | None = None
        self._ports: dict[str, str] = {}

    @property
    def connection_string(self) -> str:
        """What `AzureWebJobsStorage` is set to; known once it is running."""
        endpoints = "".join(f"{name}Endpoint=http://127.0.0.1:{self._ports[name]}/{ACCOUNT};" for name in _SERVICES)
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};{endpoints}"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise AzuriteError("Azurite is not running")
        return self._child.pid

    async def __aenter__(self) -> Self:
        if all(map(_is_free, _USUAL_PORTS)):
            try:
                await self._launch(_USUAL_PORTS)
            except ChildError:  # another program took one of them meanwhile
                await self._launch(_ANY_PORTS)
        else:
            await self._launch(_ANY_PORTS)
        return self

    async def _launch(self, ports: Sequence[int]) -> None:
        script = _installed(self._executable)
        node = await _node()
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = await self._lock()
        try:
            self._child = await Child.start(
                "Azurite",
                [node, "--require", _AUTOSAVE, script, *self._arguments(ports)],
                log=self._directory / "azurite.log",
                keep=[lock],
            )
        finally:
            os.close(lock)  # node has inherited it, and holds it until it exits
        try:
            started = await self._child.says(
                r"^Azurite (\w+) service is successfully listening at http://127\.0\.0\.1:(\d+)$", times=len(_SERVICES)
            )
        except BaseException:
            await self._child.stop()
            raise
        self._ports = {line[1]: line[2] for line in started}
        (self._directory / _CONNECTION).write_text(self.connection_string)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            await self._child.stop()

    def _arguments(self, ports: Sequence[int]) -> list[str]:
        listen = [f"--{name.lower()}Port={port}" for name, port in zip(_SERVICES, ports, strict=True)]
        data = ["--location", str(self._directory)] if self._keep else ["--inMemoryPersistence"]
        return ["--silent", "--disableTelemetry", "--skipApiVersionCheck", *data, *listen]

    async def _lock(self) -> int:
        """Lock the directory and return the open file. flock(2) belongs to the open file, so a
        child that inherits it holds the lock.
        """
        lock = os.open(self._directory / "azurite.lock", os.O_RDWR | os.O_CREAT, 0o644)
        begun = time.monotonic()
        deadline, told = begun + self._patience, False
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if self._say is not None and not told:
                        self._say(f"Waiting up to {self._patience:g} s for {_holder(lock)}, which uses {self._directory}")
                        told = True
                    if time.monotonic() >= deadline:
                        raise AzuriteError(
                            f"another Azurite still uses {self._directory}: stop it, or choose another data directory"
                        ) from None
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                else:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, str(os.getpid()).encode(), 0)
                    return lock
        except BaseException:
            os.close(lock)
            raise


def connection_of(directory: Path) -> str | None:
    """The connection string of the Azurite that serves this directory now; None if none does."""
    try:
        lock = os.open(directory / "azurite.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return (directory / _CONNECTION).read_text()
    finally:
        os.close(lock)
    return None


async def share_blobs(connection: str, *, with_pages: bool) -> None:
    """Set what the templates set in Azure: whether scripts of web pages may read signed URLs."""
    from azure.storage.blob import CorsRule
    from azure.storage.blob.aio import BlobServiceClient

    rule = CorsRule(["*"], ["GET", "HEAD"], allowed_headers=["*"], exposed_headers=["*"], max_age_in_seconds=3600)
    async with BlobServiceClient.from_connection_string(connection) as blobs:
        await blobs.set_service_properties(cors=[rule] if with_pages else [])


def _holder(lock: int) -> str:
    """The holder of the lock, by the process id it wrote there."""
    pid = os.pread(lock, 20, 0).decode(errors="replace")
    return f"process {pid}" if pid.isdecimal() else "another process"


def _installed(executable: Path | None) -> Path:
    """Azurite's script: the given one, the one `AZURITE` names, or the checkout's."""
    beside_the_app = Path(__file__).parent.parent / "node_modules" / ".bin" / "azurite"
    chosen = executable or Path(os.environ.get("AZURITE") or beside_the_app)
    if not chosen.exists():
        raise AzuriteError(f"Azurite is not installed ({chosen} does not exist): run `make setup`")
    return chosen.resolve()


async def _node() -> str:
    """The path of the node binary. `node` may be a wrapper that does not pass SIGTERM on, so it is
    asked for its binary.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which("node", path=path)
    if found is None:
        raise AzuriteError("Azurite needs Node.js, and no `node` is installed: run `make setup`")
    asked = await asyncio.create_subprocess_exec(found, "-p", "process.execPath", stdout=asyncio.subprocess.PIPE)
    answer, _ = await asked.communicate()
    if asked.returncode != 0:
        raise AzuriteError(f"{found} does not run: run `make setup`")
    return answer.decode().strip()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
