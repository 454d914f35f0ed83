"""The HTTP session that azure-functions-durable 1.7 keeps per process, on the event loop that first
used it.

A Functions worker has one loop for its whole life. Here hosts come and go, each with its loop, and
the session of a closed loop cannot be used by the next. So the session is opened before functions
can compete for it (the SDK's lock, too, belongs to the first loop that waits for it), and closed
when the last host of the process ends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from azure.durable_functions.models.utils.http_utils import _close_session, _get_session

_hosts: set[object] = set()


@asynccontextmanager
async def sdk_session() -> AsyncIterator[None]:
    """Keep the SDK's session usable on the running loop."""
    user = object()
    _hosts.add(user)
    await _get_session()
    try:
        yield
    finally:
        _hosts.remove(user)
        if not _hosts:
            await _close_session()
