"""What clients do in the crash matrix, and the operator with a key. What only the sweep does is in
`tests.trials.crash.repairs`.
"""

from base64 import b64encode
from io import BytesIO
from typing import Any

from PIL import Image

from shared.accounts.account import Account
from tests.trials.crash.run import Run
from tests.trials.crash.story import MASTER_KEY, Story

LONG = {"seconds": "12"}  # runs long enough upstream to be caught at it
BUDGET = {"max_budget": 100_000}  # dollars, for the whole gateway
CANCELLED = ("completed", "cancelled")
_PRICE = 400_000  # micro-dollars, of a video at the first model's usual price


def picture() -> dict[str, Any]:
    """The field of a create that brings a reference image."""
    image = BytesIO()
    Image.new("RGB", (720, 1280), "red").save(image, "PNG")
    return {"input_reference": {"image_url": f"data:image/png;base64,{b64encode(image.getvalue()).decode()}"}}


async def made(run: Run) -> str:
    video_id = await run.client.create()
    await run.client.reaches(video_id, "completed")
    return video_id


async def _one(run: Run, _: Any) -> None:
    await run.client.create()


async def _two(run: Run, _: Any) -> None:
    await run.client.create()
    await run.client.create()


async def _three(run: Run, _: Any) -> None:
    await _two(run, None)
    await run.client.create()


async def _with_reference(run: Run, _: Any) -> None:
    await run.client.create(**picture())


def _with(**fault: Any) -> Any:
    """A video while the upstream has a fault."""

    async def act(run: Run, _: Any) -> None:
        run.fault(**fault)
        await run.client.create()

    return act


async def _unknown_at_first(run: Run, _: Any) -> None:
    run.fault(kind="status", operation="get", status=404, message="Video with id 'x' not found.")
    await run.client.create()


async def _remixed(run: Run, source: str) -> None:
    await run.client.remix(source)


async def _remixed_unheard(run: Run, source: str) -> None:
    run.fault(kind="reset_after", operation="remix")
    await run.client.remix(source)


async def _refused(run: Run, _: Any) -> None:
    await run.client.refused("budget_exceeded", **picture())


async def _with_thumbnail(run: Run, video_id: str) -> None:
    image = await run.client.thumbnail(video_id)
    run.result.expect(image[8:12] == b"WEBP", "the thumbnail is no such image")


async def _thumbnail_stays(run: Run) -> list[str]:
    (video,) = [each async for each in run.gateway.ledger.videos(run.owner)]
    return [] if await run.gateway.archive.has_image(video, "thumbnail") else ["the thumbnail is not stored"]


async def _deleted(run: Run, video_id: str) -> None:
    await run.client.delete(video_id)


async def _deleted_waiting(run: Run, _: Any) -> None:
    run.fault(kind="status", operation="create", documented="E2", headers={"retry-after": "200"})
    video_id = await run.client.create(**picture())
    await run.stands_back(video_id)
    await run.client.delete(video_id)


async def _deleted_asking(run: Run, _: Any) -> None:
    run.fault(kind="delay", operation="create", seconds=8, when="after")
    video_id = await run.client.create()
    await run.asked("create")
    await run.client.delete(video_id)
    await run.client.create()  # in line for the slot of the one before


async def _deleted_unclear(run: Run, _: Any) -> None:
    run.fault(kind="reset_after", operation="create")
    run.fault(kind="status", operation="list", status=503)
    video_id = await run.client.create()
    await run.asked("list")
    await run.client.delete(video_id)


async def _deleted_running(run: Run, _: Any) -> None:
    video_id = await run.client.create(**LONG)
    await run.accepted()
    await run.client.delete(video_id)
    await run.client.create()  # in line for the slot of the one before


async def _deleted_saving(run: Run, _: Any) -> None:
    run.fault(kind="trickle", operation="content", bytes_per_second=60_000)
    video_id = await run.client.create()
    await run.asked("content")
    await run.client.delete(video_id)


async def _slowly_fetched(run: Run, _: Any) -> None:
    run.fault(kind="trickle", operation="content", bytes_per_second=60_000)
    await _two(run, None)


async def _starts_meanwhile(run: Run) -> list[str]:
    """A slot is free when the job has ended, and not when its bytes have arrived; dead apps start
    nothing.
    """
    ends = [video.finished_at async for video in run.gateway.ledger.videos(run.owner) if video.finished_at]
    late = not run.result.died and run.jobs()[1].created_at > min(ends).timestamp()
    return ["the second video started only after the first was fetched"] if late else []


async def _operated(run: Run, _: Any) -> None:
    """A key's whole life; what was not heard of is asked for again."""
    first, second = f"sk-first-{run.client.tag}-00", f"sk-second-{run.client.tag}"
    alias = f"alias of {run.client.tag}"
    await run.client.operate("generate", {"key": first, "key_alias": alias}, again=(409,))
    await run.client.operate("update", {"key": first, "key_alias": f"new {alias}", "max_budget": 1})
    await run.client.operate("block", {"key": first})
    await run.client.operate("unblock", {"key": first})
    await run.client.operate("regenerate", {"key": first, "new_key": second}, again=(404, 409))
    taken = await run.client.ask(
        "POST", "/key/generate", json={"key_alias": f"new {alias}"}, headers={"authorization": f"Bearer {MASTER_KEY}"}
    )
    run.result.expect(taken.status_code == 409, f"an alias that is taken was answered {taken.status_code}")
    for secret, status in ((first, 401), (second, 200)):
        answer = await run.client.ask("GET", "/v1/videos", headers={"authorization": f"Bearer {secret}"})
        run.result.expect(answer.status_code == status, f"{secret} was answered {answer.status_code}, not {status}")
    await run.client.operate("delete", {"keys": [second]}, again=(404,))
    answer = await run.client.ask("GET", "/v1/videos", headers={"authorization": f"Bearer {second}"})
    run.result.expect(answer.status_code == 401, f"a deleted key was answered {answer.status_code}")


CLIENTS = (
    Story("a video", _one),
    Story("a create whose answer is lost", _with(kind="reset_after", operation="create")),
    Story("a create that is lost", _with(kind="reset_before", operation="create"), unclear=1),
    Story("a create that is refused as unfinished", _with(kind="status", operation="create", documented="E12", when="after")),
    Story("a full upstream", _with(kind="status", operation="create", documented="E2", headers={"retry-after": "5"}), busy=1),
    Story("a reference image", _with_reference),
    Story("a remix", _remixed, before=made),
    Story("a remix whose answer is lost", _remixed_unheard, before=made),
    Story("a job that is unknown at first", _unknown_at_first),
    Story("a thumbnail", _with_thumbnail, before=made, check=_thumbnail_stays),
    Story("two in line for one slot", _two, max_running=1),
    Story("three at two a minute", _three, max_running=3, pace=2),
    Story("a slow download while another waits", _slowly_fetched, check=_starts_meanwhile, max_running=1),
    Story("deleted while it waits", _deleted_waiting, ends=CANCELLED, busy=1),
    Story("deleted while it is asked for", _deleted_asking, ends=CANCELLED, max_running=1),
    Story("deleted while it is unclear", _deleted_unclear, ends=CANCELLED),
    Story("deleted while it runs", _deleted_running, ends=CANCELLED, max_running=1),
    Story("deleted while it is saved", _deleted_saving, ends=CANCELLED),
    Story("deleted when it is finished", _deleted, before=made),
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
)
