"""The official OpenAI client against the real stack, with only its address and its key changed."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai.types import Video
from PIL import Image

from tests.fakes.stack import MASTER_KEY, MODEL, Served, asked, eventually, play, serving, wait_for_end

# What the client says of the API's own end, at every call.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

KEYS_OF_A_VIDEO = {
    *("id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at"),
    *("prompt", "size", "seconds", "remixed_from_video_id", "error"),
}
DOOMED = "An unlucky cat"  # its job fails, so that no film has to be made
UNKNOWN = f"video_{'0' * 32}"


@pytest.fixture(scope="module")
def gateway(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack")) as served:
        yield served


@pytest.fixture
def client(gateway: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1") as made:
        yield made


@dataclass(frozen=True)
class Film:
    """A video that was made with `create_and_poll`, the id that its create was answered with, and
    its bytes.
    """

    video: Video
    content: bytes


@pytest.fixture(scope="module")
def film(gateway: Served) -> Film:
    with openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1") as client:
        video = client.videos.create_and_poll(prompt="A cat", model=MODEL, seconds="4", size="1280x720")
        return Film(video, client.videos.download_content(video.id).read())


def test_create_and_poll_then_download_gives_the_film_that_was_asked_for(gateway: Served, film: Film) -> None:
    """The id that polling returned leads to the bytes; they have the size and length asked for, and
    play to the end.
    """
    assert (film.video.status, film.video.progress, film.video.error) == ("completed", 100, None)
    assert (film.video.model, film.video.seconds, film.video.size) == (gateway.model, "4", "1280x720")
    assert film.video.completed_at is not None
    played = play(film.content)
    assert played.size == "1280x720"
    assert played.seconds == pytest.approx(4, abs=0.1)
    assert played.pictures >= 60


def test_a_video_has_every_key_of_the_specification_and_its_usage(film: Film, client: openai.OpenAI) -> None:
    """In retrieve and in list alike: all 13 keys, `seconds` as text, and how long the film is."""
    listed = next(each for each in client.videos.list() if each.id == film.video.id)
    for video in (film.video, client.videos.retrieve(film.video.id), listed):
        told = video.to_dict()
        assert told.keys() >= KEYS_OF_A_VIDEO
        assert told["usage"] == {"duration_seconds": 4.0}
        assert told == film.video.to_dict()


def _openai(path: str) -> Callable[[Served], openai.OpenAI]:
    return lambda gateway: openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}{path}")


def _azure(gateway: Served) -> openai.OpenAI:
    return openai.AzureOpenAI(api_key=gateway.key, azure_endpoint=gateway.url, api_version="preview")


@pytest.mark.parametrize(
    "connect",
    [_openai("/v1"), _openai(""), _openai("/"), _openai("/openai/v1/"), _azure],
    ids=["v1", "bare", "slash", "azure-v1", "azure-client"],
)
def test_every_spelling_of_the_address_works(connect: Callable[[Served], openai.OpenAI], gateway: Served, film: Film) -> None:
    """With /v1, without, Azure's own path, and the Azure client with its api-key header: every
    operation, the same ids.
    """
    with connect(gateway) as client:
        video = client.videos.create(prompt=DOOMED)
        assert (video.status, video.seconds, video.size) == ("queued", "4", "720x1280")
        assert client.videos.poll(video.id, poll_interval_ms=50).status == "failed"
        assert next(iter(client.videos.list(limit=1))).id == video.id
        remix = client.videos.remix(film.video.id, prompt=DOOMED)
        assert remix.remixed_from_video_id == film.video.id
        assert client.videos.download_content(film.video.id).read() == film.content
        for each in (video, remix):
            client.videos.poll(each.id, poll_interval_ms=50)
            assert client.videos.delete(each.id).to_dict() == {"id": each.id, "object": "video.deleted", "deleted": True}
            with pytest.raises(openai.NotFoundError):
                client.videos.retrieve(each.id)


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (720, 1280), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(gateway: Served) -> None:
    """Create with a reference image, poll, download, list by pages, remix, delete."""
    async with openai.AsyncOpenAI(api_key=gateway.new_key(), base_url=f"{gateway.url}/v1") as client:
        made = await client.videos.create_and_poll(prompt="A cat", input_reference=("cat.png", _picture(), "image/png"))
        assert (made.status, made.size) == ("completed", "720x1280")
        remix = await client.videos.remix(made.id, prompt=DOOMED)
        ended = await client.videos.poll(remix.id)
        assert (ended.status, ended.remixed_from_video_id) == ("failed", made.id)
        assert [each.id async for each in client.videos.list(limit=1)] == [remix.id, made.id]
        content = await (await client.videos.download_content(made.id)).aread()
        assert play(content).size == "720x1280"
        assert (await client.videos.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.videos.download_content(made.id)


def test_a_reference_image_may_come_in_every_form_the_client_takes(
    gateway: Served, client: openai.OpenAI, tmp_path: Path
) -> None:
    """Bytes, a nameless buffer, an open file: its type is told from the bytes, and the upstream
    accepts it.
    """
    (tmp_path / "cat.png").write_bytes(_picture())
    with (tmp_path / "cat.png").open("rb") as file:
        forms: list[Any] = [_picture(), io.BytesIO(_picture()), file]
        videos = [client.videos.create(prompt=f"{DOOMED} {n}", input_reference=form) for n, form in enumerate(forms)]
    assert [client.videos.poll(video.id, poll_interval_ms=50).status for video in videos] == ["failed"] * 3
    for video in videos:
        error = client.videos.retrieve(video.id).error
        assert error is not None
        assert error.code == "internal_error"  # the job's own end: the image was accepted


def test_a_length_may_be_a_number(client: openai.OpenAI) -> None:
    """The client's type says text; people send numbers, and so does the quick start."""
    number: Any = 8
    video = client.videos.create(prompt=DOOMED, seconds=number)
    assert video.seconds == "8"
    assert video.to_dict()["usage"] == {"duration_seconds": 8.0}


