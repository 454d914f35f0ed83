"""The simulated Azure OpenAI behaves as its documentation says: operations, quotas, errors, expiry,
what survives a kill.
"""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from local.simulator.dialects.dialect import ServedModel
from local.simulator.jobs import render_seconds
from local.simulator.process import listening
from local.simulator.server import SimulatedServer
from shared.clock import SystemClock
from tests.fakes.simulator import DAY, LONGEST_RENDER, Simulator, colour_at, duration, picture, simulator

# OpenAI's own shutdown date is announced by its client at every call: that is why this project
# exists.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")]

_KEYS = {
    "id",
    "object",
    "model",
    "status",
    "progress",
    "created_at",
    "completed_at",
    "expires_at",
    "prompt",
    "size",
    "seconds",
    "remixed_from_video_id",
    "error",
}


def refusal(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, param and code of an error in the OpenAI envelope."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["code"]


def client_of(sim: Simulator) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{sim.url}/openai/v1", api_key="the-key", max_retries=0)


# The official client


async def test_the_official_client_makes_a_video(tmp_path: Path) -> None:
    """Create, retrieve, list, download, remix and delete, in the Azure dialect, with a key as
    bearer token.
    """
    async with simulator(tmp_path) as sim, client_of(sim) as client:
        video = await client.videos.create(model="sora-2", prompt="A cat", seconds="8", size="1280x720")
        assert (video.status, video.model, video.seconds, video.size) == ("queued", "sora-2", "8", "1280x720")
        await sim.clock.advance(LONGEST_RENDER)
        video = await client.videos.retrieve(video.id)
        assert (video.status, video.progress) == ("completed", 100)
        film = (await client.videos.download_content(video.id)).read()
        assert duration(film) == 8
        remix = await client.videos.remix(video.id, prompt="A dog")
        listed = [each.id async for each in client.videos.list(limit=1)]
        assert listed == [remix.id, video.id]
        deleted = await client.videos.delete(video.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (video.id, "video.deleted", True)


async def test_the_official_client_polls_in_the_other_dialect(tmp_path: Path) -> None:
    """`create_and_poll` without a model, against /v1/videos; its polls carry more than ten headers
    of their own.
    """
    async with (
        listening(SimulatedServer(tmp_path, SystemClock(), 1e9, "openai")) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        video = await client.videos.create_and_poll(prompt="A cat", poll_interval_ms=1)
        assert (video.status, video.model, video.seconds, video.size) == ("completed", "sora-2", "4", "720x1280")


async def test_the_official_sync_client_sends_a_reference_file(tmp_path: Path) -> None:
    """A PNG of the film's size is taken, and is what the film shows."""

    def use(url: str) -> str:
        with openai.OpenAI(base_url=f"{url}/openai/v1", api_key="the-key", max_retries=0) as client:
            image = ("cat.png", picture((720, 1280)), "image/png")
            return client.videos.create(model="sora-2", prompt="A cat", input_reference=image).id

    async with simulator(tmp_path) as sim:
        video_id = await asyncio.to_thread(use, sim.url)
        await sim.clock.advance(LONGEST_RENDER)
        with Image.open(io.BytesIO((await sim.content(video_id, "thumbnail")).content)) as thumbnail:
            red, green, blue = colour_at(thumbnail, 360, 100)
        assert red > 200
        assert max(green, blue) < 50


# The life of a job


async def test_a_job_is_queued_then_rendered_then_completed(tmp_path: Path) -> None:
    """All 13 keys at every moment; progress only grows; the times are whole seconds counted from
    creation.
    """
    async with simulator(tmp_path) as sim:
        began = int(sim.clock.now().timestamp())
        video_id = await sim.created()
        seen = []
        for _ in range(80):
            video = await sim.get(video_id)
            assert set(video) == _KEYS
            seen.append((video["status"], video["progress"]))
            await sim.clock.advance(1)
        assert list(dict.fromkeys(status for status, _ in seen)) == ["queued", "in_progress", "completed"]
        progress = [each for _, each in seen]
        assert progress == sorted(progress)
        assert len(set(progress)) > 40
        assert (video["created_at"], video["expires_at"]) == (began, began + DAY)
        assert began + 50 <= video["completed_at"] <= began + 70


def test_longer_films_take_longer_and_speed_shortens_them() -> None:
    """About 60 simulated seconds for four seconds of film; the same for the same id."""
    takes = {seconds: render_seconds("video_1", seconds, 1) for seconds in (4, 8, 12)}
    assert takes[4] < takes[8] < takes[12] < LONGEST_RENDER
    assert 54 <= takes[4] <= 66
    assert render_seconds("video_1", 4, 10) == pytest.approx(takes[4] / 10)
    assert render_seconds("video_2", 4, 1) != takes[4]


async def test_content_has_three_variants(tmp_path: Path) -> None:
    """Each with its type and its length; another variant is refused."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        for variant, kind in {"video": "video/mp4", "thumbnail": "image/webp", "spritesheet": "image/jpeg"}.items():
            answer = await sim.content(video_id, variant)
            assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
            assert int(answer.headers["content-length"]) == len(answer.content)
        assert refusal(await sim.content(video_id, "poster")) == (400, "variant", "invalid_value")


async def test_content_of_an_unfinished_video_is_refused(tmp_path: Path) -> None:
    """So is remixing it, and deleting it."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.created()
        assert (await sim.content(video_id)).status_code == 400
        assert (await sim.http.post(f"/videos/{video_id}/remix", json={"prompt": "A dog"})).status_code == 400
        assert (await sim.http.delete(f"/videos/{video_id}")).status_code == 409
        assert (await sim.get(video_id))["status"] == "queued"


async def test_content_is_gone_a_day_after_creation(tmp_path: Path) -> None:
    """The video itself can still be looked up; a remix of it is refused like an unknown video."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        await sim.clock.advance(DAY - LONGEST_RENDER - 1)
        assert (await sim.content(video_id)).status_code == 200
        await sim.clock.advance(1)
        assert (await sim.content(video_id)).status_code == 404
        assert (await sim.http.post(f"/videos/{video_id}/remix", json={"prompt": "A dog"})).status_code == 404
        assert (await sim.get(video_id))["status"] == "completed"


async def test_speed_does_not_shorten_the_day(tmp_path: Path) -> None:
    """Expiry is clock time."""
    async with simulator(tmp_path, speed=100.0) as sim:
        video = await sim.get(await sim.completed())
        assert video["completed_at"] - video["created_at"] <= 1
        assert video["expires_at"] - video["created_at"] == DAY


async def test_a_remix_keeps_length_size_and_deployment(tmp_path: Path) -> None:
    """It has its own prompt and names its source; multipart and JSON both do, and nothing but a
    prompt is taken.
    """
    async with simulator(tmp_path, creates_per_minute=None, max_running=None) as sim:
        source = await sim.completed(seconds="8", size="1280x720")
        path = f"/videos/{source}/remix"
        for body in ({"json": {"prompt": "A dog"}}, {"files": {"prompt": (None, "A dog")}}):
            remix = (await sim.http.post(path, **body)).json()
            assert (remix["prompt"], remix["seconds"], remix["size"]) == ("A dog", "8", "1280x720")
            assert (remix["remixed_from_video_id"], remix["status"]) == (source, "queued")
        assert {job.deployment for job in sim.server.jobs.accepted()} == {"sora-2"}
        assert refusal(await sim.http.post(path, json={"prompt": "A dog", "seconds": "4"}))[1] == "seconds"


async def test_a_deleted_video_is_unknown(tmp_path: Path) -> None:
    """To every operation; its create still counts as accepted."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        await sim.content(video_id)
        assert (await sim.http.delete(f"/videos/{video_id}")).json()["deleted"] is True
        for answer in (await sim.http.get(f"/videos/{video_id}"), await sim.content(video_id)):
            assert answer.status_code == 404
        assert (await sim.http.get("/videos")).json()["data"] == []
        assert len(sim.server.jobs.accepted()) == 1
        assert list((tmp_path / "films").iterdir()) == []


async def test_lists_are_paged_in_both_orders(tmp_path: Path) -> None:
    """Newest first by default, also among videos of the same second; `after` continues, `has_more`
    says whether to.
    """
    async with simulator(tmp_path, creates_per_minute=None, max_running=None) as sim:
        made = [await sim.created() for _ in range(5)]
        newest = (await sim.http.get("/videos")).json()
        assert [video["id"] for video in newest["data"]] == made[::-1]
        assert (newest["object"], newest["first_id"], newest["last_id"]) == ("list", made[4], made[0])
        assert newest["has_more"] is False
        page = (await sim.http.get("/videos", params={"order": "asc", "limit": 2, "after": made[1]})).json()
        assert ([video["id"] for video in page["data"]], page["has_more"]) == (made[2:4], True)
        empty = (await sim.http.get("/videos", params={"limit": 0})).json()
        assert (empty["data"], empty["last_id"], empty["has_more"]) == ([], None, True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"limit": "101"}, (400, "limit", "invalid_value")),
        ({"limit": "many"}, (400, "limit", "invalid_value")),
        ({"order": "random"}, (400, "order", "invalid_value")),
        ({"after": "video_0"}, (404, None, None)),
    ],
)
async def test_a_wrong_page_is_refused(
    tmp_path: Path,
    query: dict[str, str],
    expected: tuple[int, str | None, str | None],
) -> None:
    """With the parameter that is wrong."""
    async with simulator(tmp_path) as sim:
        assert refusal(await sim.http.get("/videos", params=query)) == expected


