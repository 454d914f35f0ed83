"""What of a gateway's state is there only while something is going on, for those who check that everything was given back."""

from collections.abc import AsyncIterator, Iterable

import msgspec

from shared.capacity import State
from shared.gateway import Gateway
from shared.tables import partition_of
from shared.video import GATEWAY_OWNER


async def left_over(gateway: Gateway, models: Iterable[str], owners: Iterable[str]) -> AsyncIterator[str]:
    """Reservations, slots, places in the queue, notes and unfinished videos, in words; what is cheapest to see comes first."""
    keys = list(owners)
    for owner in (*keys, GATEWAY_OWNER):
        account = await gateway.ledger.account(owner)
        if account is not None and (account.reserved or account.running):
            yield f"{account.reserved} reserved for {account.running} videos of {owner}"
    for model in models:
        async for row in gateway.tables.pools.scan(partition_of(model)):
            if row.key == "state":
                state = msgspec.json.decode(row.values["state"], type=State)
                for holder in (video_id for load in state.loads.values() for video_id in load.leases):
                    yield f"slot of {holder}"
                if state.waiting:
                    yield f"{state.waiting} counted as waiting"
            elif row.key.startswith(("video_", "wait_")):
                yield f"row {row.key}"
    async for row in gateway.tables.gateway.scan(GATEWAY_OWNER, after="hold_", before="hold`"):
        yield f"row {row.key}"
    for owner in keys:
        async for video in gateway.ledger.videos(owner):
            if not video.finished:
                yield f"video {video.id}, {video.status}"
