"""A region is lost, and the gateway is brought back on another storage account by the commands that
docs/operations.md names.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.__main__ import main
from local.azurite import Azurite
from shared.config.exports import Exports
from shared.config.settings import Storage
from shared.storage.export_files import ExportFiles
from tests.fakes.stack import MASTER_KEY, MODEL, Served, client, serving, wait_for_end

BODY = {"prompt": "A cat", "model": MODEL, "seconds": "4", "size": "720x1280"}
PRICE = 0.4  # dollars


@contextmanager
def account(runner: asyncio.Runner, folder: Path) -> Iterator[str]:
    """A storage account of its own, by its connection string."""
    storage = Azurite(folder, keep=False)
    runner.run(storage.__aenter__())
    try:
        yield storage.connection_string
    finally:
        runner.run(storage.__aexit__(None, None, None))


async def replicated(old: str, new: str) -> None:
    """The files of the lost account, as storage in another region has them."""
    source, target = (ExportFiles(Storage(each), lambda: None, Exports().container) for each in (old, new))
    for name in await source.names(""):
        await target.save(name, source.read(name))
    await source.close()
    await target.close()


def made(served: Served, key: str) -> str:
    with client(served.url, key) as caller:
        video_id = str(caller.post("/v1/videos", json=BODY).json()["id"])
        assert wait_for_end(caller, video_id)["status"] == "completed"
    return video_id


def told(served: Served, key: str) -> Any:
    """The videos of a key as it sees them, and its budget as the operator does."""
    with client(served.url, key) as caller, client(served.url, MASTER_KEY) as operator:
        info = operator.get("/key/info", params={"key": key}).json()["info"]
        return caller.get("/v1/videos").json(), {name: info[name] for name in ("spend", "max_budget", "key_alias")}


def create(served: Served, key: str) -> httpx.Response:
    with client(served.url, key) as caller:
        return caller.post("/v1/videos", json=BODY)


def test_a_gateway_goes_on_in_another_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys, spend and lists are as before; a used-up budget, and a deleted key, stay so."""
    with ExitStack() as running:
        runner = running.enter_context(asyncio.Runner())
        old, new = (running.enter_context(account(runner, tmp_path / name)) for name in ("old", "new"))
        with serving(old, tmp_path / "first") as lost:
            poor, rich, gone = (
                lost.new_key(max_budget=limit, key_alias=name) for name, limit in (("poor", PRICE), ("rich", 10), ("gone", 10))
            )
            for key in (poor, rich, rich, gone):
                made(lost, key)
            with lost.client(MASTER_KEY) as operator:
                assert operator.post("/key/delete", json={"keys": [gone]}).status_code == 200
            before = [told(lost, key) for key in (poor, rich)]
            monkeypatch.setenv("AzureWebJobsStorage", old)
            assert main(["export"]) == 0
        runner.run(replicated(old, new))
        monkeypatch.setenv("AzureWebJobsStorage", new)
        assert main(["restore"]) == 0
        assert "4 keys" in capsys.readouterr().out
        assert main(["audit"]) == 0
        assert main(["restore"]) == 1
        assert "restored into these tables before" in capsys.readouterr().err
        with serving(new, tmp_path / "second") as back:
            assert [told(back, key) for key in (poor, rich)] == before
            assert create(back, poor).json()["error"]["code"] == "budget_exceeded"
            assert create(back, gone).status_code == 401
            made(back, rich)
