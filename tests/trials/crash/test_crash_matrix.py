"""A sample of the crash matrix, and that the whole of it forgets nothing: `make crash` runs all of
it.
"""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.trials.crash.matrix import STORIES, Case, cases, forgotten, mapped, played, recorded, sites_in, table
from tests.trials.crash.points import Death, Passed
from tests.trials.crash.repairs import REPAIRS
from tests.trials.crash.sites import WayStep, sites, visited

_BY_NAME = {story.name: story for story in STORIES}
_TELLINGS = 3

# The worst moments of each step: around what binds a job to its video, what moves money, and what
# makes bytes appear or go.
WORST = [
    ("a video", "create_video: _admit: pool[+note]: after", 0),
    ("a budget for the whole gateway", "create_video: _admit: keys[+listing +once +video ~key]: after", 1),
    ("a video", "create_video: _start_orchestration: durable.start_new: before", 0),
    ("a video", "submit: _create: upstream.create: before", 0),
    ("two in line for one slot", "submit: _create: upstream.create: after", 2),
    ("a create whose answer is lost", "submit: _accept: pool[+claim]: after", 0),
    ("equal to one that is unclear", "submit: _step_aside: pool[+place ~state]: before", 0),
    ("equal to one that is unclear", "submit: _ask: asks[~ask]: after", 0),
    ("equal to one that died when it was accepted", "submit: _ask: asks[~ask]: after", 0),
    ("equal to one that is asked for", "submit: _end: asks[-ask]: after", 0),
    ("equal to one that is asked for", "submit: _end: pool[-place ~state]: after", 0),
    ("an upstream that cannot be reached", "submit: _wait: pool[~state]: after", 0),
    ("a dearer fallback", "submit: _move: keys[~key ~video]: after", 0),
    ("a video", "check: _fetch: blob.commit_block_list video: after", 0),
    ("a video", "finish: keys[~key ~video]: after", 0),
    ("a video", "engine: fire timers: after", 0),
    ("three behind a full upstream", "engine: fire timers: after", 1),  # a video alone may be done without a timer
    ("deleted when it is finished", "delete_video: delete: blob.delete_blob video: before", 0),
    ("deleted while it is asked for", "delete_video: delete: keys[+gone -listing -video ~key]: after", 0),
    ("dead while it was admitted", "sweep: _look_at: gateway[-hold ~key]: after", 0),
    ("a restart of vLLM-Omni", "check: _remake: keys[~video]: after", 0),
    ("stopped while it runs", "delete_video: _stop: upstream.stop: after", 0),
    ("it outlives every deadline while it is saved", "check: _fetch: blob.commit_block_list video: after", 0),
    ("a logging provider that is told", "create_video: _admit: keys[+event +listing +once +video ~key]: after", 0),
    ("a manifest", "finish: blob.upload_blob manifest: before", 0),
    ("deleted when its manifest was written", "leave: blob.delete_blob manifest: after", 0),
    ("a logging provider that is told", "deliver: sink.post: after", 0),
    ("a logging provider that is told", "finish: publish: mail[+delivery]: after", 0),
    ("a logging provider that refuses, and takes the replay", "deliver: journal-poison[+delivery]: after", 0),
    ("messages that start videos", "video_requests: _put_back: queue.put: after", 0),
    ("messages that start videos", "video_requests: _start_orchestration: durable.start_new: before", 0),
    ("a queue and a topic that are told", "deliver: queue.put: after", 0),
    ("a message that starts none", "video_requests: _reject: queue.put poison: after", 0),
    ("a webhook from its first day to its last", "zz_other_path: rotate_secret: keys[~endpoints ~key]: after", 0),
    ("a webhook from its first day to its last", "deliver: _send_once: sink.post: after", 0),
    ("a day without an export", "sweep: keep_exported: blob.upload_blob export: after", 0),
    ("too old", "sweep: _expire_of: blob.delete_blob video: after", 0),
]

# Half of the stories are enough to come by everything once; `make crash` looks at the same with all
# of them.
ENOUGH = (
    *("a manifest", "a create that is lost", "a create that is refused as unfinished", "a reference image"),
    *("a remix", "a thumbnail"),
    "a thumbnail that is drawn",
    *("equal to one that is unclear", "an upstream that cannot be reached"),
    *(
        "two in line for one slot",
        "three behind a full upstream",
        "a slow download while another waits",
        "a job that is unknown at first",
        "a dearer fallback",
        "a fallback that the key cannot pay",
        "deleted while it waits",
    ),
    "refused by the budget of the gateway",
    *(
        "deleted while it is unclear",
        "deleted when it is finished",
        "deleted while its thumbnail is fetched",
        "a key from its first day to its last",
        "a caller who comes with a token",
    ),
    *(
        "a webhook from its first day to its last",
        "a queue and a topic that are told",
        "messages that start videos",
        "a message that starts none",
        "a logging provider that is down at first",
        "a logging provider that refuses, and takes the replay",
        "deleted while it waits, and a provider is told",
        "a blocked request that is told",
        "a soft budget that is crossed",
        "a server that keeps its films",
        "a restart of vLLM-Omni",
        "stopped while it runs",
        "stopped at its deadline",
        "stopped by the next look",
    ),
    *(story.name for story in REPAIRS),
)
STEPS = {
    *("create_video", "remix_video", "delete_video", "get_content", "keys"),
    *("submit", "check", "finish", "leave", "sweep", "engine", "first use"),
    *("deliver", "zz_other_path", "video_requests"),
}
ENGINE = {
    *("create", "send_from_client", "fire timers", "purge_finished"),
    *(f"finish_activity {name}" for name in ("submit", "check", "finish", "leave", "deliver")),
    *(f"finish_episode schedules {name}" for name in ("submit", "check", "finish", "leave", "deliver", "timer")),
    *("finish_episode begins anew", "finish_episode ends", "finish_episode waits"),
}


