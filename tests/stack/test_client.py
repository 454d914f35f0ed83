"""The package `video-gateway` as its users use it: against a gateway, and straight to Azure."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
import video_gateway
from PIL import Image
from rich.console import Console
from video_gateway import cli, exceptions
from video_gateway.connection import find_place
from video_gateway.video import VideoObject

from tests.fakes.stack import MASTER_KEY, UPSTREAM_KEY, Served, arm, asked, play, serving


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("client")) as gateway:
        yield gateway


@pytest.fixture
def to_gateway(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_GATEWAY_URL", served.url)
    monkeypatch.setenv("VIDEO_GATEWAY_KEY", served.new_key())


@pytest.fixture
def to_azure(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_BASE", f"{served.upstream}/")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", UPSTREAM_KEY)


@pytest.mark.usefixtures("to_gateway")
def test_one_video_has_one_id_from_prompt_to_bytes(served: Served, tmp_path: Path) -> None:
    """Status, attributes, keys, price and content of a video made through a gateway."""
    seen: list[str] = []
    video = video_gateway.video_generation(
        "A cat", model=served.model, seconds="4", size="720x1280", on_progress=lambda each: seen.append(each.status)
    )
    assert seen[0] == "queued"
    assert video.status == video["status"] == video.get("status") == "completed"
    assert "nothing" not in video
    assert video.usage["duration_seconds"] == 4.0
    assert video._hidden_params["response_cost"] == 0.4
    assert video_gateway.video_status(video_id=video.id).id == video.id
    data = video_gateway.video_content(video_id=video.id)
    assert video_gateway.video_content(video.id, file=tmp_path / "cat.mp4") == b""
    assert (tmp_path / "cat.mp4").read_bytes() == data
    assert play(tmp_path / "cat.mp4").size == "720x1280"
    assert video_gateway.video_list(limit=1)["data"][0]["id"] == video.id
    assert video_gateway.video_delete(video.id) == {"id": video.id, "object": "video.deleted", "deleted": True}
    with pytest.raises(exceptions.NotFoundError):
        video_gateway.video_status(video.id)


@pytest.mark.usefixtures("to_azure")
def test_straight_to_azure_with_its_own_variables(served: Served) -> None:
    """The page's quick start: Azure's key and base, the default model, and the id of the create."""
    before = len(asked(served.upstream, "create"))
    video = video_gateway.video_generation("A cat", seconds=4, wait=True)
    assert video.status == "completed"
    assert video._hidden_params["response_cost"] == 0.4
    assert video_gateway.video_content(video.id)[4:8] == b"ftyp"
    assert len(asked(served.upstream, "create")) == before + 1


@pytest.mark.usefixtures("to_azure")
def test_a_create_straight_to_azure_is_never_repeated(served: Served) -> None:
    """Azure would make, and charge, a second job."""
    before = len(asked(served.upstream, "create"))
    arm(served.upstream, kind="status", status=500, operation="create")
    with pytest.raises(exceptions.InternalServerError):
        video_gateway.video_generation("A cat", seconds=4)
    assert len(asked(served.upstream, "create")) == before + 1


@pytest.mark.anyio
@pytest.mark.usefixtures("to_gateway")
async def test_awaited_calls_do_the_same(served: Served) -> None:
    """Each function has a twin for asyncio; several run at once."""

    async def make(prompt: str) -> bytes:
        video = await video_gateway.avideo_generation(prompt, model=served.model, seconds="4", wait=True)
        remixed = await video_gateway.avideo_remix(video.id, "Make the cat jump higher")
        assert remixed.remixed_from_video_id == video.id
        return await video_gateway.avideo_content(video.id)

    assert [data[4:8] for data in await asyncio.gather(make("A cat"), make("A dog"))] == [b"ftyp", b"ftyp"]


@pytest.mark.usefixtures("to_gateway")
def test_errors_are_the_pages_and_openais_at_once(served: Served) -> None:
    """Code that catches either package's classes works; what is wrong is in attributes."""
    with pytest.raises(exceptions.BadRequestError) as refused:
        video_gateway.video_generation("A cat", model=served.model, seconds="16")
    assert isinstance(refused.value, openai.BadRequestError)
    assert (refused.value.status_code, refused.value.param) == (400, "seconds")
    assert refused.value.request_id
    with pytest.raises(exceptions.AuthenticationError) as unknown:
        video_gateway.video_status("video_x", api_key="wrong")
    assert isinstance(unknown.value, openai.AuthenticationError)
    assert unknown.value.status_code == 401
    with pytest.raises(exceptions.APIConnectionError):
        video_gateway.video_status("video_x", api_base="http://127.0.0.1:9", api_key="any")


