"""What clients do in the crash matrix, and the operator with a key. What only the sweep does is in
`tests.trials.crash.repairs`.
"""

import asyncio
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from itertools import pairwise
from typing import Any

from PIL import Image

from shared.accounts.account import Account
from tests.fakes.issuer import APP
from tests.trials.crash.client import GaveUp, until
from tests.trials.crash.stage import Stage
from tests.trials.crash.story import Story
from tests.trials.crash.terms import MASTER_KEY, RECONCILE_SECONDS

LONG = {"seconds": "12"}  # runs long enough upstream to be caught at it
BUDGET = {"max_budget": 100_000}  # dollars, for the whole gateway
MANIFESTS = {"manifests": True}
CANCELLED = ("completed", "cancelled")
_NET = 40  # seconds, less than anybody sleeps for fear of a lost wake-up, and more than a job takes
_REFUSED = 2  # events that the provider refuses
_PRICE = 400_000  # micro-dollars, of a video at the first model's usual price


def picture() -> dict[str, Any]:
    """The field of a create that brings a reference image."""
    image = BytesIO()
    Image.new("RGB", (720, 1280), "red").save(image, "PNG")
    return {"input_reference": {"image_url": f"data:image/png;base64,{b64encode(image.getvalue()).decode()}"}}


async def made(stage: Stage) -> str:
    video_id = await stage.client.create()
    await stage.client.reaches(video_id, "completed")
    return video_id


async def _made_and_settled(stage: Stage) -> str:
    """A video of which nothing is left to do."""
    video_id = await made(stage)
    await stage.at_rest()
    return video_id


async def _one(stage: Stage, _: Any) -> None:
    await stage.client.create()


async def _two(stage: Stage, _: Any) -> None:
    await stage.client.create()
    await stage.client.create()


async def _three(stage: Stage, _: Any) -> None:
    await _two(stage, None)
    await stage.client.create()


async def _three_refused(stage: Stage, _: Any) -> None:
    """The first is refused, and the others wait behind it until the rest is over."""
    stage.fault(kind="status", operation="create", documented="E2", headers={"retry-after": "20"})
    await _three(stage, None)


async def _with_reference(stage: Stage, _: Any) -> None:
    await stage.client.create(**picture())


async def _with_reference_unheard(stage: Stage, _: Any) -> None:
    stage.fault(kind="reset_after", operation="create")
    await stage.client.create(**picture())


def _with(**fault: Any) -> Any:
    """A video while the upstream has a fault."""

    async def act(stage: Stage, _: Any) -> None:
        stage.fault(**fault)
        await stage.client.create()

    return act


async def _unknown_at_first(stage: Stage, _: Any) -> None:
    stage.fault(kind="status", operation="get", status=404, message="Video with id 'x' not found.")
    await stage.client.create(seconds="12")  # it still runs when it is found again


async def _equal_meanwhile(stage: Stage, _: Any) -> None:
    """Two equal creates of two models at one resource; what became of the first is unclear for a
    while.
    """
    stage.fault(kind="reset_after", operation="create")
    stage.fault(kind="status", operation="list", status=503, times=10)
    await stage.client.create()
    await stage.asked("list")
    await equal(stage, None)


async def _equal_in_line(stage: Stage, _: Any) -> None:
    """Three equal creates of one model, the second and third while the first is asked for; a slot
    is free for each.
    """
    stage.fault(kind="delay", operation="create", seconds=8, when="after")
    await stage.client.create()
    await stage.asked("create")
    for _ in range(2):
        await stage.client.create(prompt=stage.client.prompts[0])


async def equal(stage: Stage, _: Any) -> None:
    """Another create like the client's first one, of the last model."""
    await stage.client.create(model=stage.models[-1], prompt=stage.client.prompts[0])


async def _one_after_the_other(stage: Stage) -> list[str]:
    """The second is asked for when it is known what became of the first."""
    by_job = {video.upstream_id: video async for video in stage.gateway.videos.of(stage.owner)}
    wrong = []
    for first, second in pairwise(stage.jobs()):  # only one where a client gave up
        known = by_job[first.id].accepted_at if first.id in by_job else None
        if known is None or second.created_at < int(known.timestamp()):
            wrong.append("the second of two equal videos was asked for before the first was accepted")
    return wrong


