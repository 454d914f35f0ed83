"""Which video has which job."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.upstream.jobs import Job
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

MIDNIGHT = int(datetime(2026, 11, 29, tzinfo=UTC).timestamp())


def job(created_at: int | None) -> Job:
    return Job(id="job_1", status="queued", created_at=created_at)


@pytest.mark.parametrize(("first", "second"), [(-1, 1), (1, -1), (-3000, 500), (-4000, -3500), (3500, 4000), (-20, 0)])
async def test_a_job_that_two_answers_date_differently_is_bound_once(world: World, first: int, second: int) -> None:
    """The create and the list tell different days around midnight."""
    claims, (deployment,) = world.gateway.claims, world.model.deployments
    assert await claims.holder(deployment, job(MIDNIGHT + second)) is None
    assert await claims.claim(deployment, job(MIDNIGHT + first), "video_1")
    assert await claims.holder(deployment, job(MIDNIGHT + second)) == "video_1"
    assert not await claims.claim(deployment, job(MIDNIGHT + second), "video_2")
    assert await claims.claim(deployment, job(MIDNIGHT + second), "video_1")


async def test_of_two_that_claim_a_job_at_once_one_gets_it(world: World) -> None:
    """Also where each goes by another day."""
    claims, (deployment,) = world.gateway.claims, world.model.deployments
    asked = [(job(MIDNIGHT + at), f"video_{at}") for at in (-3000, -10, 10, 3000)]
    assert sum(await asyncio.gather(*(claims.claim(deployment, each, video) for each, video in asked))) == 1


async def test_claims_go_with_their_days(world: World) -> None:
    """When the later day of two is dropped too, nothing is left."""
    claims, (deployment,) = world.gateway.claims, world.model.deployments
    await claims.claim(deployment, job(MIDNIGHT - 5), "video_1")
    for day in (datetime.fromtimestamp(MIDNIGHT, UTC) - timedelta(days=1), datetime.fromtimestamp(MIDNIGHT, UTC)):
        await claims.drop(day.date())
    assert await claims.holder(deployment, job(MIDNIGHT - 5)) is None
