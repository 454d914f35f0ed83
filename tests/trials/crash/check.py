"""What must be true at the end of a crash run: of what was answered, of what was made, and of what
is left.
"""

import asyncio
import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from local.sora.jobs import Job
from shared.accounts.account import recount
from shared.media.video import GATEWAY_OWNER, Video
from shared.storage.blobs import VARIANTS
from tests.trials.crash.story import MASTER_KEY, UPSTREAM_KEY

if TYPE_CHECKING:
    from tests.trials.crash.run import Run

_MINUTE = 60.0


async def check(run: "Run") -> None:
    """Note everything that is wrong in the run's result."""
    result, gateway, story = run.result, run.gateway, run.story
    result.wrong += [f"left over: {each}" async for each in run.left_over()]
    videos = {video.id: video async for video in gateway.ledger.videos(run.owner)}
    result.wrong += [f"{each} was answered 200 and is lost" for each in run.client.answered if each not in videos]
    result.completed = sum(video.status == "completed" for video in videos.values())
    result.failed = sum(video.status == "failed" for video in videos.values())
    for video in videos.values():
        await _check_video(run, video)
    unknown = {job.prompt for job in run.jobs()} - {video.prompt for video in videos.values()}
    result.expect(not unknown, f"{len(unknown)} jobs upstream belong to no video")
    account = await gateway.ledger.account(run.owner)
    spent = sum(video.spent for video in videos.values())
    result.expect(account is not None and account.spend == spent, f"spend is {account and account.spend}, not {spent}")
    if gateway.settings.max_budget is not None:
        whole = await gateway.ledger.account(GATEWAY_OWNER)
        counted = whole.spend if whole else 0
        result.expect(counted == spent, f"the gateway's spend is {counted}, not {spent}")
    _check_limits(run)
    _check_log(run)
    if story.check is not None:
        result.wrong += await story.check(run)


async def check_books(run: "Run") -> None:
    """While the app is dead: every account is what its videos say, and the whole budget holds what
    the keys have reserved.
    """
    wrong = await _books(run)
    if wrong:
        await asyncio.sleep(0.1)  # storage may have been at the dead app's last request still
        wrong = await _books(run)
    run.result.wrong += wrong


async def _books(run: "Run") -> list[str]:
    ledger, budget = run.gateway.ledger, run.gateway.budget
    key, whole = await ledger.account(run.owner), await ledger.account(GATEWAY_OWNER)
    assert key is not None
    assert whole is not None
    wrong = []
    if key != recount(key, [video async for video in ledger.videos(run.owner)]):
        wrong.append("the key's account is not what its videos say")
    if whole != await budget.recount(whole):
        wrong.append("the gateway's account is not what its holds say")
    if budget.limit is not None and whole.reserved < key.reserved:
        wrong.append(f"{key.reserved} are reserved, and only {whole.reserved} held of the gateway's budget")
    return wrong


async def _check_video(run: "Run", video: Video) -> None:
    result, archive = run.result, run.gateway.archive
    end = video.status if video.status == "completed" else video.error_code
    jobs = [job for job in run.jobs() if job.prompt == video.prompt]
    # A death in the middle of a create leaves it unclear too; the second time, nobody dares to ask
    # once more.
    given_up = end == "upstream_uncertain" and not jobs and run.story.unclear + result.died >= 2
    result.expect(end in run.story.ends or given_up, f"{video.id} ended as {end}: {video.error_message}")
    result.most_creates = max(result.most_creates, len(jobs))
    result.expect(len(jobs) <= 1, f"{video.id} has {len(jobs)} jobs upstream")
    wanted = video.id not in run.client.deleted
    result.expect(video.deleted != wanted, f"{video.id} is {'kept' if wanted else 'deleted'}, and is not so on record")
    stored = await archive.length(video)
    images = [variant for variant in VARIANTS if await archive.has_image(video, variant)]
    if video.deleted:
        result.expect(all(job.deleted_at for job in jobs), f"{video.id} is deleted, and its job is not")
    if video.deleted or video.status == "failed" or not video.bytes:
        what = "deleted" if video.deleted else video.status
        result.expect(stored is None and not images, f"{video.id} is {what} and has bytes ({stored}, {images})")
        return
    content = await run.client.http.get(await archive.url(video))
    made = await run.client.http.get(
        f"{run.upstream}/openai/v1/videos/{video.upstream_id}/content", headers={"api-key": UPSTREAM_KEY}
    )
    same = hashlib.sha256(content.content).digest() == hashlib.sha256(made.content).digest()
    result.expect(same and stored == video.bytes == len(made.content), f"{video.id} has not the bytes that were made")


def _check_limits(run: "Run") -> None:
    """The gateway never asks for more than the upstream allows, whenever it was killed."""
    refused = Counter(each.status for each in run.sora.requests if each.operation in ("create", "remix"))[429]
    run.result.expect(refused <= run.story.busy, f"the upstream had to refuse {refused - run.story.busy} creates as too many")
    by_deployment: dict[str, list[Job]] = {}
    for job in run.jobs():
        by_deployment.setdefault(job.deployment, []).append(job)
    for deployment, jobs in by_deployment.items():
        for first, last in zip(jobs, jobs[run.story.pace :], strict=False):
            apart = last.created_at - first.created_at
            run.result.expect(apart >= _MINUTE, f"{run.story.pace + 1} creates at {deployment} within {apart:.0f} s")


def _check_log(run: "Run") -> None:
    log = run.folder / "app.log"
    text = log.read_text() if log.exists() else ""
    for word in (UPSTREAM_KEY, MASTER_KEY, run.client.secret, run.upstream, *run.client.prompts):
        run.result.expect(word not in text, f"the log holds {word!r}")
    run.result.expect("Traceback" not in text, f"the log holds a traceback: {text[text.find('Traceback') :][:2000]}")