async def _unreachable(stage: Stage, _: Any) -> None:
    """Nobody can connect to the upstream, until the rest after a failure is longer than a look
    takes; or until the app has died at a create, since it asks only for the list then.
    """
    await stage.front.shut()
    try:
        video_id = await stage.client.create()
        await until(lambda: _stood_back_or_unclear(stage, video_id, 3))
    finally:
        await stage.front.open()


async def _stood_back_or_unclear(stage: Stage, video_id: str, attempts: int) -> bool:
    entry = await stage.gateway.videos.find(video_id)
    if entry is None:
        return False
    attempted_at = entry.video.attempted_at
    if attempted_at is None:
        return entry.video.attempts >= attempts
    return stage.clock.now() - attempted_at > timedelta(seconds=RECONCILE_SECONDS)


async def _remixed(stage: Stage, source: str) -> None:
    await stage.client.remix(source)


async def _remixed_unheard(stage: Stage, source: str) -> None:
    stage.fault(kind="reset_after", operation="remix")
    await stage.client.remix(source)


async def _refused(stage: Stage, _: Any) -> None:
    await stage.client.refused("budget_exceeded", **picture())


async def _with_thumbnail(stage: Stage, video_id: str) -> None:
    image = await stage.client.thumbnail(video_id)
    stage.result.expect(image[8:12] == b"WEBP", "the thumbnail is no such image")


async def _thumbnail_stays(stage: Stage) -> list[str]:
    (video,) = [each async for each in stage.gateway.videos.of(stage.owner)]
    return [] if await stage.gateway.archive.length(video, "thumbnail") else ["the thumbnail is not stored"]


async def _deleted(stage: Stage, video_id: str) -> None:
    await stage.client.delete(video_id)


async def _deleted_waiting(stage: Stage, _: Any) -> None:
    stage.fault(kind="status", operation="create", documented="E2", headers={"retry-after": "200"})
    video_id = await stage.client.create(**picture())
    await stage.stands_back(video_id)
    await stage.client.delete(video_id)


async def _deleted_asking(stage: Stage, _: Any) -> None:
    stage.fault(kind="delay", operation="create", seconds=8, when="after")
    video_id = await stage.client.create()
    await stage.asked("create")
    await stage.client.delete(video_id)
    await stage.client.create()  # in line for the slot of the one before


async def _deleted_unclear(stage: Stage, _: Any) -> None:
    stage.fault(kind="reset_after", operation="create")
    stage.fault(kind="status", operation="list", status=503)
    video_id = await stage.client.create()
    await stage.asked("list")
    await stage.client.delete(video_id)


async def _deleted_running(stage: Stage, _: Any) -> None:
    video_id = await stage.client.create(**LONG)
    await stage.accepted()
    await stage.client.delete(video_id)
    await stage.client.create()  # in line for the slot of the one before


async def _deleted_at_google(stage: Stage, _: Any) -> None:
    """Google's layer lists no jobs: a create that the app dies in is unclear, and may have made
    none.
    """
    video_id = await stage.client.create(seconds="8")
    await stage.bound(video_id)
    await stage.client.delete(video_id)
    await stage.client.create()  # in line for the slot of the one before


async def _stopped(stage: Stage, _: Any) -> None:
    video_id = await stage.client.create(prompt="An endless canary")
    await stage.bound(video_id)
    await stage.client.delete(video_id)


async def _deleted_unstoppable(stage: Stage, _: Any) -> None:
    """The server is busy when the caller deletes: the next look stops the job."""
    stage.fault(kind="status", operation="delete", status=409)
    await _stopped(stage, None)


async def _deleted_saving(stage: Stage, _: Any) -> None:
    stage.fault(kind="trickle", operation="content", bytes_per_second=60_000)
    video_id = await stage.client.create()
    await stage.asked("content")
    await stage.client.delete(video_id)