def test_an_unfinished_video_says_when_to_look_again_and_a_finished_one_does_not(client: openai.OpenAI, film: Film) -> None:
    """In whole milliseconds: the client gives up with ValueError on anything else."""
    created = client.videos.with_raw_response.create(prompt=DOOMED)
    assert created.headers["openai-poll-after-ms"] == "100"
    assert "openai-poll-after-ms" not in client.videos.with_raw_response.retrieve(film.video.id).headers


def test_listing_visits_every_video_once_in_either_order(gateway: Served) -> None:
    """By pages of any length, newest first by default; `after` continues behind a video; others'
    are not there.
    """
    with openai.OpenAI(api_key=gateway.new_key(), base_url=f"{gateway.url}/v1") as client:
        assert list(client.videos.list()) == []
        ids = [client.videos.create(prompt=f"{DOOMED} {n}").id for n in range(5)]
        for limit in (1, 2, 5, 100):
            assert [each.id for each in client.videos.list(limit=limit, order="asc")] == ids
            assert [each.id for each in client.videos.list(limit=limit)] == ids[::-1]
        assert [each.id for each in client.videos.list(after=ids[3], limit=2)] == ids[2::-1]
        assert [each.id for each in client.videos.list(after=ids[1], order="asc")] == ids[2:]
        page = client.videos.list(limit=2)
        assert [each.id for each in page.data] == ids[:2:-1]
        assert page.has_more


@pytest.mark.parametrize(
    ("ask", "kind", "code", "param"),
    [
        (lambda videos: videos.retrieve(UNKNOWN), openai.NotFoundError, "video_not_found", "video_id"),
        (lambda videos: videos.delete("no-such-form"), openai.NotFoundError, "video_not_found", "video_id"),
        (lambda videos: videos.remix(UNKNOWN, prompt="A cat"), openai.NotFoundError, "video_not_found", "video_id"),
        (lambda videos: videos.create(prompt="A", seconds="16"), openai.BadRequestError, "invalid_value", "seconds"),
        (lambda videos: videos.create(prompt="A", size="1x1"), openai.BadRequestError, "invalid_value", "size"),
        (lambda videos: videos.create(prompt=" "), openai.BadRequestError, "invalid_value", "prompt"),
        (lambda videos: videos.create(prompt="A", model="gpt-4"), openai.BadRequestError, "model_not_found", "model"),
        (lambda videos: videos.list(limit=101), openai.BadRequestError, "invalid_value", "limit"),
    ],
)
def test_errors_arrive_as_the_clients_own_classes(
    ask: Callable[[Any], Any], kind: type[openai.APIStatusError], code: str, param: str, client: openai.OpenAI
) -> None:
    """With code, param and the request's id, which the log has as well."""
    with pytest.raises(kind) as raised:
        ask(client.videos)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.type == "invalid_request_error"
    assert str(raised.value.request_id).startswith("req_")


