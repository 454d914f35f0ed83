"""What videos have cost: one line each, sums, pages, dates and CSV."""

import csv
import io
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.media.video import Video, id_bound, new_id
from shared.routes.spend import LOG_COLUMNS, as_csv
from shared.videos.step_result import failed
from tests.fakes.world import World

# Reports go over all keys, so every test here has tables of its own: worlds with a budget do.
PLENTY = 10**12
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=PLENTY)]
FIRST_DAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


async def made(world: World, owner: str, end: str | None, **fields: Any) -> Video:
    """A video of a key, completed, failed, or still under way."""
    video = (await world.gateway.lifecycle.start(world.request(**fields), owner)).video
    if end is not None:
        failure = failed(end, "no")["failed"]
        await world.gateway.lifecycle.finish(video.id, None if end == "completed" else failure)
    world.clock.skip(1)
    return video


def recorded(world: World, owner: str) -> Video:
    now = world.clock.now()
    return Video(id=new_id(owner, now), model="m", created_at=now, prompt="A cat", seconds=4, size="1x1", cost=400_000)


async def logs(world: World, **query: str) -> list[Any]:
    reply = await world.send("GET", "spend/logs", query=query)
    assert reply.status == 200, reply.body
    lines: list[Any] = reply.json
    return lines


async def report(world: World, group: str, path: str = "spend/report", **query: str) -> dict[str, Any]:
    reply = await world.send("GET", path, query={"group_by": group, **query})
    assert reply.status == 200, reply.body
    return {line.pop(group): line for line in reply.json}


async def three_keys(world: World) -> list[str]:
    """A key with an alias and tags, a plain one, and the operator's own."""
    tagged = (await world.gateway.keys.issue(Account(alias="studio", tags='["blue", "red"]'))).key_id
    return [tagged, world.owner, "key_00000000"]


async def test_every_video_has_its_line(world: World) -> None:
    """Completed, failed and refunded ones, and those under way, of every key, newest first, with
    what was asked and paid.
    """
    tagged, plain, master = await three_keys(world)
    done = await made(world, tagged, "completed", user="anna", metadata={"scene": "4"}, prompt="A fox", seconds="8")
    refused = await made(world, plain, "moderation_blocked")
    running = await made(world, master, None)
    lines = await logs(world)
    assert [line["video_id"] for line in lines] == [running.id, refused.id, done.id]
    assert [set(line) for line in lines] == [set(LOG_COLUMNS)] * 3
    last = lines[2]
    wanted = {
        "api_key": tagged,
        "key_alias": "studio",
        "status": "completed",
        "settled": True,
        "spend": 0.8,
        "reserved": 0.0,
    }
    wanted |= {"seconds": 8, "size": "720x1280", "user": "anna", "request_tags": ["blue", "red"], "prompt": "A fox"}
    wanted |= {"metadata": {"scene": "4"}, "model": world.model.name, "error_code": None, "startTime": "2026-11-22T12:00:00Z"}
    assert {name: last[name] for name in wanted} == wanted
    assert last["endTime"] is not None
    assert (lines[1]["status"], lines[1]["spend"], lines[1]["error_code"]) == ("failed", 0.0, "moderation_blocked")
    assert (lines[0]["settled"], lines[0]["reserved"], lines[0]["endTime"]) == (False, 0.4, None)


async def test_a_deleted_video_stays_on_record(world: World) -> None:
    """What it cost is still there when nobody can see the video any more, and when its key has
    ended, too.
    """
    done, waiting = await made(world, world.owner, "completed"), await made(world, world.owner, None)
    for video in (done, waiting):
        assert (await world.send("DELETE", f"v1/videos/{video.id}", secret=world.secret)).status == 200
    await world.gateway.keys.delete(world.owner)
    lines = {line["video_id"]: line for line in await logs(world)}
    assert (lines[done.id]["spend"], lines[done.id]["status"]) == (0.4, "completed")
    assert (lines[waiting.id]["spend"], lines[waiting.id]["error_code"]) == (0.0, "cancelled")