async def _deleted_fetching(stage: Stage, video_id: str) -> None:
    stage.fault(kind="delay", operation="content", seconds=8, when="after")
    path = f"/v1/videos/{video_id}/content?variant=thumbnail"
    fetching = asyncio.create_task(stage.client.ask("GET", path))
    await stage.asked("content", 2)  # first for the film
    await stage.client.delete(video_id)
    answer = await fetching
    # Where the delete was cut off, the bytes are gone and the record is not yet: 410, or an image
    # that was fetched once more before the delete was repeated.
    right = (302, 404, 410) if stage.result.died else (404, 410)
    stage.result.expect(answer.status_code in right, f"the thumbnail was answered {answer.status_code}")


async def _restarted(stage: Stage, _: Any) -> None:
    """The upstream loses the job that it has just begun."""
    await stage.client.create(**LONG)
    await stage.accepted()
    stage.sora.workshop.restart()


async def _endless(stage: Stage, _: Any) -> None:
    await stage.client.create(prompt="An endless canary")


async def _slowly_fetched(stage: Stage, _: Any) -> None:
    stage.fault(kind="trickle", operation="content", bytes_per_second=60_000)
    await _two(stage, None)


async def _waited(stage: Stage) -> list[str]:
    """Nobody woke the second, which looked by itself; dead apps wait for nothing."""
    first, second = (each.created_at for each in stage.jobs()[:2])
    early = not stage.result.died and second - first < _NET
    return [f"the second began {second - first} s after the first, although nobody woke it"] if early else []


async def _starts_meanwhile(stage: Stage) -> list[str]:
    """A slot is free when the job has ended, and not when its bytes have arrived; dead apps start
    nothing.
    """
    ends = [video.finished_at async for video in stage.gateway.videos.of(stage.owner) if video.finished_at]
    late = not stage.result.died and stage.jobs()[1].created_at > min(ends).timestamp()
    return ["the second video started only after the first was fetched"] if late else []


async def _operated(stage: Stage, _: Any) -> None:
    """A key's whole life; what was not heard of is asked for again."""
    first, second = f"sk-first-{stage.client.tag}-00", f"sk-second-{stage.client.tag}"
    alias = f"alias of {stage.client.tag}"
    await stage.client.operate("generate", {"key": first, "key_alias": alias}, again=(409,))
    await stage.client.operate("update", {"key": first, "key_alias": f"new {alias}", "max_budget": 1})
    await stage.client.operate("bulk_update", {"keys": [{"key": first, "rpm_limit": 5}]})
    await stage.client.operate("block", {"key": first})
    await stage.client.operate("unblock", {"key": first})
    await stage.client.operate("regenerate", {"key": first, "new_key": second}, again=(404, 409))
    taken = await stage.client.ask(
        "POST", "/key/generate", json={"key_alias": f"new {alias}"}, headers={"authorization": f"Bearer {MASTER_KEY}"}
    )
    stage.result.expect(taken.status_code == 409, f"an alias that is taken was answered {taken.status_code}")
    for secret, status in ((first, 401), (second, 200)):
        answer = await stage.client.ask("GET", "/v1/videos", headers={"authorization": f"Bearer {secret}"})
        stage.result.expect(answer.status_code == status, f"{secret} was answered {answer.status_code}, not {status}")
    await stage.client.operate("delete", {"keys": [second]}, again=(404,))
    answer = await stage.client.ask("GET", "/v1/videos", headers={"authorization": f"Bearer {second}"})
    stage.result.expect(answer.status_code == 401, f"a deleted key was answered {answer.status_code}")


async def _identified(stage: Stage, _: Any) -> None:
    """A person's first call, and the next: both reach one account."""
    tokens = [stage.issuer.token(oid=stage.client.tag, jti=number) for number in range(2)]
    answers = [await stage.client.ask("GET", "/key/info", headers={"authorization": f"Bearer {each}"}) for each in tokens]
    told = [each.json().get("key") for each in answers]
    stage.result.expect(told[0] is not None and told[0] == told[1], f"the accounts are {told}")