# Creates that are refused

_UNKNOWN_DEPLOYMENT = (
    "The API deployment 'film' for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"model": "film"}, 404, {"message": _UNKNOWN_DEPLOYMENT, "type": "video_generation_user_error"}),
        ({"model": None}, 400, {"message": "Missing required parameter: 'model'.", "param": "model"}),
        ({"prompt": None}, 400, {"message": "Missing required parameter: 'prompt'.", "param": "prompt"}),
        ({"prompt": "x" * 32_001}, 400, {"param": "prompt"}),
        ({"prompt": 7}, 400, {"param": "prompt", "code": "invalid_type"}),
        ({"seconds": 4}, 400, {"param": "seconds", "code": "invalid_type"}),
        ({"seconds": "16"}, 400, {"message": "Invalid value: '16'. Supported values are: '4', '8', '12'.", "param": "seconds"}),
        ({"size": "1920x1080"}, 400, {"param": "size", "code": "invalid_value"}),
        ({"user": "me"}, 400, {"param": "user", "code": "unknown_parameter"}),
        ({"input_reference": "cat.png"}, 400, {"param": "input_reference", "code": "invalid_type"}),
        ({"input_reference": {"image_url": "data:,"}}, 400, {"param": "input_reference", "code": "invalid_type"}),
        ({"prompt": "A FORBIDDEN cat"}, 400, {"code": "moderation_blocked"}),
    ],
)
async def test_a_wrong_create_is_refused(tmp_path: Path, fields: dict[str, object], status: int, error: dict[str, str]) -> None:
    """In the service's envelope, with the field at fault, and without a job."""
    async with simulator(tmp_path) as sim:
        answer = await sim.http.post("/videos", json={"model": "sora-2", "prompt": "A cat", **fields})
        refusal(answer)
        assert answer.status_code == status
        assert error.items() <= answer.json()["error"].items()
        assert sim.server.jobs.accepted() == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_not_an_object_is_refused(tmp_path: Path, body: bytes) -> None:
    """Whatever it is instead."""
    async with simulator(tmp_path) as sim:
        answer = await sim.http.post("/videos", content=body, headers={"content-type": "application/json"})
        assert refusal(answer) == (400, None, None)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((None, "cat.png"), "Invalid type for 'input_reference': expected a file, but got a string instead."),
        (("cat.png", picture((100, 100)), "image/png"), "Inpaint image must match the requested width and height"),
        (("upload", picture((720, 1280)), "application/octet-stream"), "unsupported mimetype ('application/octet-stream')"),
        (("cat.png", b"not an image", "image/png"), "the content is not image/png"),
        (("cat.png", picture((720, 1280))[:400], "image/png"), "the content is not image/png"),
        (("cat.jpg", picture((720, 1280)), "image/jpeg"), "the content is not image/jpeg"),
        (("cat.gif", picture((720, 1280), "GIF"), "image/gif"), "unsupported mimetype ('image/gif')"),
    ],
)
async def test_a_wrong_reference_is_refused(tmp_path: Path, part: tuple[Any, ...], message: str) -> None:
    """It must be a file, an image of a known type that says so, and have exactly the film's
    size.
    """
    async with simulator(tmp_path) as sim:
        files = {"model": (None, "sora-2"), "prompt": (None, "A cat"), "input_reference": part}
        answer = await sim.http.post("/videos", files=files)
        assert refusal(answer)[0] == 400
        assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_a_reference_of_each_known_type_is_taken(tmp_path: Path, kind: str) -> None:
    """Seconds may look like an integer in a form: every value there is text."""
    async with simulator(tmp_path) as sim:
        image = ("cat", picture((1280, 720), kind), f"image/{kind.lower()}")
        fields = {"model": "sora-2", "prompt": "A cat", "seconds": 12, "size": "1280x720"}
        answer = await sim.http.post("/videos", data=fields, files={"input_reference": image})
        assert (answer.status_code, answer.json()["seconds"]) == (200, "12")


