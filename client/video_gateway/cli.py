"""The command `video-gateway`: make, watch, list, fetch and delete videos from a terminal.

Exit codes: 0 done; 1 the service refused, or the video failed; 2 wrong arguments or no server
configured; 130 interrupted (the job goes on).
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from video_gateway import functions
from video_gateway.connection import client_of, find_place
from video_gateway.exceptions import APIError, translated
from video_gateway.video import VideoObject

_OUT = Console()
_ERR = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given) or 0)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        _complain(given, str(error))
        return 2
    except APIError as error:
        told = error.body.get("message") if isinstance(error.body, dict) else None
        more = {name: getattr(error, name, None) for name in ("code", "param", "request_id")}
        _complain(given, str(told or error.message), **more)
        return 1


def _complain(given: argparse.Namespace, message: str, **more: Any) -> None:
    """The error on one line: of JSON on standard output for scripts, else for people."""
    if given.json:
        print(json.dumps({"error": {"message": message, **more}}))
        return
    code, request = more.get("code"), more.get("request_id")
    told = message + (f" [{code}]" if code else "") + (f" (request {request})" if request else "")
    _ERR.print(" ".join(told.split()), style="red", markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="video-gateway", description="Generate videos from a terminal.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], Any], help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text)
        made.add_argument("--api-base", help="the gateway (or VIDEO_GATEWAY_URL)")
        made.add_argument("--api-key", help="its key; better in VIDEO_GATEWAY_KEY, where no process list shows it")
        made.add_argument("--json", action="store_true", help="print JSON, for scripts")
        made.set_defaults(run=run)
        return made

    _generating(command("generate", _generate, "Make a video and fetch it."))
    _remixing(command("remix", _remix, "Make a new video from a completed one."))
    command("status", _status, "Show a video.").add_argument("video")
    _getting(command("get", _get, "Wait for a video and fetch it."))
    _listing(command("list", _list, "List videos, newest first."))
    command("delete", _delete, "Delete a video, or cancel one that waits.").add_argument("video")
    command("models", _models, "List the models that the key may use.")
    command("keys", _keys, "List the gateway's keys (with the operator's key).")
    return parser


def _generating(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt")
    parser.add_argument("--model")
    parser.add_argument("--seconds")
    parser.add_argument("--size", help="like 1280x720")
    parser.add_argument("--reference", type=Path, help="an image to begin with")
    _fetching(parser)


def _remixing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video")
    parser.add_argument("prompt")
    parser.add_argument("--seconds")
    parser.add_argument("--reference", type=Path)
    _fetching(parser)


def _getting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video")
    parser.add_argument("-o", "--out", type=Path, help="the file (default: <id>.mp4)")
    parser.add_argument("--variant", choices=["thumbnail", "spritesheet"], help="instead of the video")


def _listing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--after", help="the last id of the page before")


def _fetching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, help="the file (default: <id>.mp4)")
    parser.add_argument("--no-wait", action="store_true", help="start it, print its id, and end")


def _place(given: argparse.Namespace) -> dict[str, Any]:
    named = {"api_base": given.api_base, "api_key": given.api_key}
    return {name: value for name, value in named.items() if value}


def _generate(given: argparse.Namespace) -> int:
    with ExitStack() as opened:
        image = opened.enter_context(given.reference.open("rb")) if given.reference else None
        video = functions.video_generation(
            given.prompt,
            model=given.model,
            seconds=given.seconds,
            size=given.size,
            input_reference=image,
            **_place(given),
        )
    return _fetch_unless(given, video)


def _remix(given: argparse.Namespace) -> int:
    video = functions.video_remix(
        given.video, given.prompt, seconds=given.seconds, input_reference=given.reference, **_place(given)
    )
    return _fetch_unless(given, video)


def _fetch_unless(given: argparse.Namespace, video: VideoObject) -> int:
    if not given.no_wait:
        return _fetch(given, video)
    _show(given, video.json(), video.id)
    return 0


def _get(given: argparse.Namespace) -> int:
    return _fetch(given, functions.video_status(given.video, **_place(given)), given.variant)


def _fetch(given: argparse.Namespace, created: VideoObject, variant: str | None = None) -> int:
    """Wait for the end, with a progress bar; then save. Ctrl-C leaves the job running."""
    video = created
    try:
        with _progress(quiet=given.json) as show:
            video = functions.video_wait(video.id, show, **_place(given))
    except KeyboardInterrupt:
        _ERR.print(f"It goes on. Fetch it with: video-gateway get {video.id}", highlight=False, soft_wrap=True)
        raise
    if video.status != "completed":
        error = video.error
        _complain(given, f"{video.id} {video.status}: {error.message if error else '?'}", code=error.code if error else None)
        return 1
    file = given.out or Path(f"{video.id}{_ENDINGS.get(variant or '', '.mp4')}")
    functions.video_content(video.id, variant=variant, file=file, **_place(given))
    cost = video._hidden_params["response_cost"] or created._hidden_params["response_cost"]
    _show(given, {**video.json(), "cost": cost, "file": str(file)}, f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


_ENDINGS = {"thumbnail": ".webp", "spritesheet": ".jpg"}


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[VideoObject], None]]:
    """Shows a video at every look, its place in the queue and then its progress: as a bar on a
    terminal, elsewhere as a line for each change, unless it is to be `quiet` there.
    """
    if not _ERR.is_terminal:
        yield _quiet if quiet else _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=_ERR, transient=True) as progress:
        task = progress.add_task("queued", total=100)

        def show(video: VideoObject) -> None:
            progress.update(task, description=_where(video), completed=video.progress or 0, refresh=True)

        yield show


def _quiet(_: VideoObject) -> None:
    """Show nothing."""


def _lines() -> Callable[[VideoObject], None]:
    told: list[str] = []

    def show(video: VideoObject) -> None:
        line = f"{_where(video)} {video.progress or 0} %"
        if told[-1:] != [line]:
            told.append(line)
            _ERR.print(line, highlight=False)

    return show


def _where(video: VideoObject) -> str:
    queue = (video.model_extra or {}).get("queue")
    place = queue.get("position") if isinstance(queue, dict) else None
    return f"queued, number {place}" if video.status == "queued" and place else video.status.replace("_", " ")


def _status(given: argparse.Namespace) -> None:
    video = functions.video_status(given.video, **_place(given))
    _show(given, video.json(), f"{video.id}  {_where(video)}  {video.progress or 0} %")


def _delete(given: argparse.Namespace) -> None:
    deleted = functions.video_delete(given.video, **_place(given))
    _show(given, deleted, f"{given.video} deleted")


def _list(given: argparse.Namespace) -> None:
    page = functions.video_list(limit=given.limit, after=given.after, **_place(given))
    rows = [(each.id, _where(each), str(each.model), f"{each.seconds} s", str(each.size)) for each in page["data"]]
    plain = {**page, "data": [each.json() for each in page["data"]]}
    _table(given, plain, ("id", "status", "model", "length", "size"), rows)


def _models(given: argparse.Namespace) -> None:
    place = find_place(**_place(given))
    with translated():
        models = [each.to_dict() for each in client_of(place).models.list().data]
    _table(given, models, ("model",), [(str(each["id"]),) for each in models])


def _keys(given: argparse.Namespace) -> None:
    place = find_place(**_place(given))
    with translated():
        answer: Any = client_of(place).with_options(base_url=place.root).get("/key/list", cast_to=object)
    keys = answer["keys"] if isinstance(answer, dict) else answer
    columns = ("key", "key_alias", "spend", "max_budget", "blocked")
    rows = [
        tuple(str(each.get(name, "")) for name in columns) if isinstance(each, dict) else (each, "", "", "", "")
        for each in keys
    ]
    _table(given, answer, columns, rows)


def _show(given: argparse.Namespace, data: Any, line: str) -> None:
    if given.json:
        print(json.dumps(data))
    else:
        _OUT.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(given: argparse.Namespace, data: Any, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if given.json:
        print(json.dumps(data))
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    _OUT.print(table)