async def test_filters_narrow(world: World) -> None:
    """By key in each of its names, user, tag, model in each spelling, and all at once."""
    tagged, plain, master = await three_keys(world)
    one = await made(world, tagged, "completed", user="anna")
    two = await made(world, plain, "completed", user="anna")
    three = await made(world, master, "completed")
    for query, found in (
        ({"api_key": tagged}, [one]),
        ({"key": world.secret}, [two]),
        ({"api_key": "sk-1234"}, [three]),
        ({"api_key": master}, [three]),
        ({"user": "anna"}, [two, one]),
        ({"user_id": "nobody"}, []),
        ({"tag": "red"}, [one]),
        ({"tag": "re"}, []),
        ({"model": "azure/sora-2"}, [three, two, one]),
        ({"model": "another"}, []),
        ({"user": "anna", "tag": "blue", "api_key": tagged, "model": world.model.name}, [one]),
    ):
        assert [line["video_id"] for line in await logs(world, **query)] == [video.id for video in found], query
    assert (await world.send("GET", "spend/logs", query={"api_key": "sk-unknown-to-everybody"})).status == 404


async def test_pages_leave_nothing_out_and_show_nothing_twice(world: World) -> None:
    """Over several keys whose videos alternate; the header says whether there is more."""
    owners = [(await world.gateway.keys.issue(Account())).key_id for _ in range(6)]
    order = Random(7).choices(owners, k=33)
    videos = []
    for owner in order:
        world.clock.skip(1)
        videos.append((await world.gateway.ledger.admit(recorded(world, owner))).video)
    seen: list[str] = []
    for page in (1, 2, 3):
        reply = await world.send("GET", "spend/logs", query={"page": str(page), "page_size": "15"})
        seen += [line["video_id"] for line in reply.json]
        assert reply.headers["x-has-more"] == ("true" if page < 3 else "false")
    assert seen == [video.id for video in reversed(videos)]
    assert await logs(world, page="4", page_size="15") == []
    exact = await world.send("GET", "spend/logs", query={"page_size": "33"})
    assert exact.headers["x-has-more"] == "false"
    own = [video.id for video in reversed(videos) if video.owner == owners[0]]
    assert [line["video_id"] for line in await logs(world, api_key=owners[0], page_size="2", page="2")] == own[2:4]


async def test_both_dates_are_in(world: World) -> None:
    """A day begins at midnight UTC and ends before the next; one date alone leaves the other side
    open.
    """
    videos = {}
    for day in (22, 23, 24):
        videos[day] = await made(world, world.owner, "completed")
        world.clock.skip(86_399)
    world.clock.skip((datetime(2026, 11, 26, tzinfo=UTC) - world.clock.now()).total_seconds())
    midnight = await made(world, world.owner, "completed")
    for query, found in (
        ({"start_date": "2026-11-23", "end_date": "2026-11-23"}, [videos[23]]),
        ({"start_date": "2026-11-24"}, [midnight, videos[24]]),
        ({"end_date": "2026-11-22"}, [videos[22]]),
        ({"end_date": "2026-11-25"}, [videos[24], videos[23], videos[22]]),
        ({"start_date": "2026-11-27"}, []),
        ({"start_date": "2000-01-01"}, [midnight, videos[24], videos[23], videos[22]]),
        ({"end_date": "2199-12-31"}, [midnight, videos[24], videos[23], videos[22]]),
        ({"end_date": "2000-01-01"}, []),
    ):
        assert [line["video_id"] for line in await logs(world, **query)] == [video.id for video in found], query
    assert set(await report(world, "day")) == {"2026-11-22", "2026-11-23", "2026-11-24", "2026-11-26"}
    world.clock.skip(40 * 86_400)
    assert await report(world, "day") == {}, "the last thirty days unless asked for"


