"""Whether a listed job can be an attempt's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.config.catalog import KNOWN_MODELS, Deployment, Model
from shared.dialects.known import AZURE, HOSTED_VLLM
from shared.media.video import Video
from shared.storage.tables import Row
from shared.storage.video_store import VideoRow
from shared.upstream.jobs import Job, Listing
from shared.videos.attempt import Attempt
from shared.videos.fit import Fit, fit, made_since, resembles

NOTED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLACE = Deployment("here", AZURE, "sora-2", "https://example.openai.azure.com/openai/v1")
MODEL = Model("azure-sora-2", KNOWN_MODELS["sora-2"], (PLACE,))
PROMPT = "A cat that plays with a ball of yarn, café light"


def attempt(deployment: Deployment = PLACE, **changes: Any) -> Attempt:
    asked = {"prompt": PROMPT, "seconds": 4, "size": "720x1280", "cost": 1, "attempted_at": NOTED, **changes}
    video = Video(id="video_1", model=MODEL.name, created_at=NOTED, **asked)
    return Attempt(VideoRow(video, Row("video_1", {}, "")), MODEL, deployment)


def job(**changes: Any) -> Job:
    told = {"prompt": PROMPT, "seconds": "4", "size": "720x1280", "model": "sora-2", "created_at": NOTED.timestamp() + 1}
    return Job(id="video_x", **{**told, **changes})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Fit.EXACT),
        ({"seconds": 4}, Fit.EXACT),
        ({"prompt": None}, Fit.UNPROVEN),
        ({"size": None}, Fit.UNPROVEN),
        ({"created_at": None}, Fit.UNPROVEN),
        ({"prompt": "A dog"}, Fit.NO),
        ({"prompt": PROMPT[:20]}, Fit.NEAR),
        ({"prompt": f"  {PROMPT}\n"}, Fit.NEAR),
        ({"size": "704x1280"}, Fit.NEAR),
        ({"seconds": "5"}, Fit.NEAR),
        ({"created_at": NOTED.timestamp() - 20}, Fit.UNPROVEN),
        ({"created_at": NOTED.timestamp() - 301}, Fit.NO),
        ({"remixed_from_video_id": "video_y"}, Fit.NO),
        ({"model": "sora-2-pro"}, Fit.UNPROVEN),
        ({"model": None}, Fit.EXACT),
    ],
)
def test_a_job_fits_by_everything_that_is_told_of_it(told: dict[str, Any], expected: Fit) -> None:
    """Only a job that is told to the last word and to the minute can be adopted."""
    assert fit(job(**told), attempt(), Listing(NOTED), {"sora-2-pro"}) is expected


@pytest.mark.parametrize(("source", "expected"), [("video_s", Fit.EXACT), (None, Fit.UNPROVEN), ("video_t", Fit.NO)])
def test_a_remix_is_told_by_its_source(source: str | None, expected: Fit) -> None:
    """A list that leaves the source out does not tell that there is none."""
    asked = attempt(source_upstream_id="video_s")
    assert fit(job(remixed_from_video_id=source), asked, Listing(NOTED), set()) is expected


def test_another_name_than_the_models_own_is_doubted_where_that_is_known() -> None:
    """A deployment whose model is configured is not called by a third name."""
    known = replace(PLACE, model="mine", base_model="sora-2")
    assert fit(job(model="sora-2"), attempt(known), Listing(NOTED), set()) is Fit.EXACT
    assert fit(job(model="veo"), attempt(known), Listing(NOTED), set()) is Fit.UNPROVEN


@pytest.mark.parametrize(
    ("made", "ahead", "expected"),
    [
        (-20, -20.0, Fit.EXACT),
        (-20, 0.0, Fit.UNPROVEN),
        (-61, 0.0, Fit.NO),
        (-61, None, Fit.UNPROVEN),
        (20, 60.0, Fit.UNPROVEN),
        (-299, -240.0, Fit.UNPROVEN),
    ],
)
def test_a_time_is_judged_by_the_clock_that_told_it(made: float, ahead: float | None, expected: Fit) -> None:
    """A job before the attempt by one clock, and after it by the other, may be its own."""
    assert made_since((NOTED + timedelta(seconds=made)).timestamp(), NOTED, ahead) is expected


@pytest.mark.parametrize(
    "told",
    [
        "",
        "A cat that plays w",
        "A cat that plays with…",
        "a CAT that plays with a ball of yarn caf\u0065\u0301 light",
        "A cat that plays with a ball of yarn, caf? light",
        "A cat that plays with a ball of yarn, caf&eacute; light",
        f"Video of: {PROMPT}",
    ],
)
def test_a_prompt_that_was_trimmed_or_cleaned_resembles_itself(told: str) -> None:
    """Cut, without accents, with another case or with codes of HTML."""
    assert resembles(told, PROMPT)


@pytest.mark.parametrize("told", ["A dog", "A cat that sleeps in the sun", "A ball"])
def test_another_prompt_does_not(told: str) -> None:
    """Sharing some words is no likeness."""
    assert not resembles(told, PROMPT)


@given(st.text(max_size=200), st.integers(0, 200))
def test_every_cut_and_trimmed_prompt_resembles_itself(prompt: str, length: int) -> None:
    """At any character, in any script."""
    assert resembles(prompt[:length], prompt)
    assert resembles(prompt.strip(), prompt)


@pytest.mark.parametrize(("told", "expected"), [(81, Fit.EXACT), (None, Fit.EXACT), (49, Fit.NO)])
def test_a_job_of_other_frames_is_another_one(told: int | None, expected: Fit) -> None:
    """Where the server keeps what it was sent; once it is finished it tells what came out."""
    place = replace(PLACE, dialect=HOSTED_VLLM)
    ours = attempt(place, parameters='{"num_frames": 81, "seed": 1}')
    assert fit(job(num_frames=told), ours, Listing(NOTED), set()) is expected
    assert fit(job(num_frames=told, status="completed"), ours, Listing(NOTED), set()) is Fit.EXACT
