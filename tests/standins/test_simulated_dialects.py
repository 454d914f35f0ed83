"""The simulated vLLM-Omni, SGLang and Gemini answer as the servers' own source, or documentation,
says.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.simulator.dialects.hosted_vllm import HostedVllm
from tests.fakes.simulator import LONGEST_RENDER, Simulator, duration, eventually, picture, simulator

pytestmark = pytest.mark.anyio

_MODEL = HostedVllm.served
ENGINES = ("hosted_vllm", "sglang")
EVERYBODY = (*ENGINES, "gemini")


async def create(sim: Simulator, prompt: str = "A cat", /, **fields: str) -> httpx.Response:
    model = "veo-3.1-generate-preview" if sim.http.base_url.path.startswith("/v1beta") else _MODEL
    parts = {"model": model, "prompt": prompt, **fields}
    return await sim.http.post("/videos", files={name: (None, value) for name, value in parts.items()})


async def created(sim: Simulator, prompt: str = "A cat", /, **fields: str) -> str:
    answer = await create(sim, prompt, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def ended(sim: Simulator, prompt: str = "A cat", /, **fields: str) -> str:
    video_id = await created(sim, prompt, **fields)
    await sim.clock.advance(LONGEST_RENDER)
    return video_id


async def get(sim: Simulator, video_id: str) -> httpx.Response:
    return await sim.http.get(f"/videos/{video_id}")


def boxes(film: bytes) -> list[bytes]:
    """The kinds of an MP4's outermost boxes, in order."""
    kinds, at = [], 0
    while at < len(film):
        kinds.append(film[at + 4 : at + 8])
        at += int.from_bytes(film[at : at + 4], "big")
    return kinds


# Every server


@pytest.mark.parametrize("dialect", EVERYBODY)
async def test_a_film_is_made(tmp_path: Path, dialect: str) -> None:
    """It is as long as was asked for, and where the server says."""
    length = {"duration_seconds" if dialect == "gemini" else "seconds": "4"}
    async with simulator(tmp_path, dialect=dialect) as sim:
        video_id = await ended(sim, **length)
        video = (await get(sim, video_id)).json()
        assert video["status"] == "completed"
        where = video["video"]["url"] if dialect == "gemini" else f"/videos/{video_id}/content"
        answer = await sim.http.get(where)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        assert duration(answer.content) == 4


@pytest.mark.parametrize("dialect", ENGINES)
async def test_an_engine_renders_one_job_after_the_other(tmp_path: Path, dialect: str) -> None:
    """Nothing is refused: a second job waits in the server's own line."""
    async with simulator(tmp_path, dialect=dialect, max_running=1) as sim:
        first, second = await created(sim), await created(sim)
        await sim.clock.advance(1)
        told = [(await get(sim, each)).json()["status"] for each in (first, second)]
        assert told == ["in_progress", "queued"]
        await sim.clock.advance(LONGEST_RENDER)
        assert (await get(sim, second)).json()["status"] == "completed"


@pytest.mark.parametrize("dialect", ENGINES)
async def test_a_restart_forgets_every_job(tmp_path: Path, dialect: str) -> None:
    """In this process and in the next one; the creates still count."""
    async with simulator(tmp_path, dialect=dialect, max_running=1) as sim:
        video_id = await created(sim)
        sim.server.restart()
        assert (await get(sim, video_id)).status_code == 404
        assert (await sim.http.get("/videos")).json()["data"] == []
        assert [job.lost for job in sim.server.jobs.accepted()] == [True]
        again = await created(sim, "An endless cat")
        assert (await get(sim, again)).json()["status"] == "in_progress"  # the engine was free
    async with simulator(tmp_path, dialect=dialect) as sim:
        assert (await get(sim, again)).status_code == 404


@pytest.mark.parametrize("dialect", EVERYBODY)
async def test_there_is_no_remix(tmp_path: Path, dialect: str) -> None:
    """A route that no server knows."""
    async with simulator(tmp_path, dialect=dialect) as sim:
        answer = await sim.http.post(f"/videos/{await ended(sim)}/remix", json={"prompt": "A dog"})
        assert answer.status_code == 404
        if dialect != "gemini":
            assert answer.json() == {"detail": "Not Found"}