NO_SENSE: tuple[dict[str, str], ...] = (
    {"start_date": "yesterday"},
    {"start_date": "2026-13-01"},
    {"end_date": "2026-02-30"},
    {"end_date": "9999-12-31"},
    {"start_date": "0001-01-01"},
    {"end_date": "0001-01-01"},
    {"start_date": "1960-01-01"},
    {"start_date": "2026-11-23", "end_date": "2026-11-22"},
    {"start_date": "2024-11-22", "end_date": "2026-11-22"},
    {"page": "0"},
    {"page": "-1"},
    {"page": "1.5"},
    {"page": "٣"},
    {"page": "9" * 5_000},
    {"page_size": "1001"},
    {"page_size": "0000000010000000"},
    {"group_by": "team"},
    {"format": "xml"},
    {"summarize": "maybe"},
)


async def test_a_query_that_makes_no_sense_is_refused(world: World) -> None:
    """400 that names the field, at every route that has it."""
    routes = {"page": ["logs"], "page_size": ["logs"], "summarize": ["logs"], "group_by": ["report"]}
    for query in NO_SENSE:
        param = next(iter(query))
        for route in routes.get(param, ["logs", "report"]):
            reply = await world.send("GET", f"spend/{route}", query=query)
            assert (reply.status, reply.json["error"]["param"]) == (400, param), (route, query)


async def test_reports_add_up_by_every_group(world: World) -> None:
    """Videos by their end, seconds that were made, dollars spent and still reserved; two tags count
    under both.
    """
    tagged, plain, _ = await three_keys(world)
    await made(world, tagged, "completed", user="anna", seconds="8")
    await made(world, tagged, "failed", user="anna")
    await made(world, plain, None, user="bert", seconds="12")
    await made(world, plain, "completed")
    one = {"videos": 2, "completed": 1, "failed": 1, "running": 0, "seconds": 8, "spend": 0.8, "reserved": 0.0}
    two = {"videos": 2, "completed": 1, "failed": 0, "running": 1, "seconds": 4, "spend": 0.4, "reserved": 1.2}
    total = {"videos": 4, "completed": 2, "failed": 1, "running": 1, "seconds": 12, "spend": 1.2, "reserved": 1.2}
    keys = {tagged: {"key_alias": "studio", **one}, plain: {"key_alias": None, **two}}
    assert await report(world, "key") == keys
    assert await report(world, "tag") == {"blue": one, "red": one}
    assert await report(world, "model") == {world.model.name: _close(total)}
    assert await report(world, "day") == {"2026-11-22": _close(total)}
    assert await report(world, "day", path="global/spend/report") == {"2026-11-22": _close(total)}
    users = await report(world, "user")
    assert users["anna"] == one
    assert (users["bert"]["reserved"], users[""]["spend"]) == (1.2, 0.4)
    assert set(await report(world, "user", tag="blue")) == {"anna"}
    for theirs, ours in (("api_key", "key"), ("customer", "user"), ("tags", "tag"), ("models", "model")):
        reply = await world.send("GET", "spend/report", query={"group_by": theirs})
        assert {line.pop(ours): line for line in reply.json} == await report(world, ours)


async def test_the_sums_of_a_report_are_the_keys_counters(world: World) -> None:
    """Spend and reservations of the report and of the key are the same money."""
    for n in range(7):
        await made(world, world.owner, ("completed", "failed", None)[n % 3], seconds=("4", "8", "12")[n % 3])
    line, account = (await report(world, "key"))[world.owner], await world.account()
    assert (line["spend"], line["reserved"], line["running"]) == (
        account.spend / 1e6,
        account.reserved / 1e6,
        account.running,
    )


