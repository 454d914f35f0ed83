"""The HTTP session that azure-functions-durable 1.7 keeps for a whole process, on the event loop
that first used it.

A Functions worker has one loop for ever. Here hosts come and go with their loops, and the session
of a loop that is closed is of no use to the next. So it is opened before functions can race for it
(the SDK's lock, too, belongs to the first loop that has to wait for it), and closed when the last
host of the process ends.
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
