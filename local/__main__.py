"""`python -m local`: the gateway on this machine. `run` serves it until Ctrl-C, `studio` its page
with videos to look at, `demo` makes one video with it, `audit` checks its counters, `export` and
`restore` copy its table of keys and videos away and back.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

try:
    import msgspec

    from local.auditing import AuditError, audit
    from local.azurite import AzuriteError
    from local.configure import USUAL
    from local.demo import Demo
    from local.restoring import RestoreError, export, restore
    from local.stack import Options, StackError, serve
    from local.studio import studio
    from shared.config.exports import Exports
    from shared.config.version import SERVER
    from shared.errors import ConfigurationError, StorageUnavailable
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] in ("local", "shared"):
        raise
    sys.exit(f"{missing.name} is not installed for {sys.executable}: use `make run`, `make demo` or `make audit`.")


@dataclass(frozen=True)
class Command:
    """What to run, and the exit code where a signal stops it."""

    run: Callable[[], Coroutine[Any, Any, None]]
    stopped: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, or 1 after an error message on stderr."""
    command = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        ended = asyncio.run(until_told_to_stop(command.run))
    except (StackError, AuditError, AzuriteError, RestoreError, ConfigurationError, StorageUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if ended else command.stopped


async def until_told_to_stop(run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run until it ends or a signal comes; returns whether it ended. The first Ctrl-C or SIGTERM
    stops it and everything it started; a second one kills the process.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(run())
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise
        return False
    return True


def parse(arguments: Sequence[str]) -> Command:
    """The command of these arguments. Exits with a usage message (code 2) where they are wrong."""
    given = list(arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "run")
    chosen = _parser().parse_args(given)
    if chosen.command == "from-litellm":
        return Command(partial(_from_litellm, chosen.file), stopped=130)
    if chosen.command == "audit":
        return Command(lambda: audit(chosen.data.resolve()), stopped=130)
    if chosen.command in ("export", "restore"):
        return _copying(chosen)
    quiet = chosen.command in ("demo", "studio") or chosen.quiet
    model = USUAL[chosen.upstream] if chosen.upstream else chosen.model
    options = Options(port=chosen.port, data=chosen.data, model=model, speed=chosen.speed, quiet=quiet)
    if chosen.command == "studio":
        return Command(lambda: studio(options), stopped=0)
    if chosen.command == "run":
        options = replace(options, open=chosen.open)
        return Command(lambda: serve(options), stopped=0)  # it is meant to be stopped
    demo = Demo(options, prompt=chosen.prompt, seconds=chosen.seconds, size=chosen.size, out=chosen.out)
    return Command(demo.run, stopped=130)  # a shell's code for an interrupted command: there is no video


def _copying(chosen: argparse.Namespace) -> Command:
    data, exports = chosen.data.resolve(), Exports(chosen.account, chosen.container)
    if chosen.command == "export":
        return Command(lambda: export(data, exports), stopped=130)
    return Command(lambda: restore(data, exports, chosen.name, beside_others=chosen.beside_others), stopped=130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="The gateway on this machine.")
    parser.add_argument("--version", action="version", version=SERVER)
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="serve until Ctrl-C (the default)")
    _add_stack_options(run, port=4000, data=Path(".local"))
    run.add_argument("--quiet", action="store_true", help="print no line for each request")
    run.add_argument("--open", action="store_true", help="take any key for the operator's")

    page = commands.add_parser("studio", help="serve the page at /studio, with a dozen videos made, until Ctrl-C")
    _add_stack_options(page, port=4000, data=Path(".local/studio"))

    film = commands.add_parser("demo", help="generate one video and save it")
    _add_stack_options(film, port=0, data=Path(".local"))
    film.add_argument("--prompt", default=Demo.prompt, help="what to show")
    film.add_argument("--seconds", default=Demo.seconds, help="length (default: %(default)s)")
    film.add_argument("--size", default=Demo.size, help="WIDTHxHEIGHT (default: the model's first)")
    film.add_argument("--out", type=Path, default=Demo.out, help="folder to save into (default: %(default)s)")

    check = commands.add_parser("audit", help="work every key's counters out again from its videos")
    check.add_argument(
        "--data", type=Path, default=Path(".local"), metavar="DIR", help="where data stays (default: %(default)s)"
    )

    away = commands.add_parser("export", help="copy the table of keys and videos into a file")
    _add_export_options(away)

    back = commands.add_parser("restore", help="bring the table of keys and videos back from a file")
    _add_export_options(back)
    back.add_argument("name", nargs="?", help="the file (default: the newest)")
    back.add_argument("--beside-others", action="store_true", help="also where the tables have other keys, which stay")

    brought = commands.add_parser("from-litellm", help="say what a LiteLLM configuration becomes here")
    brought.add_argument("file", type=Path, help="its config.yaml")
    return parser


async def _from_litellm(file: Path) -> None:
    from local.litellm_config import lines

    for line in lines(file):
        print(line)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", type=_account, default="own", help="blob endpoint of the files' account (default: own)")
    parser.add_argument("--container", default=Exports().container, help="where the files are (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, default=Path(".local"), metavar="DIR", help="where data stays (default: %(default)s)"
    )


def _add_stack_options(parser: argparse.ArgumentParser, *, port: int, data: Path) -> None:
    parser.add_argument("--port", type=_port, default=port, help=f"where to serve (default: {port or 'a free one'})")
    parser.add_argument("--data", type=Path, default=data, metavar="DIR", help="where data stays (default: %(default)s)")
    served = parser.add_mutually_exclusive_group()
    served.add_argument("--model", type=_model, help="serve this model alone, e.g. azure/sora-2 (default: config.yaml's)")
    served.add_argument("--upstream", choices=USUAL, help="serve one model of a simulated server of this kind")
    parser.add_argument(
        "--speed",
        type=_speed,
        default=10.0,
        metavar="N",
        help="how much faster than life simulated servers are (default: %(default)g)",
    )


def _account(text: str) -> str:
    try:
        return msgspec.convert({"account": text}, Exports).account
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r} is not `own` or https://NAME.blob.core.windows.net") from None


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535, 0 for a free one)")


def _model(text: str) -> str:
    provider, _, name = text.partition("/")
    if provider in USUAL and name:
        return text
    raise argparse.ArgumentTypeError(f"{text!r} does not begin with one of {', '.join(f'{each}/' for each in USUAL)}")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if 0 < speed < float("inf"):
        return speed
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


if __name__ == "__main__":
    sys.exit(main())
