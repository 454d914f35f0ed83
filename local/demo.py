"""`make demo`: makes one video through the gateway's public HTTP API, saves it and checks it."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from local.stack import Options, StackError, start

_LOOK_AGAIN_SECONDS = 0.5

Show = Callable[[str, int], None]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Film:
    """A saved file as it plays: length in `seconds`, `width` and `height` in pixels."""

    seconds: float
    width: int
    height: int

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Demo:
    """A stack to start, and the video to make with it. `size` None is the model's first."""

    options: Options
    prompt: str = "A cat playing with a ball of yarn in a sunny garden"
    seconds: str = "4"
    size: str | None = None
    out: Path = Path("out")

    async def run(self) -> None:
        """Start the stack, make the video, stop the stack. Raises StackError with the API's message
        where a step fails.
        """
        console = Console()
        if console.is_terminal:  # log lines go above the progress bar, not through it
            logging.basicConfig(level=logging.WARNING, handlers=[RichHandler(console=console, show_path=False)], force=True)
        _require_folder(self.out)
        console.print("Starting storage, upstream and gateway")
        async with start(self.options) as stack:
            await self.make(stack.url, stack.master_key, console)

    async def make(self, url: str, key: str, console: Console, sleep: Sleep = asyncio.sleep) -> Path:
        """Create the video at the gateway at `url`, wait for it, save it and check it. Returns its
        path. Raises StackError.
        """
        begun = time.monotonic()
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            asked = {"prompt": self.prompt, "seconds": self.seconds} | ({"size": self.size} if self.size else {})
            created = _accepted(await client.post("/v1/videos", json=asked))
            video = created.json()
            with _progress(console) as show:
                while video["status"] not in ("completed", "failed"):
                    show(video["status"], video["progress"])
                    await sleep(_LOOK_AGAIN_SECONDS)
                    video = _accepted(await client.get(f"/v1/videos/{video['id']}")).json()
                show(video["status"], video["progress"])
            if video["status"] == "failed":
                raise StackError(f"The video failed: {video['error']['message']}")
            path = await _download(client, video["id"], self.out)
        film = inspect(path)
        if film.size != video["size"] or abs(film.seconds - float(video["seconds"])) > 0.5:
            raise StackError(f"Asked for {video['size']}, {video['seconds']} s; {path} is {film.size}, {film.seconds:.1f} s.")
        console.print(
            _summary(
                ("id", video["id"]),
                ("path", str(path)),
                ("duration", f"{film.seconds:.1f} s"),
                ("size", film.size),
                ("cost", f"${float(created.headers['x-response-cost']):.2f}"),
                ("took", f"{time.monotonic() - begun:.1f} s"),
            )
        )
        return path


def inspect(path: Path) -> Film:
    """Read a film's length and size. Raises StackError where it is not a film."""
    try:
        with av.open(str(path)) as container:
            picture = container.streams.video[0]
            return Film((container.duration or 0) / av.time_base, picture.width, picture.height)
    except (av.FFmpegError, IndexError) as error:
        raise StackError(f"{path} does not play: {error}") from error


async def _download(client: httpx.AsyncClient, video_id: str, folder: Path) -> Path:
    """Stream the content to `<folder>/<video id>.mp4`. httpx drops our key when it follows a
    redirect to another host.
    """
    _require_folder(folder)
    path = folder / f"{video_id}.mp4"
    async with client.stream("GET", f"/v1/videos/{video_id}/content", follow_redirects=True) as response:
        if response.is_error:
            await response.aread()
        _accepted(response)
        with path.open("wb") as file:
            async for chunk in response.aiter_bytes():
                file.write(chunk)
    return path


def _require_folder(folder: Path) -> None:
    """Make the folder if it is missing. Raises StackError where no file can be saved there, before
    a video is made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StackError(f"Nothing can be saved in {folder} ({error.strerror}): choose another folder with --out.") from error


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response, unless it is an error. Raises StackError with the message of the API's error
    object.
    """
    if response.is_success:
        return response
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    raise StackError(f"The gateway answered {response.status_code}: {message}")


@contextmanager
def _progress(console: Console) -> Iterator[Show]:
    """A progress bar on a terminal; elsewhere one line for each change."""
    if not console.is_terminal:
        last = None

        def tell(status: str, percent: int) -> None:
            nonlocal last
            if last != (status, percent):
                last = status, percent
                console.print(f"{status} {percent}%")

        yield tell
        return
    columns: list[Any] = [TextColumn("{task.description:<11}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("queued", total=100)
        yield lambda status, percent: bar.update(task, description=status, completed=percent)


def _summary(*rows: tuple[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value, style=None)
    table.columns[1].overflow = "fold"
    return table