@pytest.mark.world(knobs={"log_prompts": False})
async def test_prompts_stay_out_where_they_are_not_to_be_logged(world: World) -> None:
    """`log_prompts: false`: in no line, no report, JSON or CSV."""
    await made(world, world.owner, "completed", prompt="A secret fox")
    for path in ("spend/logs", "spend/report"):
        for form in ("json", "csv"):
            reply = await world.send("GET", path, query={"format": form})
            assert (reply.status, b"fox" in reply.body) == (200, False)
    assert (await logs(world))[0]["prompt"] is None


async def test_csv_has_the_same_lines(world: World) -> None:
    """By `format` or by what the caller accepts, with a header even without lines, and
    reports too.
    """
    empty = await world.send("GET", "spend/logs", query={"format": "csv"})
    assert empty.body.decode().strip() == ",".join(LOG_COLUMNS)
    video = await made(world, world.owner, "completed", prompt='A "fox",\nrunning; ünïcödé 🦊', user="anna")
    reply = await world.send("GET", "spend/logs", headers={"accept": "text/csv, */*"})
    assert reply.headers.get("content-type", "text/csv").startswith("text/csv")
    (line,) = csv.DictReader(io.StringIO(reply.body.decode(), newline=""))
    assert (line["video_id"], line["prompt"], line["spend"]) == (video.id, video.prompt, "0.4")
    sums = await world.send("GET", "spend/report", query={"format": "csv", "group_by": "user"})
    (line,) = csv.DictReader(io.StringIO(sums.body.decode()))
    assert (line["user"], line["videos"], line["spend"]) == ("anna", "1", "0.4")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＠x"])
def test_csv_holds_no_formulas(text: str) -> None:
    """What a caller wrote is text to a spreadsheet, wherever it stands; numbers stay numbers, also
    below zero.
    """
    line = {"prompt": text, "user": text, "tags": [text], "spend": -0.5, "none": None}
    (row,) = csv.DictReader(io.StringIO(as_csv([line], line).decode(), newline=""))
    assert row == {"prompt": f"'{text}", "user": f"'{text}", "tags": row["tags"], "spend": "-0.5", "none": ""}
    assert row["tags"].startswith("[")


def test_a_moment_lies_between_the_ids_before_and_after_it() -> None:
    """Ids sort newest first, so what was made at a moment or later stands before its bound."""
    bound = id_bound(FIRST_DAY)
    assert new_id("key_ffffffff", FIRST_DAY) < bound
    assert bound < new_id("key_00000000", FIRST_DAY.replace(hour=11, minute=59, second=59, microsecond=999_000))


def _close(line: dict[str, Any]) -> dict[str, Any]:
    return {name: pytest.approx(value) for name, value in line.items()}


async def test_a_filter_that_nobody_knows_is_refused(world: World) -> None:
    """Ignoring it would show everybody's rows; an empty one too."""
    await made(world, world.owner, "completed")
    for route in ("logs", "report"):
        for query, param in (({"team": "x"}, "team"), ({"api_key": ""}, "api_key"), ({"user": ""}, "user")):
            reply = await world.send("GET", f"spend/{route}", query=query)
            assert (reply.status, reply.json["error"]["param"]) == (400, param), (route, query)
    assert (await world.send("GET", "spend/logs", query={"group_by": "key"})).code == "unknown_parameter"
    assert (await world.send("GET", "spend/report", query={"page": "1"})).code == "unknown_parameter"


async def test_the_keys_user_and_alias_reach_spend(world: World) -> None:
    """A request's own `user` goes before the key's `user_id`; the alias is the one of the time."""
    key = (await world.gateway.keys.issue(Account(alias="studio", user_id="anna"))).key_id
    await made(world, key, "completed")
    await made(world, key, None, user="bert")
    assert [line["user"] for line in await logs(world)] == ["bert", "anna"]
    assert set(await report(world, "user")) == {"anna", "bert"}
    assert [line["user"] for line in await logs(world, user="anna")] == ["anna"]
    assert (await report(world, "key"))[key]["key_alias"] == "studio"
    await world.gateway.keys.delete(key)
    assert (await report(world, "key"))[key]["key_alias"] == "studio"