def test_a_wrong_key_and_anothers_key_are_told_apart_by_nothing_they_could_learn(gateway: Served, film: Film) -> None:
    """A wrong key is 401; another's key finds nothing, whatever it asks of the video."""
    with openai.OpenAI(api_key="sk-wrong", base_url=f"{gateway.url}/v1") as stranger:
        with pytest.raises(openai.AuthenticationError) as raised:
            stranger.videos.retrieve(film.video.id)
        assert raised.value.code == "invalid_api_key"
    with openai.OpenAI(api_key=gateway.new_key(), base_url=f"{gateway.url}/v1") as other:
        for ask in (
            other.videos.retrieve,
            other.videos.delete,
            other.videos.download_content,
            lambda video_id: other.videos.remix(video_id, prompt="A cat"),
        ):
            with pytest.raises(openai.NotFoundError):
                ask(film.video.id)


def test_content_before_the_end_is_a_conflict_that_is_not_retried(gateway: Served, client: openai.OpenAI) -> None:
    """The client repeats a 409 by its own rule, unless it is told not to."""
    video = client.videos.create(prompt="An endless cat")
    with pytest.raises(openai.ConflictError) as raised:
        client.videos.download_content(video.id)
    assert raised.value.code == "video_not_completed"
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"
    with pytest.raises(openai.ConflictError):
        client.videos.remix(video.id, prompt="A cat")
    client.videos.delete(video.id)


