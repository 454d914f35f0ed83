"""The shared HTTP client knows nothing of its earlier calls."""

import pytest

from shared.upstream.identity import Connections
from tests.unit.upstream.test_client import loopback

pytestmark = pytest.mark.anyio


async def test_a_cookie_is_neither_kept_nor_sent_to_another_tenant() -> None:
    """Two receivers at one IP address, as webhooks are sent: they differ by their `Host` alone."""
    connections = Connections(None)
    setting = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=a; Path=/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with loopback(setting) as (base, heads):
        for host in ("a.example", "b.example"):
            await connections.http().post(base, headers={"host": host}, content=b"{}")
    assert len(heads) == 2 and b"cookie:" not in heads[1].lower()
    assert not connections.http().cookies
    await connections.close()
