"""The blob output, against a real blob service."""

import json
from pathlib import Path
from uuid import uuid4

import azure.functions as func
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import BlobClient

from local.functions_host.functions import read
from local.functions_host.invocation import Invoker

pytestmark = pytest.mark.anyio


class Bench:
    """An activity that puts out `value`, and fails where it is told to."""

    def __init__(self, connection: str, folder: Path) -> None:
        self.connection, self.container = connection, f"c-{uuid4().hex}"
        self.value: str | bytes | None = None
        self.fails = False
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

        @app.generic_trigger(arg_name="given", type="activityTrigger")
        @app.blob_output(arg_name="out", path="%CONTAINER%/in/{instanceId}.json", connection="Storage")
        async def activity(given: str, out: func.Out[str]) -> bool:
            if self.value is not None:
                out.set(self.value)  # type: ignore[arg-type]
            if self.fails:
                raise RuntimeError("no")
            return True

        functions = read(app, folder, {"CONTAINER": self.container, "Storage": connection})
        self._function, self._invoker = functions.members[0], Invoker(functions, lambda: "{}")

    async def run(self) -> None:
        assert await self._invoker.call(self._function, "given", {"instanceId": "video_1"}) is True

    async def written(self) -> tuple[bytes, str] | None:
        """What the blob holds, and its type."""
        async with BlobClient.from_connection_string(self.connection, self.container, "in/video_1.json") as blob:
            try:
                found = await blob.download_blob()
            except ResourceNotFoundError:
                return None
            return await found.readall(), str(found.properties.content_settings.content_type)


@pytest.mark.parametrize("value", ['{"a": [1]}', b"\x00\xff"])
async def test_what_a_function_puts_out_is_written_as_it_is(azurite: str, tmp_path: Path, value: str | bytes) -> None:
    """Into a container that is made, over what was there, without a type of its own."""
    bench = Bench(azurite, tmp_path)
    for bench.value in ("first", value):
        await bench.run()
    assert await bench.written() == (value if isinstance(value, bytes) else value.encode(), "application/octet-stream")


async def test_nothing_is_written_of_a_function_that_puts_nothing_out_or_fails(azurite: str, tmp_path: Path) -> None:
    bench = Bench(azurite, tmp_path)
    await bench.run()
    bench.value, bench.fails = json.dumps({}), True
    with pytest.raises(RuntimeError):
        await bench.run()
    assert await bench.written() is None