@pytest.mark.parametrize("dialect", ENGINES)
async def test_lists_go_by_the_second(tmp_path: Path, dialect: str) -> None:
    """Newest first; jobs of one second stand as they came, and none follows an unknown one."""
    async with simulator(tmp_path, dialect=dialect) as sim:
        old = await created(sim)
        await sim.clock.advance(5)
        first, second = await created(sim), await created(sim)
        page = (await sim.http.get("/videos", params={"limit": 2})).json()
        assert [each["id"] for each in page["data"]] == [first, second]
        assert (page["first_id"], page["last_id"], page["has_more"]) == (first, second, True)
        rest = (await sim.http.get("/videos", params={"after": second})).json()
        assert [each["id"] for each in rest["data"]] == [old]
        assert (await sim.http.get("/videos", params={"after": "nobody"})).json()["data"] == []


@pytest.mark.parametrize("dialect", EVERYBODY)
async def test_a_reference_may_have_another_size(tmp_path: Path, dialect: str) -> None:
    """The server makes it fit; what is no image is refused."""
    async with simulator(tmp_path, dialect=dialect) as sim:
        model = "veo-3.1-generate-preview" if dialect == "gemini" else _MODEL
        told = {"model": model, "prompt": "A cat"}
        for data, status in ((picture((64, 64)), 200), (b"not an image", 400)):
            image = {"input_reference": ("cat.png", data, "image/png")}
            assert (await sim.http.post("/videos", data=told, files=image)).status_code == status


# vLLM-Omni


async def test_vllm_tells_the_whole_job_and_no_progress(tmp_path: Path) -> None:
    """The size only if it was sent; then what came of it."""
    async with simulator(tmp_path, dialect="hosted_vllm", max_running=1) as sim:
        video = (await create(sim, seconds="5", fps="16", seed="7")).json()
        assert (video["status"], video["size"], video["seconds"], video["prompt"]) == ("queued", None, "5", "A cat")
        assert (video["fps"], video["num_frames"], video["duration_s"]) == (16.0, 80, 5.0)
        await sim.clock.advance(30)
        told = (await get(sim, video["id"])).json()
        assert (told["status"], told["progress"]) == ("in_progress", 0)
        await sim.clock.advance(LONGEST_RENDER)
        told = (await get(sim, video["id"])).json()
        assert (told["status"], told["progress"], told["file_name"]) == ("completed", 100, f"{video['id']}.mp4")
        assert told["inference_time_s"] > 60


@pytest.mark.parametrize(("prompt", "status"), [("An unlucky cat", 500), ("A disturbing cat", 400)])
async def test_vllm_tells_a_failed_job_as_an_http_error(tmp_path: Path, prompt: str, status: int) -> None:
    """With the whole job in its body, and an integer for a code, in lists as well."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim:
        video_id = await ended(sim, prompt)
        answer = await get(sim, video_id)
        assert answer.status_code == status
        assert (answer.json()["id"], answer.json()["status"]) == (video_id, "failed")
        assert answer.json()["error"]["code"] == status
        (listed,) = (await sim.http.get("/videos")).json()["data"]
        assert listed["error"]["code"] == status
        content = await sim.http.get(f"/videos/{video_id}/content")
        assert (content.status_code, content.json()["error"]["code"]) == (422, 422)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seconds": "04"}, "body.seconds"),
        ({"seconds": "4.5"}, "body.seconds"),
        ({"size": "large"}, "body.size"),
        ({"num_outputs_per_prompt": "11"}, "body.num_outputs_per_prompt"),
        ({"fps": "fast"}, "body.fps"),
        ({"sound_duration": "0"}, "body.sound_duration"),
        ({"frame_interpolation_exp": "0"}, "body.frame_interpolation_exp"),
        ({"frame_interpolation_scale": "0"}, "body.frame_interpolation_scale"),
        ({"num_inference_steps": "201"}, None),
        ({"guidance_scale": "21"}, None),
        ({"extra_params": "[]"}, None),
        ({"lora": "{"}, None),
        ({"model": "sora-2"}, None),
        ({"image_reference": '"an image"'}, None),
        ({"image_reference": '{"image_url": 5}'}, None),
        ({"image_reference": '{"image_url": "https://x/a.png", "file_id": "f"}'}, None),
        ({"image_reference": '[{"image_url": "ftp://x/a.png"}]'}, None),
        ({"image_reference": '{"image_url": "data:image/png;base64,AAAA"}'}, None),
        ({"image_reference": '{"file_id": "f"}'}, None),
        ({"audio_reference": '{"file_id": "f"}'}, None),
    ],
)
async def test_vllm_refuses_a_wrong_create(tmp_path: Path, fields: dict[str, str], param: str | None) -> None:
    """Always with 400, an integer code, and without a job."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim:
        answer = await create(sim, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, 400, param)
        assert sim.server.jobs.accepted() == []


