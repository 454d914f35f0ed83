"""What clients do in the crash matrix: between them the stories pass every durable write and every upstream call of the app."""

from base64 import b64encode
from io import BytesIO
from typing import Any

from PIL import Image

from local.crash_run import Run
from local.crash_story import Story

_LONG = {"seconds": "12"}  # runs long enough upstream to be caught at it


async def _one_video(run: Run, _: Any) -> None:
    await run.create()


async def _accepted_unheard(run: Run, _: Any) -> None:
    run.fault(kind="reset_after", operation="create")
    await run.create()


async def _lost_on_the_way(run: Run, _: Any) -> None:
    run.fault(kind="reset_before", operation="create")
    await run.create()


async def _too_many(run: Run, _: Any) -> None:
    run.fault(kind="status", operation="create", documented="E2", headers={"retry-after": "1"})
    await run.create()


async def _with_reference(run: Run, _: Any) -> None:
    picture = BytesIO()
    Image.new("RGB", (720, 1280), "red").save(picture, "PNG")
    url = f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"
    await run.create(input_reference={"image_url": url}, size="720x1280")


async def _made(run: Run) -> str:
    video_id = await run.create()
    await run.reaches(video_id, "completed")
    return video_id


async def _remixed(run: Run, source: str) -> None:
    await run.remix(source)


async def _deleted(run: Run, video_id: str) -> None:
    await run.delete(video_id)


async def _deleted_waiting(run: Run, _: Any) -> None:
    run.fault(kind="status", operation="create", documented="E2", headers={"retry-after": "1"})
    await run.delete(await run.create())


async def _deleted_running(run: Run, _: Any) -> None:
    video_id = await run.create(**_LONG)
    await run.accepted()
    await run.delete(video_id)


async def _deleted_saving(run: Run, _: Any) -> None:
    run.fault(kind="trickle", operation="content", bytes_per_second=100_000)
    video_id = await run.create()
    await run.asked("content")
    await run.delete(video_id)


async def _two_in_line(run: Run, _: Any) -> None:
    await run.create()
    await run.create()


async def _retired(run: Run, _: Any) -> None:
    run.fault(kind="status", operation="create", documented="E13")
    await run.create()


async def _nothing(run: Run, _: Any) -> None:
    """The sweep is on its own."""


STORIES = (
    Story("a video", _one_video),
    Story("a create whose answer is lost", _accepted_unheard),
    Story("a create that is lost", _lost_on_the_way),
    Story("too many running upstream", _too_many),
    Story("a reference image", _with_reference),
    Story("a remix", _remixed, before=_made),
    Story("deleted while it waits", _deleted_waiting, ends=("completed", "cancelled")),
    Story("deleted while it runs", _deleted_running, ends=("completed", "cancelled")),
    Story("deleted while it is saved", _deleted_saving, ends=("completed", "cancelled")),
    Story("deleted when it is finished", _deleted, before=_made),
    Story("a budget for the whole gateway", _one_video, config={"general_settings": {"max_budget": 100_000}}),
    Story("a fallback", _retired, spare=True),
    Story("never started, found by the sweep", _nothing, before=_made, orphaned=True),
    Story("two in line for one slot", _two_in_line, model={"max_running": 1}),
)
