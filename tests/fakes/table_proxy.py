"""Azurite's table service behind a line that can fail, for tests of what a client makes of it."""

import asyncio
from typing import Literal, Self
from urllib.parse import urlsplit

Fault = Literal["not reached", "answer lost", "none"] | bytes
"""What happens to a request: bytes are the answer, instead of Azurite's."""


class TableProxy:
    """Does to each request what the next of `faults` says, and passes on those after the last."""

    def __init__(self, connection_string: str) -> None:
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # the first line of each
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        self._real = urlsplit(parts["TableEndpoint"])
        self._parts = parts

    @property
    def connection_string(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        here = self._real._replace(netloc=f"127.0.0.1:{port}").geturl()
        return ";".join(f"{name}={value}" for name, value in {**self._parts, "TableEndpoint": here}.items())

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        self.requests.append(head.partition(b"\r\n")[0].decode())
        fault = self.faults.pop(0) if self.faults else "none"
        answer = fault if isinstance(fault, bytes) else b""
        if fault in ("none", "answer lost"):
            answer = await self._passed_on(head, body)
        if fault != "answer lost":
            writer.write(answer)
        writer.close()

    async def _passed_on(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._real.hostname, self._real.port)
        writer.write(head[:-2] + b"connection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        return answer