async def test_vllm_takes_forms_alone(tmp_path: Path) -> None:
    """A JSON body says nothing to it, not even a prompt."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim:
        answer = await sim.http.post("/videos", json={"model": _MODEL, "prompt": "A cat"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body.prompt")


async def test_vllm_stops_a_job_that_is_deleted(tmp_path: Path) -> None:
    """The next in its line begins at once."""
    async with simulator(tmp_path, dialect="hosted_vllm", max_running=1) as sim:
        first, second = await created(sim, "An endless cat"), await created(sim)
        answer = await sim.http.delete(f"/videos/{first}")
        assert answer.json() == {"id": first, "deleted": True, "object": "video.deleted"}
        assert (await get(sim, first)).status_code == 404
        assert (await get(sim, second)).json()["status"] == "in_progress"


async def test_vllm_content(tmp_path: Path) -> None:
    """404 while it is made; then the film whatever variant is asked for, its index last."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim:
        video_id = await created(sim)
        assert (await sim.content(video_id)).status_code == 404
        await sim.clock.advance(LONGEST_RENDER)
        answer = await sim.content(video_id, "thumbnail")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        assert boxes(answer.content)[-1] == b"moov"


async def test_vllm_can_be_asked_to_answer_with_the_film(tmp_path: Path) -> None:
    """`/videos/sync`, which answers when it is made."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim:
        parts = {"model": (None, _MODEL), "prompt": (None, "A cat")}
        asked = asyncio.create_task(sim.http.post("/videos/sync", files=parts))
        await eventually(lambda: bool(sim.server.jobs.accepted()))
        await sim.clock.advance(LONGEST_RENDER)
        answer = await asked
        assert (answer.headers["x-model"], duration(answer.content)) == (_MODEL, 4)


async def test_vllm_wants_its_key(tmp_path: Path) -> None:
    """For everything below /v1, and not for its health."""
    async with simulator(tmp_path, dialect="hosted_vllm") as sim, httpx.AsyncClient(base_url=sim.url, trust_env=False) as http:
        answer = await http.get("/v1/videos")
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
        assert (await http.get("/health")).status_code == 200


# SGLang


async def test_sglang_never_tells_the_prompt(tmp_path: Path) -> None:
    """And keeps whatever model was named; its ids are bare UUIDs, its seed always the same."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        video = (await create(sim, model="wan#mark-1", seconds="5")).json()
        assert (video["model"], video["seconds"], video["size"]) == ("wan#mark-1", "5", "1280x720")
        assert "prompt" not in video
        assert len(video["id"]) == 36
        assert sim.server.jobs.accepted()[0].parameters["seed"] == 42


