"""What only the sweep does, in an app that dies of it: each story begins with something broken,
forgotten or too old.
"""

from datetime import timedelta
from typing import Any

import msgspec

from shared.accounts.idempotency import PREFIX
from shared.accounts.spend_lines import SPEND
from shared.config.exports import Exports
from shared.events.alerts import TOLD
from shared.media.video import new_id
from shared.storage.export_text import packed, unpacked
from shared.storage.tables import Delete, Insert, Table, partition_of
from shared.storage.video_store import INDEXING, UPKEEP, listed
from shared.upkeep.exporting import name_at, names_of, open_files
from tests.trials.crash.client import until
from tests.trials.crash.stage import Stage
from tests.trials.crash.stories import BUDGET, LONG, MANIFESTS, equal, heard_of, made, picture, told
from tests.trials.crash.story import Story

_ADMITS = "create_video: _admit: keys[+listing +once +video ~key]: before"
_A_WHILE = 300.0  # seconds
_STARTS = "create_video: _start_orchestration: durable.start_new: before"
_MOVED = "submit: _move: keys[~key ~video]: after"
_ACCEPTED = "submit: _end: asks[-ask]: before"
_WRITTEN = "finish: blob.upload_blob manifest: before"
_LEAVES = "leave: _leave: pool[-note]: before"
_SETTLED = "finish: keys[~key ~video]: after"
_ADMITTED = "create_video: _admit: keys[+event +listing +once +video ~key]: after"
_HANDED_OVER = "create_video: publish: mail[+delivery]: after"
_LOOKED = "check: _look: upstream.get: after"
EXPORTS = Exports(kept=1)
# From then on nothing of today is kept: retention of a day, claims on jobs of three, an
# Idempotency-Key of a day.
_DAYS_LATER = timedelta(days=3.9)


async def _swept(stage: Stage, _: Any) -> None:
    await stage.swept()


async def _swept_at_rest(stage: Stage, _: Any) -> None:
    await stage.at_rest()
    await stage.swept()


async def _swept_twice(stage: Stage, _: Any) -> None:
    await stage.swept()
    await stage.swept()


async def _create(stage: Stage) -> str:
    return await stage.client.create()


async def _blocked(stage: Stage) -> None:
    await stage.client.refused("content_policy_violation")


async def _both_heard(stage: Stage) -> list[str]:
    """The provider and the queue, each of the one request."""
    heard = (stage.receiver.seen, await stage.queued_events())
    seen, queued = ({each for each in events if each.endswith(".blocked")} for events in heard)
    return [] if seen == queued and len(seen) == 1 else [f"the provider has heard of {seen}, the queue of {queued}"]


async def _create_with_reference(stage: Stage) -> str:
    return await stage.client.create(**picture())


async def _create_long(stage: Stage) -> str:
    return await stage.client.create(**LONG)


async def _create_endless(stage: Stage) -> str:
    """A job that the upstream never ends."""
    return await stage.client.create(prompt="An endless canary")


async def _swept_while_saved(stage: Stage, _: Any) -> None:
    """The sweep ends a video while its bytes arrive; a moment later they are there."""
    stage.fault(kind="trickle", operation="content", bytes_per_second=30_000)
    await stage.client.create()
    await stage.asked("content")
    await stage.swept()


async def _without_manifest(stage: Stage, _: Any) -> None:
    """The engine has given up the step whose output was not written."""
    stage.fail_orchestrations()


async def _deleted_elsewhere(stage: Stage, video_id: str) -> None:
    """By another instance, between the manifest and the end."""
    await stage.gateway.lifecycle.delete(video_id)
    stage.client.deleted.append(video_id)


async def _without_orchestrations(stage: Stage, _: Any) -> None:
    stage.lose_orchestrations()


async def _without_messages(stage: Stage, _: Any) -> None:
    stage.lose_messages()


async def _without_note(stage: Stage, _: Any) -> None:
    """The video is on record, and its model does not know of it."""
    async for video in stage.gateway.videos.of(stage.owner):
        await _remove(stage.gateway.tables.pools, partition_of(video.model), video.id)