async def test_input_moderation_blames_a_reference_first(tmp_path: Path) -> None:
    """E10, with its documented wording."""
    async with simulator(tmp_path) as sim:
        image = ("cat.png", picture((720, 1280)), "image/png")
        fields = {"model": "sora-2", "prompt": "forbidden"}
        answer = await sim.http.post("/videos", data=fields, files={"input_reference": image})
        blocked = "blocked by our moderation system when checking inputs. Possible reasons: people-in-user-uploads."
        assert answer.status_code == 400
        assert blocked in answer.json()["error"]["message"]


# Jobs that fail


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt": "A disturbing cat"}, "moderation_blocked"),
        ({"prompt": "An unlucky cat"}, "internal_error"),
        ({"size": "1024x1792"}, "invalid_size"),
        ({"size": "1792x1024"}, "invalid_size"),
    ],
)
async def test_a_job_can_be_accepted_and_fail(tmp_path: Path, fields: dict[str, str], code: str) -> None:
    """It runs first, then says why; it has no content, frees its slot and can be deleted."""
    async with simulator(tmp_path, max_running=1) as sim:
        video_id = await sim.created(**fields)
        await sim.clock.advance(30)
        video = await sim.get(video_id)
        assert (video["status"], video["error"]) == ("in_progress", None)
        await sim.clock.advance(LONGEST_RENDER)
        video = await sim.get(video_id)
        assert (video["status"], video["error"]["code"], video["completed_at"]) == ("failed", code, None)
        if code == "moderation_blocked":
            assert video["error"]["message"] == "Your request was blocked by our moderation system."
        assert (await sim.content(video_id)).status_code == 400
        await sim.created()
        assert (await sim.http.delete(f"/videos/{video_id}")).status_code == 200