@pytest.mark.usefixtures("to_gateway")
def test_what_no_model_can_is_said_by_name() -> None:
    """An edit and an extension name their video by its id, and are refused with the reason."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: video_gateway.video_edit("video_x", "A dog"),
        lambda: video_gateway.video_extension("video_x", "A dog", 8),
        lambda: asyncio.run(video_gateway.avideo_edit("video_x", "A dog")),
        lambda: asyncio.run(video_gateway.avideo_extension("video_x", "A dog", "8")),
    )
    for refused in calls:
        with pytest.raises(exceptions.BadRequestError) as told:
            refused()
        assert told.value.code == "not_supported"


def test_without_a_key_nothing_is_sent() -> None:
    """The error comes before any call, and says what to set."""
    with pytest.raises(exceptions.AuthenticationError, match="VIDEO_GATEWAY_KEY"):
        find_place(environment={"VIDEO_GATEWAY_URL": "http://127.0.0.1:9"})
    with pytest.raises(ValueError, match="VIDEO_GATEWAY_URL"):
        find_place(environment={})


def test_two_different_azure_resources_are_a_mistake() -> None:
    """Two variables that name one resource in two spellings are none."""
    env = {"AZURE_OPENAI_API_BASE": "https://a.openai.azure.com/", "AZURE_API_KEY": "key"}
    same = find_place(environment={**env, "AZURE_API_BASE": "https://a.openai.azure.com/openai/v1"})
    assert same.base_url == "https://a.openai.azure.com/openai/v1"
    with pytest.raises(ValueError, match="different resources"):
        find_place(environment={**env, "AZURE_API_BASE": "https://b.openai.azure.com"})


@pytest.mark.usefixtures("to_gateway")
def test_the_command_makes_watches_fetches_and_deletes(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a prompt and an image to a file, by commands whose output scripts can read."""
    picture = io.BytesIO()
    Image.new("RGB", (720, 1280), "red").save(picture, "PNG")
    (tmp_path / "cat.png").write_bytes(picture.getvalue())
    made = [
        *("generate", "A cat", "--model", served.model, "--seconds", "4", "--size", "720x1280"),
        *("--reference", str(tmp_path / "cat.png"), "-o", str(tmp_path / "cat.mp4"), "--json"),
    ]
    assert cli.main(made) == 0
    video = json.loads(capsys.readouterr().out)
    assert play(tmp_path / "cat.mp4").size == "720x1280"
    assert cli.main(["status", video["id"]]) == 0
    assert "completed" in capsys.readouterr().out
    assert cli.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"][0]["id"] == video["id"]
    assert cli.main(["delete", video["id"]]) == 0
    assert cli.main(["models", "--json"]) == 0
    assert served.model in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place in the queue first, then how far it is; scripts see nothing of it."""
    shown = io.StringIO()
    monkeypatch.setattr(cli, "_ERR", Console(file=shown, force_terminal=terminal, width=100))
    video = {"id": "video_1", "object": "video", "status": "queued", "progress": 0, "queue": {"position": 3}}
    with cli._progress(quiet=False) as show:
        for state in (video, video, {**video, "status": "in_progress", "progress": 40}):
            show(VideoObject.construct(None, **state))
    if terminal:
        assert "queued, number 3" in shown.getvalue()
        assert " 40 %" in shown.getvalue()
        return
    assert shown.getvalue() == "queued, number 3 0 %\nin progress 40 %\n"
    with cli._progress(quiet=True) as show:
        show(VideoObject.construct(None, **video))
    assert shown.getvalue().count("queued") == 1


@pytest.mark.usefixtures("to_gateway")
def test_what_goes_wrong_is_one_line_and_an_exit_code(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for what a person can mend."""
    assert cli.main(["generate", "A cat", "--model", served.model, "--seconds", "5"]) == 1
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "seconds" in told
    assert cli.main(["generate", "A cat", "--reference", "/nowhere.png"]) == 2
    capsys.readouterr()
    assert cli.main(["generate", "A cat", "--model", served.model, "--seconds", "5", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["param"], error["code"]) == ("seconds", "invalid_value")
    assert error["request_id"].startswith("req_")
    assert cli.main(["keys", "--api-key", MASTER_KEY]) == 0
