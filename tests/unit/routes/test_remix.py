"""A remix: the upstream's own where the prompt alone changes, else a video that is made anew."""

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from shared.dialects.parameters import Parameter
from shared.media.requests import LONGEST_PROMPT
from tests.fakes.asking import Reply
from tests.fakes.simulator import picture
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

IMAGE = {"image_url": "data:image/png;base64," + base64.b64encode(picture((720, 1280))).decode()}


async def completed(world: World, **fields: Any) -> str:
    video = await world.start(**fields)
    return await ended(world, video.id)


async def ended(world: World, video_id: str) -> str:
    await world.submitted(video_id)
    world.upstream.end()
    assert (await world.live(video_id)).status == "completed"
    return video_id


async def remix(world: World, source: str, **body: Any) -> Reply:
    body = {"prompt": "Make it jump", **body}
    return await world.send("POST", f"v1/videos/{source}/remix", secret=world.secret, body=body)


def newest(world: World) -> dict[str, Any]:
    """The job that the upstream accepted last."""
    return [*world.upstream.jobs.values()][-1]


@pytest.mark.parametrize("same", [{}, {"seconds": "4"}, {"seconds": 4, "size": "720x1280"}, {"seconds": None, "size": None}])
async def test_where_nothing_but_the_prompt_changes_it_is_the_upstreams_own(world: World, same: dict[str, Any]) -> None:
    """With the source's length and size, told or not, the source's job is remixed."""
    source = await completed(world)
    made = (await remix(world, source, **same)).json
    assert (made["remixed_from_video_id"], made["remix"], made["prompt"]) == (source, None, "Make it jump")
    await world.submitted(made["id"])
    assert newest(world)["remixed_from_video_id"] == (await world.video(source)).upstream_id


@pytest.mark.parametrize(
    ("other", "cost"),
    [({"seconds": "8"}, "0.8"), ({"size": "1280x720"}, "0.4"), ({"input_reference": IMAGE}, "0.4")],
    ids=["length", "size", "image"],
)
async def test_with_another_length_size_or_image_it_is_made_anew(world: World, other: dict[str, Any], cost: str) -> None:
    """It says so, is asked for by the source's prompt and the change, and costs what such a create
    costs. Nothing that was sent is dropped.
    """
    source = await completed(world)
    reply = await remix(world, source, **other)
    made = reply.json
    assert (reply.status, made["remix"], made["remixed_from_video_id"]) == (200, "recreated", source)
    assert reply.headers["x-response-cost"] == cost
    assert made["prompt"] == "A cat\n\nMake it jump"
    await world.submitted(made["id"])
    job = newest(world)
    assert "remixed_from_video_id" not in job
    assert (job["prompt"], job["seconds"], job["size"]) == (made["prompt"], made["seconds"], made["size"])
    assert ((await world.video(made["id"])).reference is not None) == ("input_reference" in other)


async def test_a_remix_of_a_remix_is_made_anew_from_every_prompt_that_led_to_it(world: World) -> None:
    """An upstream's remix tells only what changes, so its own prompt would lose the cat."""
    first = await completed(world)
    second = await ended(world, (await remix(world, first, prompt="Make it grey")).json["id"])
    made = (await remix(world, second, seconds="8")).json
    assert made["prompt"] == "A cat\n\nMake it grey\n\nMake it jump"


async def test_a_video_that_is_made_anew_keeps_the_parameters_of_its_source(world: World) -> None:
    """A seed, say, without which it would be another film altogether."""
    able = replace(world.model.capability, parameters={"seed": Parameter("integer")})
    seeded = world.with_model(replace(world.model, capability=able))
    source = await completed(seeded, seed=7)
    assert (await remix(seeded, source, seconds="8")).json["parameters"] == {"seed": 7}


async def test_prompts_that_are_too_long_together_are_refused(world: World) -> None:
    """Before anything is reserved."""
    source = await completed(world, prompt="a" * (LONGEST_PROMPT - 5))
    reply = await remix(world, source, seconds="8")
    assert (reply.status, reply.json["error"]["param"]) == (400, "prompt")
    assert (await world.account()).reserved == 0


@pytest.mark.world(knobs={"recreate_remixes": False})
@pytest.mark.parametrize(
    ("other", "param"),
    [({"seconds": "8"}, "seconds"), ({"size": "1280x720"}, "size"), ({"input_reference": IMAGE}, "input_reference")],
    ids=["length", "size", "image"],
)
async def test_an_operator_may_refuse_what_the_upstream_cannot_remix(world: World, other: dict[str, Any], param: str) -> None:
    """With the name of what the upstream's own remix does not take."""
    source = await completed(world)
    reply = await remix(world, source, **other)
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "remix_not_supported", param)
    assert (await remix(world, source)).status == 200


async def test_a_remix_keeps_its_model(world: World) -> None:
    """Another model's video is not a remix."""
    source = await completed(world)
    reply = await remix(world, source, model=world.model.name)
    assert (reply.status, reply.json["error"]["param"]) == (400, "model")