@pytest.mark.anyio
async def test_a_kill_at_the_worst_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Each video ends as it should, with its bytes, from one accepted create; no slot and no
    reservation is left.
    """
    matrix = [Case(_BY_NAME[story], Death(point), seed) for story, point, seed in WORST]
    async with AsyncExitStack() as running:
        # A storage of its own: the sweep would also bring to an end what other tests have left
        # unfinished.
        places = await sites_in(tmp_path, running, 1)
        tallies = await played(places, matrix, lambda: None)
    assert [each for tally in tallies.values() for each in tally.wrong] == []
    assert [point for point, tally in tallies.items() if not tally.died] == []
    assert table(tallies).row_count == len({death for _, death, _ in WORST}) + 1


@pytest.mark.anyio
async def test_no_write_and_no_upstream_call_is_without_a_story(tmp_path: Path) -> None:
    """Told to an app that lives, they come by every place in `shared/` that writes or calls, and
    nothing leaves unseen. Which of two places a story comes by may depend on how fast the machine
    is, so they are told again while something is missed.
    """
    tellings: dict[str, list[Passed]] = {}
    async with AsyncExitStack() as running:
        places = await sites_in(tmp_path, running, 1)
        for _ in range(_TELLINGS):
            told = await recorded(places, [_BY_NAME[name] for name in ENOUGH])
            tellings = {name: [*tellings.get(name, []), *passed] for name, passed in told.items()}
            if not forgotten(tellings):
                break
    assert forgotten(tellings) == []
    points = mapped(tellings)
    assert {point.partition(": ")[0] for point in points} == STEPS
    assert {point.split(": ")[1] for point in points if point.startswith("engine")} == ENGINE
    assert {point.rpartition(": ")[2] for point in points} == {"before", "after"}


def test_a_place_that_no_story_visits_is_found() -> None:
    """A way counts for the place it goes through only if it leads to what is called there."""
    place = next(each for each in sites() if str(each).endswith("Housekeeping._expire_of: Archive.drop"))
    here = WayStep(place.file, place.first, "Housekeeping._expire_of")
    elsewhere = WayStep(place.file, place.last + 1, "Housekeeping._expire_of")
    there = WayStep("storage/blobs.py", 1, "Archive.drop")
    assert visited(place, (here, there))
    assert not visited(place, (elsewhere, there))
    assert not visited(place, (here, WayStep("storage/video_store.py", 1, "VideoStore.update")))
    assert len(forgotten({"nothing": []})) == len(sites())
    assert forgotten({"a leak": [Passed("submit: unnamed POST /else: before")]})[-1].endswith(
        "submit: unnamed POST /else: before"
    )


def test_the_places_are_read_from_the_source() -> None:
    """Direct ones, those of other classes, and those behind a call: by file, function and what is
    called.
    """
    found = {(each.file, each.function, each.outlet) for each in sites()}
    for each in (
        ("accounts/ledger.py", "Ledger.forget_identities", "Table.commit"),
        ("videos/fallback.py", "Fallback._move", "GatewayBudget.reprice"),
        ("videos/submission.py", "Submission._create", "Upstream.remix"),
        ("storage/blobs.py", "Archive.save", "BlobClient.stage_block"),
        ("videos/submission.py", "Submission._take_turn", "Pool.acquire"),
        ("upkeep/sweep.py", "Sweep._start_again", "DurableOrchestrations.start"),
        ("upkeep/sweep.py", "Sweep._ends", "DurableOrchestrationClient.terminate"),
        ("upkeep/sweep.py", "Sweep._forget", "DurableEngine.purge"),
        ("capacity/pool.py", "Pool._pass_on", "WakeUps.send"),
        ("routes/videos.py", "delete_video", "Lifecycle.delete"),
    ):
        assert each in found
    assert not [each for each in found if each[1] in ("VideoStore.find", "Archive.read", "get_video")]


def test_every_point_has_its_seeds_and_stories_take_turns() -> None:
    """A point that two stories pass is tried in both, at a passage that the story reaches; seed 0
    is the first passage. The last seeds run by themselves are the same runs.
    """
    points = {
        "check: _fetch: blob.stage_block video: after": {"a video": 3, "a remix": 6},
        "finish: _forget: pool[-note ~state]: before": {"a remix": 1},
    }
    matrix = cases(points, range(4))
    assert [case.seed for case in matrix] == [0, 1, 2, 3] * 2
    stage = [case for case in matrix if case.death.point == "check: _fetch: blob.stage_block video: after"]
    assert stage[0].story != stage[1].story
    assert [case.story for case in stage[:2]] == [case.story for case in stage[2:]]
    assert all(1 <= case.death.passage <= points[str(case.death.point)][case.story.name] for case in matrix)
    assert {case.death.passage for case in matrix if case.seed == 0} == {1}
    assert cases(points, range(2, 4)) == [case for case in matrix if case.seed >= 2]


def test_a_violation_says_how_to_see_it_again() -> None:
    """The command names story, point, passage and seed."""
    command = Case(_BY_NAME["a video"], Death("submit: _create: upstream.create: after", 2), 7).command
    for word in ("make crash", "a video", "submit: _create: upstream.create: after", "--passage 2", "--seed 7"):
        assert word in command
