"""Callers see the upstream's words without its address and without credentials."""

import json
import time

import httpx
import pytest

from shared.config.catalog import Deployment
from shared.dialects import known
from shared.upstream.masking import mask_of
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

DEPLOYMENT = Deployment("e", known.AZURE, "m", "https://East.openai.example:8443/openai/v1", api_key="key-of-the-upstream")
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "secret",
    [
        "key-of-the-upstream",
        "KEY-OF-THE-UPSTREAM",
        "https://east.openai.example:8443/openai/v1/videos?api-version=1",
        "https:\\/\\/east.openai.example:8443\\/openai",
        "east.openai.example",
        "http://worker-3.internal:9000/jobs/7",
        "https://store.blob.core.windows.net/v/1.mp4?sv=1&sig=secret",
        TOKEN,
        f"Bearer {TOKEN}",
        "bearer opaque",
        "/root/outputs/key-of/a.mp4",
        "/tmp/example.mp4",
        "C:\\models\\example\\a.bin",
        "10.0.0.4:30000",
        "worker-3:29500",
        "3.worker-3:29500",
        "-worker-3:29500",
        "x.https://worker-3/a",
    ],
)
def test_addresses_and_credentials_are_taken_out(secret: str) -> None:
    """In whatever case and wherever they stand; the rest of the sentence stays."""
    told = mask_of(DEPLOYMENT)(f"The worker ({secret}) has no memory left, see '{secret}'.")
    assert told.startswith("The worker (...")
    assert "has no memory left" in told
    for word in ("key-of", "example", "worker-3", "sig=", "eyJ", "opaque"):
        assert word not in told.lower()


def test_of_a_trace_only_the_error_stays() -> None:
    """Its frames tell how the server is built."""
    frames = '  File "/opt/engine/run.py", line 7, in step\n    go()\n'
    said = f"The job failed. Traceback (most recent call last):\n{frames}RuntimeError: CUDA out of memory\n"
    assert mask_of(DEPLOYMENT)(said) == "The job failed. RuntimeError: CUDA out of memory"


@pytest.mark.parametrize("unit", ["a-", "a.", "a+", "eyJ-", "eyJa.", "/a+", "bearer ", "1.", "x://", "0-"])
@pytest.mark.no_cover  # whose tracing takes several times as long as what is timed
def test_no_text_takes_long_to_mask(unit: str) -> None:
    """An upstream may quote a prompt, whose caller may have chosen the worst one."""
    begun = time.thread_time()
    mask_of(DEPLOYMENT)(unit * 1_000_000)
    assert time.thread_time() - begun < 0.2


def test_a_plain_sentence_stays_as_it_is() -> None:
    """Times, routes, fractions and short keys look like nothing that is secret."""
    said = "Failed at 10:30: 1280x720/8s, 1/2 of 16:9 at /videos, and torch 2.9.1 is bearer of bad news"
    assert mask_of(Deployment("e", known.OPENAI, "m", "http://gpu.example/v1", api_key="in"))(said) == said


@pytest.mark.parametrize("error", [{"code": "oom", "message": "{}"}, "{}", {"code": "{}", "message": "no memory"}])
async def test_the_reason_of_a_failed_job_tells_neither_address_nor_key(world: World, error: object) -> None:
    """It comes in an answer with status 200, is stored with the video, and is shown to its
    caller.
    """
    where = world.gateway.settings.catalog.models[0].deployments[0].base_url
    quoted = f"POST {where}/videos with api-key upstream-secret"
    told = json.loads(json.dumps(error).replace("{}", quoted))
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end("failed", told)
    await world.live(video.id)
    reply = await world.send("GET", f"v1/videos/{video.id}", secret=world.secret)
    assert reply.json["status"] == "failed"
    assert b"upstream-secret" not in reply.body
    assert b"openai.azure.com" not in reply.body


async def test_a_prompt_that_names_the_upstream_is_still_recognised_in_its_list(world: World) -> None:
    """Only the reasons are masked: a job is recognised by what was asked for."""
    world.upstream.accept_then(httpx.ReadTimeout("lost"))
    video = await world.start(prompt="A cat looks at https://example.openai.azure.com/ with upstream-secret")
    await world.submitted(video.id)
    assert len(world.upstream.jobs) == 1
    assert (await world.video(video.id)).upstream_id in world.upstream.jobs