async def _replayed(stage: Stage, _: Any) -> None:
    """Both events are refused; the operator has them tried again. If the client has given up, the
    sweep goes on with what was admitted.
    """
    try:
        await made(stage)
    except GaveUp:
        if not [video async for video in stage.gateway.videos.of(stage.owner)]:
            return
        await stage.swept()
    operator = {"authorization": f"Bearer {MASTER_KEY}"}

    async def given_up() -> bool:
        listed = (await stage.client.ask("GET", "/events/undelivered", headers=operator)).json()
        return not stage.receiver.says and (len(listed["data"]) == _REFUSED or bool(stage.receiver.seen))

    await until(given_up)
    answer = await stage.client.ask("POST", "/events/replay", headers=operator)
    stage.result.expect(answer.status_code == 200, f"the replay was answered {answer.status_code}")


async def _blocked(stage: Stage, _: Any) -> None:
    await stage.client.refused("content_policy_violation")


async def _requested(stage: Stage, _: Any) -> None:
    """By a message; its key may have one at a time, so a second message waits for its turn."""
    wanted = stage.terms.account.max_parallel_requests or 1
    for number in range(1 + wanted):
        await stage.put(prompt=f"A cat {number}, by a message")

    async def made_all() -> bool:
        return len([video async for video in stage.gateway.videos.of(stage.owner)]) > wanted

    await until(made_all)


async def _once_each(stage: Stage) -> list[str]:
    """However often a message came: a death may leave it in the queue."""
    prompts = [video.prompt async for video in stage.gateway.videos.of(stage.owner)]
    return [] if len(prompts) == len(set(prompts)) else ["a message has started two videos"]


async def _requested_badly(stage: Stage, _: Any) -> None:
    await stage.put(prompt="")

    async def kept() -> bool:
        return bool(await stage.poisoned())

    await until(kept)


def heard_of(what: str) -> Any:
    """The provider has heard of something that is told by no video: at least once where the app has
    died and the client has asked again.
    """

    async def check(stage: Stage) -> list[str]:
        if not stage.client.patient:
            return []  # it may have given up before there was anything to tell
        with suppress(TimeoutError):
            await until(lambda: heard(stage))
        return [] if await heard(stage) else [f"the provider has not heard of {what}"]

    async def heard(stage: Stage) -> bool:
        return any(what in each for each in stage.receiver.seen)

    return check


async def told(stage: Stage) -> list[str]:
    """The provider has seen the start and the end of every video."""
    videos = [video.id async for video in stage.gateway.videos.of(stage.owner)]
    due = {f"{video_id}.{happening}" for video_id in videos for happening in ("started", "ended")}
    # The sweep's timer, which may come by meanwhile, also tells that events were given up.
    seen = {each for each in stage.receiver.seen if not each.startswith("event_undeliverable.")}
    return [f"the provider was not told of {each}" for each in due - seen] + [f"{each} is unknown" for each in seen - due]


async def _piped(stage: Stage) -> list[str]:
    """The queue and the topic have the start and the end of every video, at least once."""
    videos = [video.id async for video in stage.gateway.videos.of(stage.owner)]
    due = {f"{video_id}.{happening}" for video_id in videos for happening in ("started", "ended")}
    places = {"queue": set(await stage.queued_events()), "topic": set(stage.receiver.topic)}
    return [f"the {name} has {seen}, not {due}" for name, seen in places.items() if seen != due]


async def _hooked(stage: Stage, _: Any) -> None:
    """An endpoint's whole life; what was not heard of is asked for again."""
    ask, receiver = stage.client.ask, stage.receiver
    made_of = {"name": "mine", "url": f"{receiver.url}/hook", "event_types": ["video.completed"]}
    endpoint = (await ask("POST", "/v1/webhook_endpoints", json=made_of)).json()["id"]
    path = f"/v1/webhook_endpoints/{endpoint}"
    await ask("POST", path, json={"event_types": ["video.in_progress", "video.completed"]})
    await ask("POST", f"{path}/rotate_secret", json={"keep_old_secret_active_for_24_hours": True})
    await ask("POST", f"{path}/test", json={"event_type": "video.completed"})
    await stage.client.create(callback_url=f"{receiver.url}/hook/back", **LONG)  # so that it is seen to run
    await until(lambda: _arrived(stage, "/hook", "/hook/back"))
    event_id = next(event for where, event in receiver.hooked if where == "/hook/back")
    # What has arrived is in the history a moment later; after a death in between, once it has
    # arrived again.
    await until(lambda: _is_repeated(stage, f"{path}/deliveries/{event_id}"))
    await until(lambda: _arrived_again(stage, event_id))
    receiver.hook_says = 410
    await stage.client.create()
    await until(lambda: _is_disabled(stage, path))
    await ask("DELETE", path)


