"""What must be true at the end of a crash run: of what was answered, of what was made, and of what
is left.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta

from local.simulator.jobs import Job
from shared.accounts.account import recount
from shared.dialects.known import DIALECTS
from shared.media.video import GATEWAY_OWNER, Video
from shared.storage.blobs import MANIFESTS, VARIANTS
from tests.trials.crash.stage import Stage
from tests.trials.crash.terms import MASTER_KEY, UPSTREAM_KEY

_MINUTE = 60.0
_MANIFEST_TRIED = timedelta(days=1)  # about; then the sweep gives it up


async def check(stage: Stage, left_over: Sequence[str]) -> None:
    """Note in the stage's result what is wrong; `left_over` names work that has not ended."""
    result, gateway = stage.result, stage.gateway
    result.wrong += [f"left over: {each}" for each in left_over]
    videos = {video.id: video async for video in gateway.videos.of(stage.owner)}
    result.wrong += [f"{each} was answered 200 and is lost" for each in stage.client.answered if each not in videos]
    result.completed = sum(video.status == "completed" for video in videos.values())
    result.failed = sum(video.status == "failed" for video in videos.values())
    for video in videos.values():
        await _check_video(stage, video, _jobs_of(stage, video, videos.values()))
    unknown = {job.prompt for job in stage.jobs()} - {video.prompt for video in videos.values()}
    result.expect(not unknown, f"{len(unknown)} jobs upstream belong to no video")
    account = await gateway.ledger.account(stage.owner)
    spent = sum(video.spent for video in videos.values())
    result.expect(account is not None and account.spend == spent, f"spend is {account and account.spend}, not {spent}")
    if gateway.settings.max_budget is not None:
        whole = await gateway.ledger.account(GATEWAY_OWNER)
        counted = whole.spend if whole else 0
        result.expect(counted == spent, f"the gateway's spend is {counted}, not {spent}")
    _check_limits(stage)
    _check_log(stage)


async def check_books(stage: Stage) -> None:
    """While the app is dead: every account is what its videos say, and the whole budget holds what
    the keys have reserved.
    """
    wrong = await _books(stage)
    if wrong:
        await asyncio.sleep(0.1)  # storage may have been at the dead app's last request still
        wrong = await _books(stage)
    stage.result.wrong += wrong


async def _books(stage: Stage) -> list[str]:
    ledger, budget = stage.gateway.ledger, stage.gateway.budget
    key, whole = await ledger.account(stage.owner), await ledger.account(GATEWAY_OWNER)
    assert key is not None
    assert whole is not None
    wrong = []
    if key != recount(key, [video async for video in stage.gateway.videos.of(stage.owner)]):
        wrong.append("the key's account is not what its videos say")
    if whole != await budget.recount(whole):
        wrong.append("the gateway's account is not what its holds say")
    if budget.limit is not None and whole.reserved < key.reserved:
        wrong.append(f"{key.reserved} are reserved, and only {whole.reserved} held of the gateway's budget")
    return wrong


def _jobs_of(stage: Stage, video: Video, videos: Iterable[Video]) -> list[Job]:
    """The jobs that were asked for as the video was, and belong to no other one."""
    others = {each.upstream_id for each in videos if each.id != video.id}
    return [job for job in stage.jobs() if job.prompt == video.prompt and job.id not in others]


async def _check_video(stage: Stage, video: Video, jobs: Sequence[Job]) -> None:
    result, archive = stage.result, stage.gateway.archive
    end = video.status if video.status == "completed" else video.error_code
    # A death in the middle of a create leaves it unclear too. The second time, nobody dares to ask
    # once more; and a job that was made of an image is never taken for the video's, since no list
    # tells the image.
    unclear = stage.terms.unclear + result.died
    is_forgiven = unclear >= 1 and video.reference is not None if jobs else unclear >= 2
    given_up = end == "upstream_uncertain" and is_forgiven
    result.expect(end in stage.terms.ends or given_up, f"{video.id} ended as {end}: {video.error_message}")
    result.most_creates = max(result.most_creates, len(jobs))
    result.expect(len(jobs) <= 1 + stage.terms.remade, f"{video.id} has {len(jobs)} jobs upstream")
    wanted = video.id not in stage.client.deleted
    result.expect(video.deleted != wanted, f"{video.id} is {'kept' if wanted else 'deleted'}, and is not so on record")
    await _check_manifest(stage, video)
    stored = await archive.length(video)
    images = [variant for variant in VARIANTS if await archive.length(video, variant) is not None]
    if video.deleted:
        kept = [job for job in jobs if not job.deleted_at and not job.lost]
        deletes = DIALECTS[stage.terms.dialect].deletes
        result.expect(not (kept and deletes), f"{video.id} is deleted, and its job is not")
    if video.deleted or video.status == "failed" or not video.bytes:
        what = "deleted" if video.deleted else video.status
        result.expect(stored is None and not images, f"{video.id} is {what} and has bytes ({stored}, {images})")
        return
    content = await stage.client.http.get(await archive.url(video))
    if stage.terms.dialect != "azure":  # its copy is deleted: every film is signed with its job's id
        whole = (video.upstream_id or "?").encode() in content.content and stored == video.bytes == len(content.content)
        result.expect(whole, f"{video.id} has not the bytes that were made")
        return
    made = await stage.client.http.get(
        f"{stage.upstream}/openai/v1/videos/{video.upstream_id}/content", headers={"api-key": UPSTREAM_KEY}
    )
    same = hashlib.sha256(content.content).digest() == hashlib.sha256(made.content).digest()
    result.expect(same and stored == video.bytes == len(made.content), f"{video.id} has not the bytes that were made")


async def _check_manifest(stage: Stage, video: Video) -> None:
    """Beside every film, where the story has manifests; and nowhere else."""
    blob = stage.gateway.archive._connect().get_blob_client(MANIFESTS, f"{video.id}.json")
    wanted = bool(stage.terms.knobs.get("manifests") and video.bytes and video.status == "completed" and not video.deleted)
    there, given_up = await blob.exists(), stage.terms.later > _MANIFEST_TRIED
    stage.result.expect(there == wanted or (wanted and given_up), f"{video.id} has {'a' if there else 'no'} manifest")
    if there and wanted:
        told = json.loads(await (await blob.download_blob()).readall())
        stage.result.expect(told["video_id"] == video.id, f"{video.id} has the manifest of {told['video_id']}")


def _check_limits(stage: Stage) -> None:
    """The gateway never asks for more than the upstream allows, whenever it was killed."""
    refused = Counter(each.status for each in stage.sora.requests if each.operation in ("create", "remix"))[429]
    stage.result.expect(
        refused <= stage.terms.busy, f"the upstream had to refuse {refused - stage.terms.busy} creates as too many"
    )
    by_deployment: dict[str, list[Job]] = {}
    for job in stage.jobs():
        by_deployment.setdefault(job.deployment, []).append(job)
    for deployment, jobs in by_deployment.items():
        for first, last in zip(jobs, jobs[stage.terms.pace :], strict=False):
            apart = last.created_at - first.created_at
            stage.result.expect(apart >= _MINUTE, f"{stage.terms.pace + 1} creates at {deployment} within {apart:.0f} s")


def _check_log(stage: Stage) -> None:
    log = stage.folder / "app.log"
    text = log.read_text() if log.exists() else ""
    for word in (UPSTREAM_KEY, MASTER_KEY, stage.client.secret, stage.upstream, *stage.client.prompts):
        stage.result.expect(word not in text, f"the log holds {word!r}")
    stage.result.expect("Traceback" not in text, f"the log holds a traceback: {text[text.find('Traceback') :][:2000]}")