async def test_sora_2_pro_makes_large_films(tmp_path: Path) -> None:
    """The sizes that fail on sora-2 complete there."""
    async with simulator(tmp_path) as sim:
        video = await sim.get(await sim.completed(model="sora-2-pro", size="1792x1024"))
        assert (video["status"], video["model"]) == ("completed", "sora-2-pro")


async def test_an_endless_job_never_ends(tmp_path: Path) -> None:
    """It holds its slot and stays in progress for days."""
    async with simulator(tmp_path, max_running=1) as sim:
        video_id = await sim.created(prompt="An endless corridor")
        await sim.clock.advance(3 * DAY)
        assert (await sim.get(video_id))["status"] == "in_progress"
        assert (await sim.create()).status_code == 429


# Quotas


async def test_two_creates_in_any_minute_are_accepted(tmp_path: Path) -> None:
    """The third is refused by the gateway's envelope until the first is a minute old; each
    deployment has its own two.
    """
    async with simulator(tmp_path, max_running=None) as sim:
        await sim.created()
        await sim.clock.advance(30)
        await sim.created()
        refused = await sim.create()
        assert refused.status_code == 429
        assert set(refused.json()["error"]) == {"code", "message"}
        assert "running tasks" not in refused.text
        await sim.created(model="sora-2-pro")
        await sim.clock.advance(29.5)
        assert (await sim.create()).status_code == 429
        await sim.clock.advance(0.5)
        await sim.created()
        assert (await sim.create()).status_code == 429