async def _arrived(stage: Stage, *paths: str) -> bool:
    return set(paths) <= {where for where, event in stage.receiver.hooked if "test" not in event}


async def _is_repeated(stage: Stage, path: str) -> bool:
    answer = await stage.client.ask("POST", path, json={})
    stage.result.expect(answer.status_code in (200, 404), f"the repetition was answered {answer.status_code}")
    return answer.status_code == 200


async def _arrived_again(stage: Stage, event_id: str) -> bool:
    return stage.receiver.hooked.count(("/hook", event_id)) > 1


async def _is_disabled(stage: Stage, path: str) -> bool:
    return (await stage.client.ask("GET", path)).json()["disabled"] is not None


async def _hooks_told(stage: Stage) -> list[str]:
    """The end of each video has arrived where its request wanted it; an endpoint may have been
    disabled before.
    """
    videos = [video async for video in stage.gateway.videos.of(stage.owner) if video.callback_url]
    due = {("/hook/back", f"evt_{video.id.removeprefix('video_')}_ended") for video in videos}
    return [f"{where} was not told of {event}" for where, event in due - set(stage.receiver.hooked)]


_LOOPBACK = {"webhook_networks": ["127.0.0.0/8"]}
CLIENTS = (
    Story("a video", _one),
    Story("a create whose answer is lost", _with(kind="reset_after", operation="create")),
    Story("a create that is lost", _with(kind="reset_before", operation="create"), unclear=1),
    Story("a create that is refused as unfinished", _with(kind="status", operation="create", documented="E12", when="after")),
    Story("a full upstream", _with(kind="status", operation="create", documented="E2", headers={"retry-after": "5"}), busy=1),
    Story(
        "three behind a full upstream",
        _three_refused,
        max_running=2,
        busy=1,
    ),
    Story(
        "equal to one that is unclear",
        _equal_meanwhile,
        prices=(0.1, 0.1),
        check=_one_after_the_other,
        knobs={"deadline_seconds": 7200},  # or the sweep, whose time is ahead, would take the first for given up
    ),
    Story("equal to one that is asked for", _equal_in_line, check=_one_after_the_other, max_running=3),
    Story("equal ones, and every wake-up is lost", _equal_in_line, check=_one_after_the_other, max_running=3, wakes="lost"),
    Story(
        "equal ones, and every wake-up comes twice", _equal_in_line, check=_one_after_the_other, max_running=3, wakes="doubled"
    ),
    Story("an upstream that cannot be reached", _unreachable),
    Story("a reference image", _with_reference),
    Story("a remix", _remixed, before=made),
    Story("a remix whose answer is lost", _remixed_unheard, before=made),
    Story("a job that is unknown at first", _unknown_at_first),
    Story("a thumbnail", _with_thumbnail, before=_made_and_settled, check=_thumbnail_stays),
    Story("a thumbnail that is drawn", _with_thumbnail, before=_made_and_settled, check=_thumbnail_stays, dialect="sglang"),
    Story("a manifest", _one, knobs=MANIFESTS),
    Story("deleted with its manifest", _deleted, before=_made_and_settled, knobs=MANIFESTS),
    Story("two in line for one slot", _two, max_running=1),
    Story("two in line, and every wake-up is lost", _two, check=_waited, max_running=1, wakes="lost"),
    Story("three in line, and every wake-up comes twice", _three, max_running=1, wakes="doubled"),
    Story("three in line, and every wake-up comes late", _three, max_running=1, wakes="late"),
    Story("three at two a minute", _three, max_running=3, pace=2),
    Story("a slow download while another waits", _slowly_fetched, check=_starts_meanwhile, max_running=1),
    Story("deleted while it waits", _deleted_waiting, ends=CANCELLED, busy=1),
    Story("deleted while it is asked for", _deleted_asking, ends=CANCELLED, max_running=1),
    Story("deleted while it is unclear", _deleted_unclear, ends=CANCELLED),
    Story("deleted while it runs", _deleted_running, max_running=1, general=BUDGET),
    Story("deleted while it is saved", _deleted_saving),
    Story("deleted when it is finished", _deleted, before=made),
    Story("deleted while its thumbnail is fetched", _deleted_fetching, before=_made_and_settled),
    Story("a budget for the whole gateway", _two, general=BUDGET),
    Story("refused by the budget of the gateway", _refused, general={"max_budget": 0.1}),
    Story("a fallback", _one, prices=(0.1, 0.1), retired=True),
    Story("a dearer fallback", _one, prices=(0.1, 0.3), retired=True, general=BUDGET),
    Story("a cheaper fallback", _one, prices=(0.3, 0.1), retired=True, general=BUDGET),
    Story(
        "a fallback that the key cannot pay",
        _one,
        ends=("model_retired",),
        prices=(0.1, 0.3),
        retired=True,
        general=BUDGET,
        account=Account(max_budget=_PRICE),
    ),
    Story("a key from its first day to its last", _operated),
    Story("a caller who comes with a token", _identified, identities=({"match": {"app_id": APP}},)),
    Story("a logging provider that is told", _one, check=told, listens=()),
    Story("a logging provider that is down at first", _one, check=told, listens=(503, 503)),
    Story("a logging provider that refuses, and takes the replay", _replayed, check=told, listens=(400, 400)),
    Story("a blocked request that is told", _blocked, check=heard_of(".blocked"), words=("cat",), listens=()),
    Story(
        "a soft budget that is crossed",
        _one,
        check=heard_of("soft_budget_crossed."),
        account=Account(soft_budget=1),
        listens=(),
    ),
    Story("a queue and a topic that are told", _one, check=_piped, listens=(), sinks=("azure_queue", "event_grid")),
    Story("messages that start videos", _requested, check=_once_each, account=Account(max_parallel_requests=1), requests=True),
    Story("a message that starts none", _requested_badly, check=heard_of(".rejected"), listens=(), requests=True),
    Story("a webhook from its first day to its last", _hooked, check=_hooks_told, knobs=_LOOPBACK),
    Story("deleted while it waits, and a provider is told", _deleted_waiting, ends=CANCELLED, busy=1, check=told, listens=()),
    Story("a server that keeps its films", _one, dialect="sglang"),
    Story("a lost answer of vLLM-Omni", _with(kind="reset_after", operation="create"), dialect="hosted_vllm"),
    Story("a lost answer of vLLM-Omni about an image", _with_reference_unheard, dialect="hosted_vllm"),
    Story("a lost answer of SGLang", _with(kind="reset_after", operation="create"), dialect="sglang"),
    Story(
        "a lost answer of Google's layer",
        _with(kind="reset_after", operation="create"),
        ends=("completed", "upstream_uncertain"),
        dialect="gemini",
    ),
    Story("deleted while SGLang makes it", _deleted_running, dialect="sglang", max_running=1, general=BUDGET),
    Story(
        "deleted while Google makes it",
        _deleted_at_google,
        ends=("completed", "upstream_uncertain"),
        dialect="gemini",
        max_running=1,
        busy=1,  # the job of an unclear create may still run
        general=BUDGET,
    ),
    Story("a restart of vLLM-Omni", _restarted, dialect="hosted_vllm", remade=1),
    Story("a restart of SGLang", _restarted, dialect="sglang", remade=1),
    Story("stopped while it runs", _stopped, ends=("cancelled",), dialect="hosted_vllm", general=BUDGET),
    Story("stopped by the next look", _deleted_unstoppable, ends=("cancelled",), dialect="hosted_vllm"),
    Story(
        "stopped at its deadline",
        _endless,
        ends=("deadline_exceeded",),
        dialect="hosted_vllm",
        knobs={"deadline_seconds": 20},
    ),
)
