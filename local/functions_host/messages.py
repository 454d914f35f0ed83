"""Queue messages on the wire, as the Functions queue extension writes and expects them: base64 of
the body, or the body itself where host.json says `messageEncoding: none`.
"""

import base64

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

Body = str | bytes
BASE64 = "base64"


def decode(content: str, encoding: str = BASE64) -> bytes:
    """The body in a message's text. Raises ValueError if it is not base64 where it has to be."""
    return base64.b64decode(content, validate=True) if encoding == BASE64 else content.encode()


async def send(connection: str, queue: str, body: Body, encoding: str = BASE64) -> None:
    """Add a message with `body` to `queue`, which is created if it is not there."""
    data = body.encode() if isinstance(body, str) else body
    await send_text(connection, queue, (base64.b64encode(data) if encoding == BASE64 else data).decode())


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
