"""The simulated Azure OpenAI fails as it is told to: each kind of fault, how often, and for
whom.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.simulator.dialects.documented import DOCUMENTED
from local.simulator.faults import Delay, Faults, Garble, ResetAfter, ResetBefore, Status, Trickle, Truncate
from tests.fakes.simulator import Simulator, duration, eventually, simulator

pytestmark = pytest.mark.anyio


async def arm(sim: Simulator, **fault: Any) -> None:
    answer = await sim.http.post(f"{sim.url}/_sim/faults", json=fault)
    assert answer.status_code == 200, answer.text


async def asked(sim: Simulator) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = (await sim.http.get(f"{sim.url}/_sim/requests")).json()
    return requests


@pytest.mark.parametrize("name", DOCUMENTED)
async def test_every_documented_error_can_be_had(tmp_path: Path, name: str) -> None:
    """With its status and body, once, and without a job."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="status", operation="create", documented=name)
        answer = await sim.create()
        assert (answer.status_code, answer.content) == (DOCUMENTED[name].status, DOCUMENTED[name].body)
        assert sim.server.jobs.accepted() == []
        await sim.created()


@pytest.mark.parametrize(
    ("fault", "kind", "body"),
    [
        ({"status": 503}, "application/json", '"type":"server_error"'),
        (
            {"status": 503, "envelope": "apim", "message": "Busy"},
            "application/json",
            '{"error":{"code":"503","message":"Busy"}}',
        ),
        ({"status": 500, "envelope": "fastapi", "message": "Oops"}, "application/json", '{"detail":"Oops"}'),
        ({"status": 502, "envelope": "html", "message": "Bad Gateway"}, "text/html", "<h1>Bad Gateway</h1>"),
        ({"status": 504, "envelope": "empty"}, "text/plain", ""),
        ({"status": 429, "body": {"odd": 1}}, "application/json", '{"odd":1}'),
        ({"status": 500, "body": "truncat"}, "text/plain", "truncat"),
    ],
)
async def test_any_status_can_be_had_in_any_envelope(tmp_path: Path, fault: dict[str, Any], kind: str, body: str) -> None:
    """With headers of the test's choice, and still a request id."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="status", operation="list", headers={"retry-after": "7"}, **fault)
        answer = await sim.http.get("/videos")
        assert (answer.status_code, answer.headers["content-type"]) == (fault["status"], kind)
        assert body in answer.text
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["apim-request-id"]


async def test_an_error_can_hide_an_accepted_create(tmp_path: Path) -> None:
    """The answer is an error, and the job exists all the same."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="status", operation="create", documented="E12", when="after")
        assert (await sim.create()).status_code == 408
        (job,) = sim.server.jobs.accepted()
        assert (await asked(sim))[0]["job"] == job.id


@pytest.mark.parametrize(("kind", "accepted"), [("reset_before", 0), ("reset_after", 1)])
async def test_a_connection_is_cut_before_or_after_acceptance(tmp_path: Path, kind: str, accepted: int) -> None:
    """The client gets no answer either way, and only one of them leaves a job."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind=kind, operation="create")
        with pytest.raises(httpx.TransportError):
            await sim.create()
        assert len(sim.server.jobs.accepted()) == accepted
        (request,) = await asked(sim)
        assert request["status"] is None
        assert request["job"] == (sim.server.jobs.accepted()[0].id if accepted else None)


@pytest.mark.parametrize(("when", "accepted"), [("before", 0), ("after", 1)])
async def test_an_answer_is_delayed_before_or_after_acceptance(tmp_path: Path, when: str, accepted: int) -> None:
    """In clock time; the answer itself is right."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="delay", operation="create", seconds=30, when=when)
        creating = asyncio.create_task(sim.create())
        await eventually(lambda: len(sim.server.requests) == 1 and len(sim.server.jobs.accepted()) == accepted)
        await sim.clock.advance(29)
        assert len(sim.server.jobs.accepted()) == accepted
        assert not creating.done()
        await sim.clock.advance(1)
        assert (await creating).status_code == 200
        assert len(sim.server.jobs.accepted()) == 1


