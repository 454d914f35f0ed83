"""Every logging provider is told of every end in its own format, as its documents have it."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from azure.core.exceptions import ClientAuthenticationError

from shared.config.sinks import SINKS, read_sinks
from shared.errors import ConfigurationError
from shared.events.carriers import IdentityPost
from shared.events.deliveries import Backlog
from shared.events.post import Letter, Post
from shared.events.record import Record, record_of
from shared.events.sinks.known import open_sink
from shared.media.video import Video
from shared.storage.queues import Queues
from tests.fakes.receivers import SETTINGS
from tests.fakes.world import World

CHECKOUT = Path(__file__).parents[4]
ALL = tuple(SINKS)
STARTS = {
    "datadog",
    "webhook",
    "azure_queue",
    "event_grid",
}  # who is told of starts too; the others know calls, which have both

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=ALL)]


async def ended(world: World, *end: Any, **fields: Any) -> Video:
    """A video that took a second to be made, and ended so."""
    video = await world.start(**fields)
    await world.submitted(video.id)
    world.clock.skip(1)
    world.upstream.end(*end)
    return await world.live(video.id)


@pytest.mark.world(limits={"tags": '["Film A"]', "alias": "Studio"})
async def test_every_end_is_seen_once_by_everyone(world: World) -> None:
    """One that completes, one that fails, one that is refused by moderation and one that is
    deleted; every request is what the provider's documents allow.
    """
    videos = [await ended(world, user="u1"), await ended(world, "failed", {"code": "internal_error", "message": "Broken."})]
    videos.append(await ended(world, "failed", {"code": "content_policy_violation", "message": "No."}))
    deleted = await world.start()
    await world.gateway.lifecycle.delete(deleted.id)
    videos.append(await world.live(deleted.id))
    await world.delivered()
    ends = sorted(f"{video.id}.ended" for video in videos)
    starts = sorted(f"{video.id}.started" for video in videos)
    assert world.receivers.refused == []
    assert {name: sorted(ids) for name, ids in world.receivers.seen.items()} == {
        name: sorted([*ends, *starts]) if name in STARTS else ends for name in ALL
    }


async def test_one_that_is_down_holds_up_no_other(world: World) -> None:
    world.receivers.says["langsmith"] = 503
    video = await ended(world)
    await world.delivered()
    assert set(world.receivers.seen) == set(ALL) - {"langsmith"}
    del world.receivers.says["langsmith"]
    await world.delivered(60)
    assert world.receivers.seen["langsmith"] == [f"{video.id}.ended"]


async def test_a_run_that_langsmith_has_already_is_delivered(world: World) -> None:
    """Where it is one of a batch, the others arrive too."""
    told = record_of("ended", await ended(world), prompts=True)
    await world.delivered()
    events = [msgspec.structs.replace(told, id=f"{number}.ended") for number in range(4)]
    for event in events:
        await world.gateway.couriers.deliveries.add("langsmith", event, "")

    def answer(request: httpx.Request) -> httpx.Response | None:
        has_it = request.url.host == "api.smith.langchain.com" and b"2.ended" in request.content
        return httpx.Response(409) if has_it else world.receivers.answer(request)

    world.upstream.before(answer)
    await world.delivered()
    assert world.receivers.seen["langsmith"][1:] == ["0.ended", "1.ended", "3.ended"]
    assert await world.gateway.couriers.deliveries.backlog("langsmith") == Backlog(0, None, 0)


async def test_what_is_too_old_for_datadog_is_given_up_and_not_dropped(world: World) -> None:
    """The operator sees what a provider would not show. Younger ones arrive."""
    world.receivers.says["datadog_llm_observability"] = 503
    video = await ended(world)
    await world.delivered()
    del world.receivers.says["datadog_llm_observability"]
    world.clock.skip(24 * 3600)
    young = await ended(world)
    await world.delivered()
    assert world.receivers.seen["datadog_llm_observability"] == [f"{young.id}.ended"]
    given_up = [each async for each in world.gateway.couriers.deliveries.undelivered("datadog_llm_observability")]
    assert [(each.record.id, each.reason) for each in given_up] == [(f"{video.id}.ended", "it is too old for this provider")]


@pytest.mark.parametrize("name", ["otel", "langfuse"])
@pytest.mark.parametrize(("rejected", "given_up"), [("1", 1), (3, 1), ("0", 0), ("many", 0)])
async def test_spans_that_a_200_rejects_are_given_up_and_not_repeated(
    world: World, name: str, rejected: str | int, given_up: int
) -> None:
    told = {"partialSuccess": {"rejectedSpans": rejected, "errorMessage": "The canary sings."}}
    world.receivers.says[name] = httpx.Response(200, json=told)
    await ended(world)
    await world.delivered(3600)
    assert world.receivers.asked[name] == 1
    lost = [each async for each in world.gateway.couriers.deliveries.undelivered(name)]
    assert [each.reason for each in lost] == [f"spans of its batch that it rejected: {rejected}"] * given_up


@pytest.mark.world(sinks=["webhook", "langsmith"])
@pytest.mark.parametrize(("name", "status"), [("webhook", 200), ("langsmith", 400)])
async def test_a_slow_provider_is_sent_what_there_is_time_for(world: World, name: str, status: int) -> None:
    """The host would end a longer call, and what has arrived would be sent again."""
    told = record_of("ended", await ended(world), prompts=True)
    await world.delivered()
    couriers = world.gateway.couriers
    for number in range(40):
        await couriers.deliveries.add(name, msgspec.structs.replace(told, id=f"{number}.ended"), "")

    def answer(_: httpx.Request) -> httpx.Response:
        world.clock.skip(14)
        return httpx.Response(status)

    world.upstream.before(answer)
    wait: float | None = 0.0
    while wait is not None:
        began = world.clock.now()
        wait = await couriers.deliver(name)
        assert world.clock.now() - began < timedelta(minutes=2)
    assert await couriers.deliveries.backlog(name) == Backlog(0, None, 0 if status == 200 else 40)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"datadog", "event_grid"}))  # their batches hold starts too
async def test_ids_are_the_same_on_every_try(world: World, name: str) -> None:
    """A trace, a run or a log that is sent twice is one."""
    await ended(world)
    first = [row.values async for row in world.gateway.tables.gateway.scan(f"mail_{name}")]
    await world.delivered()
    deliveries = world.gateway.couriers.deliveries
    await deliveries.add(name, msgspec.json.decode(first[0]["record"], type=Record), "")
    before = len(world.receivers.bodies)
    await world.delivered()
    assert world.receivers.bodies[before] in world.receivers.bodies[:before]


@pytest.mark.world(sinks=ALL, knobs={"log_prompts": False})
async def test_with_log_prompts_off_no_provider_gets_a_prompt(world: World) -> None:
    await ended(world, prompt="The canary sings")
    await world.delivered()
    assert set(world.receivers.seen) == set(ALL)
    assert "canary" not in "".join(world.receivers.bodies)


async def test_with_log_prompts_on_every_provider_gets_the_prompt_and_the_cost(world: World) -> None:
    await ended(world, prompt="The canary sings")
    await world.delivered()
    bodies = world.receivers.bodies
    assert len([body for body in bodies if "canary" in body and "0.4" in body and "video.completed" in body]) == len(ALL)


async def test_no_key_is_in_a_body(world: World) -> None:
    await ended(world)
    await world.delivered()
    secrets = [value for name, value in SETTINGS.items() if "KEY" in name]
    assert not [secret for secret in secrets if secret in "".join(world.receivers.bodies)]


async def test_who_is_named_for_one_end_alone_hears_nothing_else(world: World) -> None:
    successes, failures = read_sinks(["datadog"], [], SETTINGS), read_sinks([], ["helicone"], SETTINGS)
    assert [(each.on_success, each.on_failure) for each in (*successes, *failures)] == [(True, False), (False, True)]
    videos = (await ended(world), await ended(world, "failed", {"code": "x", "message": "y"}))
    told = [(record_of("ended", video, prompts=True), video) for video in videos]
    (one,), (other,) = successes, failures
    links = world.gateway.connections
    post, queues = Post(links.http, world.clock), Queues(world.gateway.settings.storage, links.http, links.token)
    heard = [[await open_sink(each, post, queues).addressees(record, video) for record, video in told] for each in (one, other)]
    assert heard == [[("",), ()], [(), ("",)]]


@pytest.mark.parametrize(
    ("names", "env", "complaint"),
    [
        (["datadog"], {}, "datadog needs the app setting DD_API_KEY"),
        (["prometheus"], {}, "'prometheus' is not served here: there are datadog, "),
        (["langfuse"], {**SETTINGS, "LANGFUSE_HOST": "cloud.langfuse.com"}, "LANGFUSE_HOST must be an address"),
        (["langfuse"], {**SETTINGS, "LANGFUSE_HOST": "https://[x"}, "LANGFUSE_HOST must be an address"),
        (["webhook"], {**SETTINGS, "GENERIC_LOGGER_SECRET": "whsec_geheim"}, "GENERIC_LOGGER_SECRET must be whsec_ and"),
        (["event_grid"], {}, "event_grid needs the app setting EVENT_GRID_TOPIC_ENDPOINT"),
        (["azure_queue"], {"VIDEO_EVENTS_QUEUE": "Video_Events"}, "VIDEO_EVENTS_QUEUE must be the name of a queue"),
        (["helicone"], {"HELICONE_API_KEY": "sk-geheim\nx"}, "HELICONE_API_KEY holds a character that no header takes"),
    ],
)
async def test_a_wrong_setting_stops_the_app_by_name_and_quotes_no_key(
    names: list[str], env: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)) as caught:
        read_sinks(names, names, env)
    assert "geheim" not in caught.value.message


LOADED = """
import sys
import function_app
from shared import gateway
from shared.config import settings

