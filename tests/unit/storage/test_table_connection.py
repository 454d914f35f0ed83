"""Which connection a request takes: one that is kept, or a new one; and whom it trusts."""

import asyncio
import gc
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.storage import table_connection, table_requests
from shared.storage.account import Account
from shared.storage.http_connection import Unanswered
from shared.storage.table_connection import Connection
from shared.storage.table_signing import SharedKey

pytestmark = pytest.mark.anyio

SIGNER = SharedKey(Account("here", b"key", {}))
READ = table_requests.read("t", "p", "r")
NOW, LATER = 0.0, math.inf  # times of the event loop
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Counts its connections, and answers while `open` is set."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.heads: list[bytes] = []
        self.came: asyncio.Queue[None] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._served: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._served.append(asyncio.current_task())
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                self.requests += 1
                self.came.put_nowait(None)
                await self.open.wait()
                writer.write(ANSWER)
        writer.close()

    async def close_all(self) -> None:
        for writer in self._writers:
            writer.close()
        await self.ended()

    async def ended(self) -> None:
        """All connections are over."""
        self.open.set()
        await asyncio.gather(*filter(None, self._served))


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Connection, Server]]:
    server = Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls) as sockets:
        port = sockets.sockets[0].getsockname()[1]
        connection = Connection(f"http{'s' if tls else ''}://localhost:{port}", SIGNER)
        yield connection, server
        await connection.close()
        await server.ended()


async def begun(connection: Connection, server: Server, count: int) -> list[asyncio.Task[object]]:
    """Requests that the server has, and does not answer."""
    server.open.clear()
    server.came = asyncio.Queue()
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(connection.ask(READ, LATER)) for _ in range(count)]
    for _ in range(count):
        await server.came.get()
    return tasks


async def test_requests_in_a_row_share_a_connection() -> None:
    async with listening() as (connection, server):
        for _ in range(5):
            assert (await connection.ask(READ, LATER)).body == b"{}"
        assert server.connections == 1


async def test_a_change_tells_its_length_and_a_read_has_none() -> None:
    async with listening() as (connection, server):
        for request in (table_requests.delete("t", "p", "r", "*"), READ):
            await connection.ask(request, LATER)
        assert [b"content-length: 0\r\n" in head for head in server.heads] == [True, False]


async def test_requests_at_once_have_one_each_and_later_ones_take_these() -> None:
    async with listening() as (connection, server):
        for _ in range(3):
            tasks = await begun(connection, server, 3)
            server.open.set()
            await asyncio.gather(*tasks)
        assert server.connections == 3


async def test_no_more_connections_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_connection, "_CONNECTIONS", 2)
    async with listening() as (connection, server):
        tasks = [*await begun(connection, server, 2), *(asyncio.create_task(connection.ask(READ, LATER)) for _ in range(8))]
        server.open.set()
        await asyncio.gather(*tasks)
        assert (server.connections, server.requests) == (2, 10)


async def test_a_request_whose_turn_does_not_come_is_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was never sent, and keeps nobody from a later turn."""
    monkeypatch.setattr(table_connection, "_CONNECTIONS", 2)
    async with listening() as (connection, server):
        tasks = await begun(connection, server, 2)
        for _ in range(3):
            with pytest.raises(Unanswered, match="all connections"):
                await connection.ask(READ, NOW)
        server.open.set()
        await asyncio.gather(*tasks)
        assert (await connection.ask(READ, LATER)).status == 200
        assert (server.connections, server.requests) == (2, 3)


async def test_nothing_is_waited_for_longer_than_the_request_has() -> None:
    """Neither a connection nor an answer on one that is there."""
    async with listening() as (connection, server):
        with pytest.raises(Unanswered):
            await connection.ask(READ, NOW)
        await connection.ask(READ, LATER)
        server.open.clear()
        with pytest.raises(Unanswered, match="no answer in time"):
            await connection.ask(READ, NOW)


async def test_a_connection_that_the_server_has_closed_is_not_used() -> None:
    async with listening() as (connection, server):
        await connection.ask(READ, LATER)
        await server.close_all()
        assert (await connection.ask(READ, LATER)).status == 200
        assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as (connection, server):
        await connection.ask(READ, LATER)
        monkeypatch.setattr(table_connection, "_IDLE", 0.0)
        await connection.ask(READ, LATER)
        assert server.connections == 2


async def test_a_request_that_is_given_up_takes_its_connection_along() -> None:
    """Its answer may still come, and would be the next request's."""
    async with listening() as (connection, server):
        (task,) = await begun(connection, server, 1)
        task.cancel()
        server.open.set()
        assert (await connection.ask(READ, LATER)).status == 200
        assert server.connections == 2


async def test_a_request_that_is_given_up_at_any_moment_leaves_no_socket() -> None:
    """Its connection may just have been made, and then has nobody to whom it belongs."""
    async with listening() as (connection, server):
        for turns in range(20):
            task = asyncio.create_task(connection.ask(READ, LATER))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.close_all()  # so that the next one is made anew
        gc.collect()  # warns of each that is left, which fails the test


async def test_a_request_under_way_ends_its_connection_when_all_are_closed() -> None:
    async with listening() as (connection, server):
        (task,) = await begun(connection, server, 1)
        await connection.close()
        server.open.set()
        await task
        await server.ended()


async def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_connection, "_ANSWERED", 0.0)
    async with listening() as (connection, server):
        server.open.clear()
        with pytest.raises(Unanswered):
            await connection.ask(READ, LATER)


async def test_a_server_that_does_not_listen_is_unanswered() -> None:
    async with listening() as (connection, _):
        pass
    with pytest.raises(Unanswered):
        await connection.ask(READ, LATER)


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("localhost", False), ("elsewhere.example", True)])
async def test_only_a_server_that_the_machine_trusts_by_its_name_is_asked(
    name: str, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(name, tmp_path / "server.pem")
    known = ssl.create_default_context(cafile=str(file) if trusted else None)
    monkeypatch.setattr(ssl, "create_default_context", lambda: known)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    async with listening(tls) as (connection, server):
        if name == "localhost" and trusted:
            for _ in range(2):
                assert (await connection.ask(READ, LATER)).body == b"{}"
            assert server.connections == 1
        else:
            with pytest.raises(Unanswered):
                await connection.ask(READ, LATER)
            assert server.requests == 0


async def test_whom_the_machine_trusts_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the many requests at once of a cold start."""
    file = certificate("localhost", tmp_path / "server.pem")
    known, reads = ssl.create_default_context(cafile=str(file)), count()
    monkeypatch.setattr(ssl, "create_default_context", lambda: known if next(reads) == 0 else None)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    async with listening(tls) as (connection, server):
        await asyncio.gather(*(connection.ask(READ, LATER) for _ in range(8)))
        assert (server.requests, next(reads)) == (8, 1)


def certificate(name: str, file: Path) -> Path:
    """A certificate of its own, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return file
