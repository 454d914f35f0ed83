"""Indexes an unpacked app with the Functions worker's own library, as Azure does when it starts.
Python 3.13 and later.

A script for an environment that has the app's requirements and `azure-functions-runtime`, and
nothing of this checkout: `python worker_index.py APP_FOLDER` prints the functions and then their
number, or fails as the worker would.
"""

import asyncio
import importlib
import sys
from types import SimpleNamespace
from typing import Any

# The message types that the worker hands to its library. It reads and sets attributes only.
_MESSAGES = (
    "RpcFunctionMetadata FunctionMetadataResponse WorkerInitResponse WorkerMetadata RpcException RpcRetryOptions TypedData "
    "RpcHttp InvocationResponse ParameterBinding FunctionLoadResponse"
)


def protos() -> SimpleNamespace:
    """A stand-in for the generated messages: classes that keep what they are given."""
    kinds: dict[str, Any] = {name: type(name, (SimpleNamespace,), {}) for name in _MESSAGES.split()}
    kinds["BindingInfo"] = type("BindingInfo", (SimpleNamespace,), {"undefined": 0, "out": 1, "inout": 2})
    kinds["StatusResult"] = type("StatusResult", (SimpleNamespace,), {"Failure": 0, "Success": 1})
    return SimpleNamespace(**kinds)


async def index(folder: str) -> list[str]:
    """The names of the functions that the worker's library finds. Raises RuntimeError with the
    worker's complaint.
    """
    worker: Any = importlib.import_module("azure_functions_runtime")
    properties = {"host": "127.0.0.1", "protos": protos()}
    begin = SimpleNamespace(capabilities={}, function_app_directory=folder)
    metadata = SimpleNamespace(function_app_directory=folder)
    started = await worker.worker_init_request(
        SimpleNamespace(request=SimpleNamespace(worker_init_request=begin), properties=properties)
    )
    _raise_for(started.result)
    found = await worker.functions_metadata_request(
        SimpleNamespace(request=SimpleNamespace(functions_metadata_request=metadata), properties=properties)
    )
    _raise_for(found.result)
    return sorted(function.name for function in found.function_metadata_results)


def _raise_for(result: Any) -> None:
    if result.status != 1:
        raise RuntimeError(f"The worker refuses the app: {vars(result.exception)}")


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]  # the worker starts in the app's folder, not in this one
    names = asyncio.run(index(sys.argv[1]))
    print("\n".join(names), len(names), sep="\n")