gateway.build(settings.load())
loaded = {name.removeprefix("shared.events.sinks.") for name in sys.modules if name.startswith("shared.events.sinks.")}
print(*sorted(loaded | {"httpx"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("named", "loaded"),
    [
        ("", ""),
        ("callbacks: [helicone]", "helicone known sink"),
    ],
)
def test_only_who_is_configured_is_imported(tmp_path: Path, named: str, loaded: str) -> None:
    """And no HTTP client before there is something to send."""
    (tmp_path / "config.yaml").write_text(f"litellm_settings: {{{named}}}")
    env = {**SETTINGS, "AzureWebJobsStorage": "x", "AZURE_OPENAI_API_BASE": "https://a.example", "AZURE_OPENAI_API_KEY": "k"}
    env["GATEWAY_CONFIG"] = str(tmp_path / "config.yaml")
    told = subprocess.run([sys.executable, "-c", LOADED], cwd=CHECKOUT, env=env, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == loaded


def test_the_page_has_every_provider_with_its_settings() -> None:
    page = (CHECKOUT / "docs" / "logging.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.split("`")[1] in SINKS]
    assert [row.split("`")[1] for row in rows] == list(ALL)
    for row in rows:
        assert not [setting for setting in SINKS[row.split("`")[1]] if f"`{setting}`" not in row], row


def test_the_page_has_every_field() -> None:
    page = (CHECKOUT / "docs" / "logging.md").read_text()
    assert not [name for name in Record.__struct_fields__ if f"`{name}`" not in page]


@pytest.mark.world(sinks=["azure_queue", "event_grid"])
async def test_an_event_that_no_queue_takes_comes_without_its_prompt(world: World) -> None:
    """The longest prompt has more bytes than a message; a topic takes it whole."""
    video = await ended(world, prompt="ä" * 32_000)
    await world.delivered()
    assert world.receivers.seen["azure_queue"] == [f"{video.id}.started", f"{video.id}.ended"]
    assert world.receivers.refused == []
    assert len([body for body in world.receivers.bodies if "ää" in body]) == 1  # both in one batch


async def test_a_token_that_is_not_to_be_had_is_waited_for(world: World) -> None:
    """As for a receiver that is down: nothing is raised, and nothing sent."""

    async def refused(_: str) -> str:
        raise ClientAuthenticationError("no identity")

    links = world.gateway.connections
    answer = await IdentityPost(Post(links.http, world.clock), refused, "scope").post(Letter("https://a.example", {}, b""))
    assert (answer.status, answer.reason) == (None, "no token: ClientAuthenticationError")
