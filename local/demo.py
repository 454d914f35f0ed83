"""`make demo`: makes one video with the command `video-gateway`, saves it and checks it."""

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from local.stack import Options, StackError, start

_CLIENT = Path(__file__).parents[1] / "client"


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
        """Start the stack, make the video, stop the stack. Raises StackError with the command's
        message where a step fails.
        """
        console = Console()
        if console.is_terminal:  # log lines go above the progress bar, not through it
            logging.basicConfig(level=logging.WARNING, handlers=[RichHandler(console=console, show_path=False)], force=True)
        _require_folder(self.out)
        console.print("Starting storage, upstream and gateway")
        async with start(self.options) as stack:
            await self.make(stack.url, stack.master_key, console)

    async def make(self, url: str, key: str, console: Console) -> Path:
        """Have the gateway at `url` make the video, save it and check it. Returns its path."""
        begun = time.monotonic()
        size = ("--size", self.size) if self.size else ()
        video = await _command(url, key, self.out, "generate", self.prompt, "--seconds", self.seconds, *size)
        path = self.out / str(video["file"])
        film = inspect(path)
        if film.size != video["size"] or abs(film.seconds - float(video["seconds"])) > 0.5:
            raise StackError(f"Asked for {video['size']}, {video['seconds']} s; {path} is {film.size}, {film.seconds:.1f} s.")
        console.print(
            _summary(
                ("id", video["id"]),
                ("path", str(path)),
                ("duration", f"{film.seconds:.1f} s"),
                ("size", film.size),
                ("cost", f"${video['cost']:.2f}"),
                ("took", f"{time.monotonic() - begun:.1f} s"),
            )
        )
        return path


async def _command(url: str, key: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run `video-gateway` in `folder`: what it prints as JSON. Its progress bar goes to this
    terminal. Raises StackError with its error.
    """
    _require_folder(folder)
    settings = {"VIDEO_GATEWAY_URL": url, "VIDEO_GATEWAY_KEY": key, "PYTHONPATH": str(_CLIENT)}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "video_gateway", arguments[0], "--json", *arguments[1:]),
        env={**os.environ, **settings},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C ends it with the stack: its "the job goes on" would not be true
    )
    try:
        said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        told: dict[str, Any] = json.loads(said)
    except ValueError as error:
        raise StackError("The command video-gateway has failed; what it printed says why.") from error
    if told.get("error"):
        raise StackError(told["error"]["message"])
    return told


def inspect(path: Path) -> Film:
    """Read a film's length and size. Raises StackError where it is not a film."""
    try:
        with av.open(str(path)) as container:
            picture = container.streams.video[0]
            return Film((container.duration or 0) / av.time_base, picture.width, picture.height)
    except (av.FFmpegError, IndexError) as error:
        raise StackError(f"{path} does not play: {error}") from error


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


def _summary(*rows: tuple[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value, style=None)
    table.columns[1].overflow = "fold"
    return table
