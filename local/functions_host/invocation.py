"""Calls a function with an argument for each of its bindings, and delivers what it put into its
outputs.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

import azure.functions as func
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.functions.blob import BlobConverter
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from local.functions_host.functions import Binding, Function, Functions
from local.functions_host.messages import BASE64, Body, send

_BLOB_TYPE = "application/octet-stream"
_EXPRESSION = re.compile(r"\{([^}]+)\}")


class Out(func.Out[Any]):
    """What a function with an output binding is given: the value it sets last is delivered when it
    has returned.
    """

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


class Invoker:
    """Runs functions: async ones on the loop, plain ones in the thread pool.

    `client_binding` gives the JSON text for `durableClient` arguments.
    """

    def __init__(self, functions: Functions, client_binding: Callable[[], str]) -> None:
        self._functions = functions
        self._client_binding = client_binding

    async def call(self, function: Function, trigger: Any, data: Mapping[str, str]) -> Any:
        """Call `function` with `trigger` as its trigger's argument; return what it returns.

        `data` are the values for `{name}` in the names of output queues and blobs. Whatever the
        function raises is passed on, and then nothing is delivered.
        """
        arguments: dict[str, Any] = {function.trigger.name: trigger}
        outputs = [binding for binding in function.others if binding.kind in ("queue", "blob")]
        for binding in function.others:
            if binding.kind == "durableClient":
                arguments[binding.name] = self._client_binding()
        for binding in outputs:
            if binding.name != "$return":
                arguments[binding.name] = Out()
        if inspect.iscoroutinefunction(function.call):
            result = await function.call(**arguments)
        else:
            result = await asyncio.to_thread(function.call, **arguments)
        for binding in outputs:
            value = result if binding.name == "$return" else arguments[binding.name].get()
            await self._deliver(binding, value, data)
        return result

    async def _deliver(self, binding: Binding, value: Any, data: Mapping[str, str]) -> None:
        if value is None:
            return
        connection = self._functions.connection(binding.properties["connection"])
        if binding.kind == "blob":
            await _write(connection, expand(binding.properties["path"], data), value)
            return
        queue = expand(binding.properties["queueName"], data)
        encoding = self._functions.extension("queues").get("messageEncoding", BASE64)
        for message in value if isinstance(value, list | tuple) else [value]:
            await send(connection, queue, _body(message), encoding)


async def _write(connection: str, path: str, value: Any) -> None:
    """Write a blob as the host does: over what is there, without a type of its own, into a
    container that it makes.
    """
    container, _, name = path.partition("/")
    content = BlobConverter.encode(value, expected_type=None).value
    async with BlobServiceClient.from_connection_string(connection) as service:
        blob = service.get_blob_client(container, name)
        try:
            await _upload(blob, content)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):  # another one was first
                await service.create_container(container)
            await _upload(blob, content)


async def _upload(blob: BlobClient, content: str | bytes) -> None:
    await blob.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_type=_BLOB_TYPE))


def expand(template: str, data: Mapping[str, str]) -> str:
    """`template` with `{rand-guid}` and every `{name}` replaced. Raises ValueError for a name that
    is not in `data`.
    """

    def value(expression: re.Match[str]) -> str:
        name = expression[1]
        if name == "rand-guid":
            return str(uuid4())
        if name not in data:
            raise ValueError(f"{template!r}: nothing is called {name} in this invocation")
        return data[name]

    return _EXPRESSION.sub(value, template)


def message_data(text: str) -> dict[str, str]:
    """What a queue message offers to binding expressions: its text, and its properties if it is a
    JSON object.
    """
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    properties = parsed.items() if isinstance(parsed, dict) else ()
    return {"queueTrigger": text, **{name: str(value) for name, value in properties}}


def _as_the_host_writes(text: str) -> str:
    """A text that is a JSON object or array comes out with the host's own indentation."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return json.dumps(parsed, indent=2, ensure_ascii=False) if isinstance(parsed, dict | list) else text


def _body(message: Any) -> Body:
    if isinstance(message, func.QueueMessage):
        return message.get_body()
    if isinstance(message, str):
        return _as_the_host_writes(message)
    if isinstance(message, bytes):
        return message
    raise TypeError(f"a queue message must be str, bytes or QueueMessage, not {type(message).__name__}")