async def test_two_running_jobs_are_the_most(tmp_path: Path) -> None:
    """E2 word for word; refusals do not count as creates; the next is accepted once one has
    ended.
    """
    async with simulator(tmp_path) as sim:
        await sim.created(seconds="12")
        await sim.created(seconds="12")
        await sim.clock.advance(61)
        for _ in range(3):
            refused = await sim.create()
            assert refused.status_code == 429
            assert refused.json() == {
                "error": {
                    "message": "Too many running tasks",
                    "type": "video_generation_user_error",
                    "param": None,
                    "code": None,
                }
            }
        await sim.clock.advance(LONGEST_RENDER)
        await sim.created()
        await sim.created()


async def test_quotas_recover_at_the_simulated_speed(tmp_path: Path) -> None:
    """Ten times faster than life, a minute is six seconds."""
    async with simulator(tmp_path, speed=10.0, max_running=None) as sim:
        for _ in range(2):
            await sim.created()
        await sim.clock.advance(5.9)
        assert (await sim.create()).status_code == 429
        await sim.clock.advance(0.2)
        await sim.created()


async def test_simultaneous_creates_do_not_slip_past_the_quota(tmp_path: Path) -> None:
    """Of twenty at once, exactly two are accepted."""
    async with simulator(tmp_path) as sim:
        answers = await asyncio.gather(*(sim.create() for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 18


# Addresses and keys


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/openai/v1/movies", 404, {"detail": "Not Found"}),
        ("GET", "/openai/videos", 404, {"error": {"code": "404", "message": "Resource not found"}}),
        ("POST", "/openai/deployments/sora-2/videos", 404, {"error": {"code": "404", "message": "Resource not found"}}),
        (
            "GET",
            "/openai/v1/videos?api-version=2025-04-01-preview",
            404,
            {"error": {"code": "404", "message": "Resource not found"}},
        ),
        ("POST", "/openai/v1/videos/edits", 405, {"detail": "Method Not Allowed"}),
        ("PUT", "/openai/v1/videos", 405, {"detail": "Method Not Allowed"}),
    ],
)
async def test_a_wrong_address_is_answered_as_azure_does(
    tmp_path: Path,
    method: str,
    path: str,
    status: int,
    body: object,
) -> None:
    """E4 where no service listens, E5 where the service knows no such path."""
    async with simulator(tmp_path) as sim:
        answer = await sim.http.request(method, f"{sim.url}{path}")
        assert (answer.status_code, answer.json()) == (status, body)
        assert answer.headers["apim-request-id"]


async def test_an_unknown_id_is_told_apart_from_an_unknown_path(tmp_path: Path) -> None:
    """It comes in the service's own envelope."""
    async with simulator(tmp_path) as sim:
        for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/remix")]:
            answer = await sim.http.request(method, f"/videos/video_0{path}")
            assert refusal(answer) == (404, None, None)


