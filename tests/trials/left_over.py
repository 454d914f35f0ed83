"""What of a gateway's state is there only while something is going on, for those who check that
everything was given back.
"""

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec
from azure.core.exceptions import ResourceNotFoundError

from shared.capacity.slots import State
from shared.events.deliveries import MAIL
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER
from shared.storage.blobs import REFERENCES
from shared.storage.event_marks import UNTOLD
from shared.storage.tables import Row, partition_of


async def left_over(gateway: Gateway, models: Iterable[str], owners: Iterable[str]) -> AsyncIterator[str]:
    """Reservations, slots, places in the queue, notes, unfinished videos and reference images, in
    words.

    What is cheapest to see comes first.
    """
    keys = list(owners)
    for owner in (*keys, GATEWAY_OWNER):
        account = await gateway.ledger.account(owner)
        if account is not None and (account.reserved or account.running):
            yield f"{account.reserved} reserved for {account.running} videos of {owner}"
    for model in models:
        async for row in gateway.tables.pools.scan(partition_of(model)):
            for each in _kept(row):
                yield each
    async for row in gateway.tables.gateway.scan(GATEWAY_OWNER, after="hold_", before="hold`"):
        yield f"row {row.key}"
    async for each in _untold(gateway, keys):
        yield each
    for owner in keys:
        async for video in gateway.videos.of(owner):
            if not video.finished:
                yield f"video {video.id}, {video.status}"
        async for image in _references(gateway, owner):
            yield f"reference image {image}"


async def _untold(gateway: Gateway, owners: Iterable[str]) -> AsyncIterator[str]:
    """What is still to be told, or is on its way."""
    table = gateway.tables.gateway
    for owner in owners:
        async for row in table.beginning_with(owner, "event_"):
            yield f"mark {row.key}"
    async for row in table.scan(UNTOLD):
        yield f"mark {row.key}"
    for name in gateway.couriers.destinations:
        async for row in table.scan(f"{MAIL}{name}"):
            yield f"delivery {row.key} to {name}"


def _kept(row: Row) -> Iterator[str]:
    """What a row of a model's partition still holds."""
    if row.key.startswith(("video_", "wait_")):
        yield f"row {row.key}"
    if row.key.startswith("state"):
        state = msgspec.json.decode(row.values["state"], type=State)
        yield from (f"slot of {holder}" for load in state.loads.values() for holder in load.leases)


async def _references(gateway: Gateway, owner: str) -> AsyncIterator[str]:
    container = gateway.archive._connect().get_container_client(REFERENCES)
    try:
        async for name in container.list_blob_names(name_starts_with=f"{owner}/"):
            yield name
    except ResourceNotFoundError:
        return  # nobody has stored one yet