def test_a_signed_url_has_the_bytes_their_type_and_a_filename(gateway: Served, film: Film) -> None:
    """The redirect leads to storage: whole or in ranges, without any key of the caller's."""
    with gateway.client() as plain:
        redirect = plain.get(f"/v1/videos/{film.video.id}/content")
    assert redirect.status_code == 302
    assert redirect.headers["cache-control"] == "no-store"
    location = redirect.headers["location"]
    whole = httpx.get(location, trust_env=False)
    assert (whole.status_code, whole.content) == (200, film.content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-length"] == str(len(film.content))
    assert whole.headers["content-disposition"] == f'attachment; filename="{film.video.id}.mp4"'
    assert whole.headers["etag"]
    part = httpx.get(location, headers={"range": "bytes=10-1033"}, trust_env=False)
    assert (part.status_code, part.content) == (206, film.content[10:1034])
    assert part.headers["content-range"] == f"bytes 10-1033/{len(film.content)}"
    unsigned = httpx.get(location.partition("?")[0], trust_env=False)
    assert unsigned.status_code in (403, 404)


@pytest.mark.parametrize(("variant", "media_type"), [("thumbnail", "image/webp"), ("spritesheet", "image/jpeg")])
def test_the_other_variants_are_images(
    variant: Any, media_type: str, film: Film, client: openai.OpenAI, gateway: Served
) -> None:
    """Fetched when first asked for, then from storage."""
    before = len(asked(gateway.upstream, "content"))
    for _ in range(2):
        image = client.videos.download_content(film.video.id, variant=variant)
        assert image.response.headers["content-type"] == media_type
        with Image.open(io.BytesIO(image.read())) as picture:
            assert Image.MIME[picture.format or ""] == media_type
    assert len(asked(gateway.upstream, "content")) == before + 1


def test_the_upstream_is_asked_as_its_reference_says(gateway: Served, film: Film) -> None:
    """Few headers, none of the caller's; the model's deployment; one create per video."""
    for each in asked(gateway.upstream, "create"):
        assert each["path"] == "/openai/v1/videos"
        assert each["content_type"] == "multipart/form-data"
    for each in asked(gateway.upstream, "any"):
        assert "api-key" in each["headers"]
        assert not [name for name in each["headers"] if name.startswith("x-")]
        assert len(each["headers"]) <= 10


QUICK_START = """\
curl --location 'http://0.0.0.0:4000/videos/generations' \\
--header 'Content-Type: application/json' \\
--header 'Authorization: Bearer sk-1234' \\
--data '{
    "model": "azure-sora-2",
    "prompt": "A cat playing with a ball of yarn in a sunny garden",
    "seconds": "8",
    "size": "720x1280"
}'
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_quick_starts_curl_works_character_for_character(gateway: Served) -> None:
    """Only the port is another; what comes of it is 8 seconds of video in portrait."""
    command = QUICK_START.replace(":4000", f":{urlsplit(gateway.url).port}")
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env={**os.environ, "no_proxy": "*"}
    )
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {MASTER_KEY}"}, trust_env=False) as operator:
        video = Video.model_validate_json(ran.stdout)
        assert (video.status, video.model, video.seconds, video.size) == ("queued", gateway.model, "8", "720x1280")
        assert wait_for_end(operator, video.id)["status"] == "completed"
        content = operator.get(f"/videos/{video.id}/content", follow_redirects=True).content
    played = play(content)
    assert (played.size, round(played.seconds)) == ("720x1280", 8)


def test_the_quick_starts_python_works(gateway: Served) -> None:
    """`base_url` without /v1, and `seconds` as a number."""
    with openai.OpenAI(api_key=MASTER_KEY, base_url=gateway.url) as client:
        number: Any = 8
        response = client.videos.create(
            model="azure-sora-2",
            prompt="An unlucky cat playing with a ball of yarn in a sunny garden",
            seconds=number,
            size="720x1280",
        )
        assert response.status == "queued"


@pytest.fixture(scope="module")
def private(gateway: Served, film: Film, azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same storage behind a gateway that passes the bytes through itself, as the key that made
    the film sees it.
    """
    with (
        serving(azurite, tmp_path_factory.mktemp("private"), delivery="proxy") as served,
        served.client(gateway.key) as client,
    ):
        yield client


def test_private_storage_is_served_through_the_app(private: httpx.Client, film: Film) -> None:
    """Whole, with type, length, filename and a tag that names these bytes."""
    whole = private.get(f"/v1/videos/{film.video.id}/content")
    assert (whole.status_code, whole.content) == (200, film.content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-length"] == str(len(film.content))
    assert whole.headers["accept-ranges"] == "bytes"
    assert film.video.id in whole.headers["content-disposition"]
    assert whole.headers["etag"]


def test_private_storage_is_served_in_ranges(private: httpx.Client, film: Film) -> None:
    """From the start, from the middle, to the end, the last bytes; each says where it lies."""
    total = len(film.content)
    for wanted, start, end in [("0-0", 0, 0), ("10-1033", 10, 1033), ("100-", 100, total - 1), ("-5", total - 5, total - 1)]:
        part = private.get(f"/v1/videos/{film.video.id}/content", headers={"range": f"bytes={wanted}"})
        assert (part.status_code, part.content) == (206, film.content[start : end + 1])
        assert part.headers["content-range"] == f"bytes {start}-{end}/{total}"
        assert part.headers["content-length"] == str(end - start + 1)


def test_a_range_outside_the_film_is_refused(private: httpx.Client, film: Film) -> None:
    """416, in the form of every other error, with the length that would have been right."""
    total = len(film.content)
    answer = private.get(f"/v1/videos/{film.video.id}/content", headers={"range": f"bytes={total}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{total}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


def test_a_head_request_tells_what_a_get_would_bring(private: httpx.Client, film: Film) -> None:
    """Type, length and tag, and no bytes."""
    answer = private.head(f"/v1/videos/{film.video.id}/content")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(film.content))
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_range_of_what_has_changed_is_the_whole(private: httpx.Client, film: Film) -> None:
    """If-Range with the film's tag gives the range, with another the whole film."""
    path = f"/v1/videos/{film.video.id}/content"
    tag = private.head(path).headers["etag"]
    assert private.get(path, headers={"range": "bytes=0-9", "if-range": tag}).status_code == 206
    changed = private.get(path, headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, film.content)


def test_the_client_downloads_from_private_storage_as_well(private: httpx.Client, film: Film) -> None:
    """Whole, or the range it is told to ask for."""
    key = private.headers["authorization"].removeprefix("Bearer ")
    with openai.OpenAI(api_key=key, base_url=str(private.base_url.join("/v1"))) as client:
        assert client.videos.download_content(film.video.id).read() == film.content
        part = client.videos.download_content(film.video.id, extra_headers={"range": "bytes=0-9"})
        assert part.read() == film.content[:10]


def test_a_moderated_prompt_fails_with_its_code_and_costs_nothing(gateway: Served, client: openai.OpenAI) -> None:
    """Refused at once or after a while, the video ends as failed and the key has spent nothing for
    it.
    """
    with gateway.client() as plain:
        before = plain.get("/key/info").json()["info"]["spend"]
        for prompt in ("A forbidden cat", "A disturbing cat"):
            video = client.videos.create_and_poll(prompt=prompt)
            assert (video.status, video.error and video.error.code) == ("failed", "moderation_blocked")
        assert eventually(lambda: plain.get("/key/info").json())["info"]["spend"] == before