@pytest.mark.parametrize("version", ["v1", "preview"])
async def test_the_two_api_versions_of_the_v1_surface_are_accepted(tmp_path: Path, version: str) -> None:
    """As none is."""
    async with simulator(tmp_path) as sim:
        assert (await sim.http.get("/videos", params={"api-version": version})).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/openai/v1/videos", {"api-key": "the-key"}, 200),
        ("/openai/v1/videos", {"authorization": "Bearer the-key"}, 200),
        ("/openai/v1/videos", {"api-key": "another"}, 401),
        ("/openai/v1/videos", {"authorization": "Bearer ключ"}, 401),
        ("/openai/v1/videos", {}, 401),
        ("/api/projects/p/openai/v1/videos", {"api-key": "the-key"}, 401),
    ],
)
async def test_a_key_is_required(tmp_path: Path, path: str, headers: dict[str, str], status: int) -> None:
    """In either header (E3); a project's address takes none (E17)."""
    async with simulator(tmp_path) as sim, httpx.AsyncClient(trust_env=False) as http:
        encoded = {name: value.encode() for name, value in headers.items()}
        answer = await http.get(f"{sim.url}{path}", headers=[(name.encode(), value) for name, value in encoded.items()])
        assert answer.status_code == status
        if status == 401:
            assert answer.json()["error"]["code"] == "401"
            assert answer.json()["error"]["message"].startswith("Access denied due to invalid subscription key")


async def test_more_than_ten_custom_headers_are_too_many(tmp_path: Path) -> None:
    """431 on Azure, whatever they are."""
    async with simulator(tmp_path) as sim:
        ten = {f"x-header-{number}": "1" for number in range(10)}
        eleven = {**ten, "x-stainless-lang": "python", "authorization": "Bearer the-key"}
        assert (await sim.http.get("/videos", headers=ten)).status_code == 200
        assert (await sim.http.get("/videos", headers=eleven)).status_code == 431


async def test_a_retired_deployment_is_gone(tmp_path: Path) -> None:
    """410 for it alone; deployments may have names of their own, and the video names the model."""
    models = {"films-east": ServedModel("sora-2"), "films-old": ServedModel("sora-2", retired=True)}
    async with simulator(tmp_path, models=models) as sim:
        assert (await sim.create(model="films-old")).status_code == 410
        assert (await sim.create(model="sora-2")).status_code == 404
        assert (await sim.get(await sim.created(model="films-east")))["model"] == "sora-2"


# What stays


async def test_jobs_and_quotas_outlive_the_service(tmp_path: Path) -> None:
    """A new one on the same data knows every job, goes on with its rendering, and still counts its
    create.
    """
    async with simulator(tmp_path) as sim:
        video_id = await sim.created()
        await sim.created()
        before = await sim.get(video_id)
    async with simulator(tmp_path, clock=sim.clock) as sim:
        assert await sim.get(video_id) == before
        assert (await sim.create()).status_code == 429
        await sim.clock.advance(LONGEST_RENDER)
        assert (await sim.get(video_id))["status"] == "completed"


async def _start(data: Path, *options: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.simulator", "--port", "0", "--data", str(data), "--speed", "1000", *options),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())["url"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_says_its_url_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """One line of JSON when it is ready; status 0 when it is told to end."""
    process, url = await _start(tmp_path, "--unlimited", "--dialect", "openai")
    async with httpx.AsyncClient(base_url=f"{url}/v1", headers={"authorization": "Bearer any"}, trust_env=False) as http:
        answers = [await http.post("/videos", json={"prompt": "A cat"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
    process.send_signal(number)
    assert await process.wait() == 0


async def test_an_accepted_create_survives_kill_9(tmp_path: Path) -> None:
    """Once it has been answered, the next process knows it."""
    process, url = await _start(tmp_path, "--api-key", "k")
    async with httpx.AsyncClient(headers={"api-key": "k"}, trust_env=False) as http:
        created = await http.post(f"{url}/openai/v1/videos", json={"model": "sora-2", "prompt": "A cat"})
        process.kill()
        await process.wait()
        process, url = await _start(tmp_path, "--api-key", "k")
        jobs = (await http.get(f"{url}/_sim/jobs")).json()
        assert (jobs["accepted_creates"], jobs["data"][0]["id"]) == (1, created.json()["id"])
    process.terminate()
    assert await process.wait() == 0
