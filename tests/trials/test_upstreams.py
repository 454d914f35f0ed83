"""The whole gateway in front of servers of each kind: one video at a time."""

import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from shared.config import settings
from shared.config.catalog import Deployment
from shared.dialects.known import DIALECTS
from tests.fakes.stack import Served, accepted, asked, eventually, serving, wait_for_end

OWN = ("hosted_vllm", "sglang", "gemini")


@pytest.fixture(scope="module", params=OWN)
def served(request: pytest.FixtureRequest, azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp(request.param), dialect=request.param, max_running=1) as gateway:
        yield gateway


def deployment(served: Served) -> Deployment:
    """Where it makes its videos."""
    catalog = settings.load({**served.settings}).catalog
    return catalog.models[0].deployments[0]


def create(served: Served, prompt: str) -> str:
    with served.client() as client:
        answer = client.post("/v1/videos", json={"model": served.model, "prompt": prompt, "seconds": "4"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def ended(served: Served, video_id: str) -> dict[str, Any]:
    with served.client() as client:
        return wait_for_end(client, video_id)


def job_of(served: Served, prompt: str) -> dict[str, Any] | None:
    """The last job with this prompt."""
    return next((job for job in reversed(accepted(served.upstream)) if job["prompt"] == prompt), None)


def test_a_video_is_made_and_no_copy_stays(served: Served) -> None:
    """Its bytes are ours; nothing that the server says of itself reaches the caller."""
    video_id = create(served, "A cat on a roof")
    video = ended(served, video_id)
    assert video["status"] == "completed", video
    with served.client() as client:
        told = client.get(f"/v1/videos/{video_id}").text
        content = client.get(f"/v1/videos/{video_id}/content", follow_redirects=True)
    assert content.content[4:8] == b"ftyp"
    assert "/sgl-workspace" not in told
    assert served.upstream.removeprefix("http://") not in told
    if deployment(served).delete_after_saving:
        eventually(lambda: (job_of(served, "A cat on a roof") or {}).get("deleted"))


@pytest.mark.parametrize(("variant", "kind"), [("thumbnail", "WEBP"), ("spritesheet", "JPEG")])
def test_an_image_is_drawn_from_the_film(served: Served, variant: str, kind: str) -> None:
    """None of these servers makes any. Streamed or from storage, it is the same."""
    video_id = create(served, "A cat in the picture")
    assert ended(served, video_id)["status"] == "completed"
    with served.client() as client:
        asks = [{"variant": variant, "delivery": delivery} for delivery in ("proxy", "redirect")]
        answers = [client.get(f"/v1/videos/{video_id}/content", params=ask, follow_redirects=True) for ask in asks]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    with Image.open(BytesIO(answers[0].content)) as image:
        assert image.format == kind


def test_the_slot_of_a_failed_job_is_free_within_two_looks(served: Served) -> None:
    """Whatever status the failure is told under, and with the server's own words."""
    first = create(served, "An unlucky cat")
    second = create(served, "A lucky dog")
    failed = ended(served, first)
    assert failed["status"] == "failed"
    assert failed["error"]["message"]
    job = eventually(lambda: job_of(served, "An unlucky cat"))
    next_job = eventually(lambda: job_of(served, "A lucky dog"))
    looks = [each for each in asked(served.upstream, "get") if each["job"] == job["id"]]
    begun = [each["time"] for each in asked(served.upstream, "create") if each["job"] == next_job["id"]]
    unheeded = [each for each in looks[:-1] if each["status"] >= 400]
    assert len(unheeded) <= 1
    assert begun[0] >= looks[-1]["time"]
    assert begun[0] - looks[-1]["time"] < 5.0
    assert ended(served, second)["status"] == "completed"


def test_a_deleted_job_makes_room_where_the_server_can_stop_it(served: Served) -> None:
    """At once, and its caller is charged nothing."""
    if not deployment(served).dialect.stops:
        pytest.skip("this server goes on with it")
    first = create(served, "An endless cat")
    eventually(lambda: job_of(served, "An endless cat"))
    second = create(served, "A patient dog")
    began = time.monotonic()
    with served.client() as client:
        assert client.delete(f"/v1/videos/{first}").status_code == 200
    assert ended(served, second)["status"] == "completed"
    assert time.monotonic() - began < 30
    job = job_of(served, "An endless cat")
    assert job is not None
    assert job["deleted"]


def test_a_remix_that_the_server_has_not_spends_nothing(served: Served) -> None:
    """It is refused before anything is asked, and says what to do."""
    source = create(served, "A cat to remix")
    assert ended(served, source)["status"] == "completed"
    before = len(asked(served.upstream, "any"))
    with served.client() as client:
        answer = client.post(f"/v1/videos/{source}/remix", json={"prompt": "A dog"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_supported")
    assert len(asked(served.upstream, "any")) == before


def test_every_kind_that_differs_is_here() -> None:
    """A new dialect has to pass here as well."""
    assert set(OWN) == DIALECTS.keys() - {"azure", "openai"}