async def test_sglang_takes_json_and_numbers(tmp_path: Path) -> None:
    """Frames before seconds, width and height before the size, extras before nothing."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        body: dict[str, Any] = {
            "prompt": "A cat",
            "size": "720x1280",
            "width": 832,
            "seconds": "8",
            "extra_body": {"num_frames": 48},
        }
        video = (await sim.http.post("/videos", json=body)).json()
        assert (video["size"], video["seconds"]) == ("832x1280", "2")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"seconds": "four"}, 422),
        ({"size": "large"}, 400),
        ({"width": "0"}, 400),
        ({"fps": "0"}, 400),
        ({"seed": "-1"}, 400),
        ({"extra_body": "{"}, 400),
        ({"output_quality": "best"}, 400),
        ({"reference_url": "an image"}, 400),
    ],
)
async def test_sglang_refuses_a_wrong_form(tmp_path: Path, fields: dict[str, str], status: int) -> None:
    """In the envelope of its framework."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        answer = await create(sim, **fields)
        assert answer.status_code == status
        assert "detail" in answer.json()


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"prompt": "A cat", "seconds": "4.5"}', b'{"prompt": 7}'])
async def test_sglang_refuses_a_wrong_object(tmp_path: Path, body: bytes) -> None:
    """Always with 400."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        answer = await sim.http.post("/videos", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("Invalid request body")


async def test_sglang_tells_progress_and_failure(tmp_path: Path) -> None:
    """By step up to 99; a failed job has a message, and no code."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        video_id = await created(sim)
        await sim.clock.advance(30)
        assert 0 < (await get(sim, video_id)).json()["progress"] < 99
        failed = await get(sim, await ended(sim, "An unlucky cat"))
        assert (failed.status_code, failed.json()["status"], list(failed.json()["error"])) == (200, "failed", ["message"])


async def test_sglang_deletes_the_word_and_not_the_work(tmp_path: Path) -> None:
    """It answers with the video; the engine goes on with it, and the next one waits."""
    async with simulator(tmp_path, dialect="sglang", max_running=1) as sim:
        first, second = await created(sim, "An endless cat"), await created(sim)
        answer = await sim.http.delete(f"/videos/{first}")
        assert (answer.status_code, answer.json()["status"]) == (200, "deleted")
        assert (await get(sim, first)).status_code == 404
        await sim.clock.advance(LONGEST_RENDER)
        assert (await get(sim, second)).json()["status"] == "queued"


async def test_sglang_variants_are_numbers(tmp_path: Path) -> None:
    """A word is not found."""
    async with simulator(tmp_path, dialect="sglang") as sim:
        video_id = await ended(sim)
        assert (await sim.content(video_id, "0")).status_code == 200
        answer = await sim.content(video_id, "video")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Video variant video not found"})


async def test_sglang_films_may_lie_in_a_bucket(tmp_path: Path) -> None:
    """The content route then names the address, which the job has too."""
    async with simulator(tmp_path, dialect="sglang", cloud=True) as sim:
        video_id = await ended(sim)
        video = (await get(sim, video_id)).json()
        answer = await sim.http.get(f"/videos/{video_id}/content")
        assert answer.status_code == 400
        assert answer.json()["detail"].endswith(f"use the cloud URL: {video['url']}")
        assert video["file_path"] is None
        film = await sim.http.get(video["url"])
        assert boxes(film.content)[-1] == b"moov"


# Gemini


async def test_gemini_says_processing_and_then_where(tmp_path: Path) -> None:
    """Its words for states are its own, and the film wants the key."""
    async with simulator(tmp_path, dialect="gemini") as sim, httpx.AsyncClient(trust_env=False) as stranger:
        video = (await create(sim, duration_seconds="6", aspect_ratio="9:16")).json()
        assert (video["status"], "video" in video) == ("processing", False)
        await sim.clock.advance(LONGEST_RENDER)
        url = (await get(sim, video["id"])).json()["video"]["url"]
        assert duration((await sim.http.get(url)).content) == 6
        assert (await stranger.get(url)).status_code == 401
        assert (await sim.http.get("/videos")).status_code == 405


@pytest.mark.parametrize("fields", [{"duration_seconds": "5"}, {"resolution": "480p"}, {"aspect_ratio": "1:1"}])
async def test_gemini_refuses_what_it_does_not_make(tmp_path: Path, fields: dict[str, str]) -> None:
    """With Google's envelope: an integer code and a status in words."""
    async with simulator(tmp_path, dialect="gemini") as sim:
        answer = await create(sim, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