async def _without_note_and_model(stage: Stage, _: Any) -> None:
    await _without_note(stage, None)
    stage.unconfigure()


async def _slot_without_note(stage: Stage, _: Any) -> None:
    """A slot is taken by a video that nobody knows of."""
    model = stage.gateway.settings.catalog.models[0]
    async for video in stage.gateway.videos.of(stage.owner):
        await stage.gateway.pool.acquire(model, video)
        await _remove(stage.gateway.tables.pools, partition_of(model.name), video.id)


class _Nobody:
    """A waker that wakes nobody."""

    async def wake(self, video_id: str) -> None:
        """The event is lost."""


async def _offered(stage: Stage, _: Any) -> None:
    """The only slot is offered to a video that does not wake up."""
    model, pool = stage.gateway.settings.catalog.models[0], stage.gateway.pool
    pool.wake_ups.go_through(_Nobody())
    async for video in stage.gateway.videos.of(stage.owner):
        other = msgspec.structs.replace(video, id=new_id(stage.owner, stage.clock.now()), prompt="Another cat")
        await pool.acquire(model, other)
        await pool.acquire(model, video)
        await pool.return_slot(model, other, model.deployments[0], 0.0, asked=False)
        await pool.leave(model.name, other.id)


async def _offered_long_ago(stage: Stage, _: Any) -> None:
    await _offered(stage, None)
    await stage.clock.sleep(30.0)


async def _offered_and_resting(stage: Stage, _: Any) -> None:
    """Neither ends before a slow machine has started the app: an offer that has lapsed is taken
    back by the sweep.
    """
    await _offered(stage, None)
    model, pool = stage.gateway.settings.catalog.models[0], stage.gateway.pool
    (deployment,) = model.deployments
    shard = (await pool.shards.all(model.name)).of(deployment.name)
    for lease in shard.state.load(deployment.name).leases.values():
        lease.since += _A_WHILE
    await pool.shards.write(model.name, shard)
    await pool.take_down(model, deployment, "upstream_misconfigured", _A_WHILE)


async def _of_an_earlier_version(stage: Stage, _: Any) -> None:
    """Videos without listings and lines; nothing says that all are indexed."""
    table = stage.gateway.tables.gateway
    for video_id in [video.id async for video in stage.gateway.videos.of(stage.owner)]:
        await _remove(table, stage.owner, listed(video_id).key)
        for line in ("open_", "done_"):
            await _remove(table, SPEND, f"{line}{video_id}")
    await _remove(table, UPKEEP, INDEXING)
    await table.commit(UPKEEP, Insert(INDEXING, {"since": stage.clock.now() - timedelta(days=1)}))


async def _line_left_open(stage: Stage, video_id: str) -> None:
    """What a finished video has cost was never written down."""
    await _remove(stage.gateway.tables.gateway, SPEND, f"done_{video_id}")
    await stage.gateway.lines.open(video_id)


async def _made_and_told(stage: Stage) -> str:
    """A video whose cost is written down, which comes after its client sees it as completed."""
    video_id = await made(stage)

    async def there() -> bool:
        return await stage.gateway.tables.gateway.get(SPEND, f"done_{video_id}") is not None

    await until(there)
    await stage.at_rest()
    return video_id


async def _made_and_begun(stage: Stage) -> str:
    await _made_and_told(stage)
    return await _create_long(stage)


async def _has_its_rows(stage: Stage) -> list[str]:
    """Every video is listed and has its line."""
    table, wrong = stage.gateway.tables.gateway, []
    async for video in stage.gateway.videos.of(stage.owner):
        if await table.get(stage.owner, listed(video.id).key) is None:
            wrong.append(f"{video.id} is not listed")
        if await table.get(SPEND, f"done_{video.id}") is None or await table.get(SPEND, f"open_{video.id}") is not None:
            wrong.append(f"{video.id} has no line")
    return wrong