async def test_content_is_cut_short_of_what_was_promised(tmp_path: Path) -> None:
    """Content-Length names the whole, the connection ends at the fraction."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        whole = (await sim.content(video_id)).content
        await arm(sim, kind="truncate", operation="content", fraction=0.25)
        received = b""
        async with sim.http.stream("GET", f"/videos/{video_id}/content") as answer:
            assert int(answer.headers["content-length"]) == len(whole)
            with pytest.raises(httpx.RemoteProtocolError):
                async for chunk in answer.aiter_raw():
                    received += chunk
        assert received == whole[: len(whole) // 4]
        assert (await sim.content(video_id)).content == whole


async def test_content_is_cut_short_without_a_sign(tmp_path: Path) -> None:
    """Content-Length agrees with the half that is sent, padding included."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        sim.server.workshop.content_bytes = 3_000_000
        await arm(sim, kind="truncate", operation="content", promise="sent")
        answer = await sim.content(video_id)
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(answer.content) == 1_500_000


async def test_content_trickles(tmp_path: Path) -> None:
    """So many bytes a second of clock time, until the whole has come."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        whole = (await sim.content(video_id)).content
        await arm(sim, kind="trickle", operation="content", bytes_per_second=len(whole) // 4)
        received: list[bytes] = []
        async with sim.http.stream("GET", f"/videos/{video_id}/content") as answer:
            chunks = answer.aiter_raw()
            for second in range(1, 5):
                received.append(await anext(chunks))
                while sum(map(len, received)) < second * (len(whole) // 4):
                    received.append(await anext(chunks))
                assert sum(map(len, received)) == second * (len(whole) // 4)
                await sim.clock.advance(1)
            received += [chunk async for chunk in chunks]
        assert b"".join(received) == whole


@pytest.mark.parametrize("form", ["html", "malformed_json", "missing_id", "unknown_status"])
async def test_a_create_is_accepted_and_its_answer_garbled(tmp_path: Path, form: str) -> None:
    """Status 200 and one job, but not the video object that clients expect."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="garble", operation="create", form=form)
        answer = await sim.create()
        assert answer.status_code == 200
        assert len(sim.server.jobs.accepted()) == 1
        if form in ("html", "malformed_json"):
            with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
                answer.json()
        elif form == "missing_id":
            assert "id" not in answer.json()
        else:
            assert answer.json()["status"] == "preprocessing"


async def test_progress_goes_backwards(tmp_path: Path) -> None:
    """While the job itself goes on."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.created()
        await arm(sim, kind="garble", operation="get", form="backwards", times=3)
        seen = []
        for _ in range(3):
            await sim.clock.advance(15)
            seen.append((await sim.get(video_id))["progress"])
        assert seen == sorted(seen, reverse=True)
        assert len(set(seen)) == 3


@pytest.mark.parametrize(("form", "kind"), [("not_a_video", "video/mp4"), ("html", "text/html")])
async def test_content_is_not_a_video(tmp_path: Path, form: str, kind: str) -> None:
    """Once; the next download is right."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        await arm(sim, kind="garble", operation="content", form=form)
        answer = await sim.content(video_id)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert b"ftyp" not in answer.content
        assert (await sim.content(video_id)).content[4:8] == b"ftyp"


def test_faults_choose_their_requests() -> None:
    """By operation and by job, in the order in which they were added, and only so often."""
    faults = Faults()
    first = ResetBefore(operation="get", job="video_1", times=2)
    second = ResetAfter(operation="any", times=None)
    faults.add(first)
    faults.add(second)
    assert faults.take("create", None) is second
    assert faults.take("get", "video_2") is second
    assert [faults.take("get", "video_1") for _ in range(3)] == [first, first, second]
    assert faults.left() == {2: None}
    faults.clear()
    assert faults.take("get", "video_1") is None


def test_chance_is_the_same_in_every_run() -> None:
    """A fault with a probability spoils about so many requests, and its seed decides which."""

    def spoiled(seed: int) -> list[bool]:
        faults = Faults()
        faults.add(Delay(operation="get", seconds=1, times=None, probability=0.3, seed=seed))
        return [faults.take("get", None) is not None for _ in range(1000)]

    assert spoiled(1) == spoiled(1)
    assert spoiled(1) != spoiled(2)
    assert 250 < sum(spoiled(1)) < 350


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "explode", "operation": "get"},
        {"kind": "status", "operation": "get"},
        {"kind": "status", "operation": "get", "documented": "E99"},
        {"kind": "status", "operation": "get", "status": 99},
        {"kind": "delay", "operation": "get"},
        {"kind": "delay", "operation": "poke", "seconds": 1},
        {"kind": "truncate", "operation": "content", "fraction": 1},
        {"kind": "trickle", "operation": "content", "bytes_per_second": 0},
        {"kind": "reset_after", "operation": "create", "often": 3},
        {"kind": "reset_after", "operation": "create", "times": 0},
        {"kind": "reset_after", "operation": "create", "probability": 2},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(tmp_path: Path, fault: dict[str, Any]) -> None:
    """With a message, and nothing is armed."""
    async with simulator(tmp_path) as sim:
        answer = await sim.http.post(f"{sim.url}/_sim/faults", json=fault)
        assert answer.status_code == 400
        assert answer.text
        assert sim.server.faults.left() == {}


