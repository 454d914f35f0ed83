"""A sample of the crash matrix: `make crash` runs all of it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from local.crash import Case, cases, played, sites_in, table
from local.crash_points import Death
from local.crash_stories import STORIES

_BY_NAME = {story.name: story for story in STORIES}

# The worst moments of each step: around what binds a job to its video, what moves money, and what makes bytes appear or go.
WORST = [
    ("a video", "create_video: pool[+note]: after", 0),
    ("a budget for the whole gateway", "create_video: keys[+once +video ~key]: after", 1),
    ("a video", "create_video: durable.start_new: before", 0),
    ("a video", "submit: upstream.create: before", 0),
    ("a video", "submit: upstream.create: after", 2),
    ("a create whose answer is lost", "submit: pool[+claim]: after", 0),
    ("a reference image", "submit: keys[~video]: after", 0),
    ("a remix", "submit: upstream.remix: after", 0),
    ("a video", "save: blob.commit_block_list: after", 0),
    ("a video", "finish: keys[~key ~video]: after", 0),
    ("deleted when it is finished", "delete_video: blob.delete_blob: before", 0),
    ("deleted while it runs", "delete_video: keys[~key ~video]: after", 0),
]


def test_a_kill_at_the_worst_moments_loses_and_doubles_nothing(azurite: str, tmp_path: Path) -> None:
    """Each video ends as it should, with its bytes, from one accepted create; no slot and no reservation is left."""
    matrix = [Case(_BY_NAME[story], Death(point), seed) for story, point, seed in WORST]

    async def run() -> None:
        async with AsyncExitStack() as running:
            # One at a time: they share a storage account, and with it the budget of the whole gateway.
            sites = await sites_in(tmp_path, running, 1, azurite)
            tallies = await played(sites, matrix, lambda: None)
        assert [each for tally in tallies.values() for each in tally.wrong] == []
        assert [point for point, tally in tallies.items() if not tally.died] == []
        assert table(tallies).row_count == len(WORST) + 1

    asyncio.run(run())


def test_every_point_has_its_seeds_and_stories_take_turns() -> None:
    """A point that two stories pass is tried in both, at a passage that the story reaches; seed 0 is the first passage."""
    points = {
        "save: blob.stage_block: after": {"a video": 3, "a remix": 6},
        "finish: pool[-note ~state]: before": {"a remix": 1},
    }
    matrix = cases(points, 4)
    assert [case.seed for case in matrix] == [0, 1, 2, 3] * 2
    stage = [case for case in matrix if case.death.point == "save: blob.stage_block: after"]
    assert [case.story.name for case in stage] == ["a video", "a remix", "a video", "a remix"]
    assert all(1 <= case.death.passage <= points[str(case.death.point)][case.story.name] for case in matrix)
    assert {case.death.passage for case in matrix if case.seed == 0} == {1}


def test_a_violation_says_how_to_see_it_again() -> None:
    """The command names story, point, passage and seed."""
    command = Case(_BY_NAME["a video"], Death("submit: upstream.create: after", 2), 7).command
    for word in ("make crash", "a video", "submit: upstream.create: after", "--passage 2", "--seed 7"):
        assert word in command