async def _asks_for_nothing(stage: Stage) -> list[str]:
    """Nobody is kept waiting by a request that is over."""
    return [f"row {row.key}" async for row in stage.gateway.tables.pools.scan("asks")]


async def _remove(table: Table, partition: str, key: str) -> None:
    row = await table.get(partition, key)
    if row is not None:
        await table.commit(partition, Delete(row))


async def _with_traces(stage: Stage, given: Any) -> Any:
    """A step of the video once took long, and an alert was told long ago."""
    then = stage.clock.now() - timedelta(days=60)
    await stage.gateway.tables.gateway.commit(TOLD, Insert(f"old.{given}", {"told_at": then}))
    await stage.gateway.tables.pools.commit("beats", Insert(f"{given}-once", {"at": stage.clock.now()}))
    return given


async def _made_beside_a_busy_server(stage: Stage, _: Any) -> None:
    """The server does not delete its copy when it is asked, and does so for the sweep."""
    stage.fault(kind="status", operation="delete", status=500)
    await stage.client.create()
    await _swept_at_rest(stage, None)


async def _endless_beside_a_busy_server(stage: Stage, _: Any) -> None:
    """The server does not stop the job at its deadline, and does so for the sweep."""
    stage.fault(kind="status", operation="delete", status=409)
    await _create_endless(stage)
    await _swept_at_rest(stage, None)


async def _no_copy_stays(stage: Stage) -> list[str]:
    """The last sweep may have been that of the story, or the one that follows every story."""
    kept = [f"job {job.id} is still upstream" for job in stage.jobs() if job.deleted_at is None]
    return kept + [f"row {row.key}" async for row in stage.gateway.tables.pools.scan("copies")]


async def _with_an_old_export(stage: Stage, _: Any) -> None:
    """And none of the runs before, which would be the export of today."""
    files = open_files(stage.gateway, EXPORTS)
    for name in await files.names(""):
        await files.drop(name)
    rows = stage.gateway.tables.gateway.everything()
    await files.save(name_at(stage.clock.now() - timedelta(days=2)), packed(rows))
    await files.close()


async def _is_exported(stage: Stage) -> list[str]:
    """The old export is gone, and the new one is whole and has the client's videos. Two sweeps that
    meet at the turn of an hour may have made one each.
    """
    files = open_files(stage.gateway, EXPORTS)
    names = await names_of(files)
    rows = {row.key async for row in unpacked(files.read(names[-1])) if row.partition == stage.owner}
    await files.close()
    missing = {video.id async for video in stage.gateway.videos.of(stage.owner)} - rows
    is_old = names[0] < name_at(stage.clock.now() - timedelta(days=1))
    return [f"exports: {names}, without {missing}"] if is_old or missing else []


async def _is_forgotten(stage: Stage) -> list[str]:
    """What is too old is gone: records of requests, claims on jobs, bytes."""
    wrong = [f"{video.id} has bytes" async for video in stage.gateway.videos.of(stage.owner) if video.bytes]
    wrong += [f"row {row.key}" async for row in stage.gateway.tables.gateway.beginning_with(stage.owner, PREFIX)]
    wrong += [f"row {row.key}" async for row in stage.gateway.tables.gateway.beginning_with(TOLD, "old.")]
    for days in range(-1, 2):
        day = stage.clock.now() + timedelta(days=days)
        wrong += [f"claim {row.key}" async for row in stage.gateway.tables.pools.scan(f"claims:{day:%Y-%m-%d}")]
    return wrong