async def test_faults_can_be_armed_in_process(tmp_path: Path) -> None:
    """The same object as over HTTP, which also shows and disarms them."""
    async with simulator(tmp_path) as sim:
        for fault in (
            Garble(operation="get", form="html", times=None),
            Truncate(operation="content"),
            Trickle(operation="list", bytes_per_second=1),
            Status(operation="delete", status=500),
        ):
            sim.server.faults.add(fault)
        path = f"{sim.url}/_sim/faults"
        assert (await sim.http.get(path)).json() == {"1": None, "2": 1, "3": 1, "4": 1}
        assert (await sim.http.delete(path)).status_code == 200
        assert (await sim.http.get(path)).json() == {}


async def test_requests_are_recorded_without_credentials(tmp_path: Path) -> None:
    """Operation, path, status, job, time, header names and type of body; neither header values nor
    the query.
    """
    async with simulator(tmp_path) as sim:
        video_id = await sim.created()
        await sim.http.get("/videos?code=the-secret", headers={"authorization": "Bearer the-key"})
        create, listing = await asked(sim)
        assert (create["operation"], create["path"], create["status"]) == ("create", "/openai/v1/videos", 200)
        assert (create["job"], create["content_type"]) == (video_id, "application/json")
        assert create["time"] == sim.clock.now().timestamp()
        assert "api-key" in create["headers"]
        assert (listing["operation"], listing["content_type"]) == ("list", None)
        recorded = str(await asked(sim))
        assert "the-key" not in recorded
        assert "the-secret" not in recorded


async def test_a_refused_key_does_not_use_up_a_fault(tmp_path: Path) -> None:
    """It is recorded, but the gateway in front turned it away."""
    async with simulator(tmp_path) as sim:
        await arm(sim, kind="reset_before", operation="list")
        assert (await sim.http.get("/videos", headers={"api-key": "wrong"})).status_code == 401
        assert sim.server.faults.left() == {1: 1}
        assert [request["status"] for request in await asked(sim)] == [401]


async def test_jobs_show_every_accepted_create(tmp_path: Path) -> None:
    """Oldest first, with deployment, deleted ones too."""
    async with simulator(tmp_path) as sim:
        first = await sim.completed()
        second = await sim.created(model="sora-2-pro")
        await sim.http.delete(f"/videos/{first}")
        jobs = (await sim.http.get(f"{sim.url}/_sim/jobs")).json()
        assert jobs["accepted_creates"] == 2
        told = [(job["id"], job["deployment"], job["status"], job["deleted"]) for job in jobs["data"]]
        assert told == [(first, "sora-2", "completed", True), (second, "sora-2-pro", "queued", False)]


async def test_content_of_any_size_can_be_had(tmp_path: Path) -> None:
    """A film is padded to exactly that many bytes and still plays; null ends it, nonsense is
    refused.
    """
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        path = f"{sim.url}/_sim/content"
        plain = (await sim.content(video_id)).content
        assert (await sim.http.post(path, json={"bytes": 20_000_000})).status_code == 200
        padded = (await sim.content(video_id)).content
        assert len(padded) == 20_000_000
        assert duration(padded) == 4
        assert (await sim.content(video_id, "thumbnail")).headers["content-type"] == "image/webp"
        for nonsense in (0, 2**32, "many"):
            assert (await sim.http.post(path, json={"bytes": nonsense})).status_code == 400
        await sim.http.post(path, json={"bytes": None})
        assert (await sim.content(video_id)).content == plain


async def test_reset_forgets_everything(tmp_path: Path) -> None:
    """Jobs, films, faults, requests and the size of content."""
    async with simulator(tmp_path) as sim:
        video_id = await sim.completed()
        await sim.content(video_id)
        sim.server.workshop.content_bytes = 1_000_000
        await arm(sim, kind="reset_before", operation="any", times=None)
        assert (await sim.http.post(f"{sim.url}/_sim/reset")).status_code == 200
        assert await asked(sim) == []
        assert (await sim.http.get(f"/videos/{video_id}")).status_code == 404
        assert not (tmp_path / "films").exists()
        assert sim.server.workshop.content_bytes is None
