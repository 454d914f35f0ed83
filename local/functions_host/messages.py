"""Queue messages on the wire: base64 of the body, as the Functions queue extension writes and
expects them.
"""

import base64

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

Body = str | bytes


def decode(content: str) -> bytes:
    """The body in a message's text. Raises ValueError if it is not base64."""
    return base64.b64decode(content, validate=True)


async def send(connection: str, queue: str, body: Body) -> None:
    """Add a message with `body` to `queue`, which is created if it is not there."""
    encoded = base64.b64encode(body.encode() if isinstance(body, str) else body).decode()
    await send_text(connection, queue, encoded)


async def send_text(connection: str, queue: str, content: str) -> None:
    """Add a message with exactly this text."""
    async with QueueClient.from_connection_string(connection, queue) as client:
        try:
            await client.send_message(content)
        except ResourceNotFoundError:
            await _create(client)
            await client.send_message(content)


async def _create(queue: QueueClient) -> None:
    try:
        await queue.create_queue()
    except ResourceExistsError:
        return  # another sender was first