REPAIRS = (
    Story("never started", _swept, before=_create, dies_at=_STARTS),
    Story("dead while it was admitted", _swept, before=_create_with_reference, dies_at=_ADMITS, general=BUDGET),
    Story("dead before its start was told", _swept, before=_create, dies_at=_ADMITTED, check=told, listens=()),
    Story(
        "dead when one of two had heard of a blocked request",
        _swept,
        before=_blocked,
        dies_at=_HANDED_OVER,
        check=_both_heard,
        words=("cat",),
        listens=(),
        sinks=("datadog", "azure_queue"),
    ),
    Story("dead before a courier was summoned", _swept, before=_create, dies_at=_HANDED_OVER, check=told, listens=()),
    Story(
        "dead while it fell back",
        _swept,
        before=_create,
        dies_at=_MOVED,
        check=heard_of("deployment_closed."),
        prices=(0.1, 0.1),
        retired=True,
        listens=(),
    ),
    Story(
        "its orchestration is lost while it runs", _swept, before=_create_long, dies_at=_LOOKED, between=_without_orchestrations
    ),
    Story(
        "its messages are lost while it runs",
        _swept,
        before=_create_long,
        dies_at=_LOOKED,
        between=_without_messages,
        check=heard_of("video_stuck."),
        listens=(),
    ),
    Story(
        "it outlives every deadline",
        _swept,
        before=_create_endless,
        dies_at=_LOOKED,
        check=heard_of("video_stuck."),
        listens=(),
        ends=("deadline_exceeded",),
        later=timedelta(days=1.1),
    ),
    Story(
        "it outlives every deadline while it is saved",
        _swept_while_saved,
        ends=("completed", "deadline_exceeded"),
        later=timedelta(days=1.1),
    ),
    Story(
        "its manifest could not be written",
        _swept,
        before=_create,
        dies_at=_WRITTEN,
        between=_without_manifest,
        knobs=MANIFESTS,
    ),
    Story(
        "its manifest is never written",
        _swept,
        before=_create,
        dies_at=_WRITTEN,
        between=_without_manifest,
        knobs=MANIFESTS,
        later=timedelta(days=1.1),
    ),
    Story(
        "deleted when its manifest was written",
        _swept,
        before=_create,
        dies_at=_LEAVES,
        between=_deleted_elsewhere,
        knobs=MANIFESTS,
    ),
    Story("its orchestration is lost at its end", _swept, before=_create, dies_at=_SETTLED, between=_without_orchestrations),
    Story("its model does not know of it", _swept_twice, before=_create, dies_at=_STARTS, between=_without_note),
    Story(
        "its model is no longer there",
        _swept,
        before=_create,
        dies_at=_STARTS,
        between=_without_note_and_model,
        ends=("model_not_found",),
        prices=(0.1, 0.1),
    ),
    Story(
        "an offer that is not taken up",
        _swept,
        before=_create,
        dies_at=_STARTS,
        between=_offered_long_ago,
        max_running=1,
    ),
    Story(
        "an offer of a deployment that rests",
        _swept,
        before=_create,
        dies_at=_STARTS,
        between=_offered_and_resting,
        max_running=1,
    ),
    Story("a slot without a video", _swept, before=made, between=_slot_without_note),
    Story("of an earlier version", _swept_twice, before=_made_and_begun, between=_of_an_earlier_version, check=_has_its_rows),
    Story(
        "a day without an export",
        _swept,
        before=_made_and_told,
        between=_with_an_old_export,
        check=_is_exported,
        knobs={"exports": {"kept": EXPORTS.kept}},
    ),
    Story("a line that was left open", _swept, before=_made_and_told, between=_line_left_open, check=_has_its_rows),
    Story("equal to one that died when it was accepted", equal, before=_create, dies_at=_ACCEPTED),
    Story(
        "dead when it was accepted",
        _swept_at_rest,
        before=_create,
        dies_at=_ACCEPTED,
        check=_asks_for_nothing,
        knobs={"deadline_seconds": 600},  # a request is under way for no longer
    ),
    Story(
        "a job that is not stopped at its deadline",
        _endless_beside_a_busy_server,
        check=_no_copy_stays,
        ends=("deadline_exceeded",),
        dialect="hosted_vllm",
        knobs={"deadline_seconds": 20},
    ),
    Story("a copy that is not deleted at once", _made_beside_a_busy_server, check=_no_copy_stays, dialect="sglang"),
    Story(
        "too old",
        _swept_at_rest,
        before=made,
        between=_with_traces,
        check=_is_forgotten,
        knobs={"retention_days": 1},
        later=_DAYS_LATER,
        listens=(),
    ),
)
