"""`python -m infra.tools.package [FILE]`: the zip that is deployed, made of what `.funcignore`
leaves. Needs nothing but Python.

The same files give the same bytes, whoever builds them and when. Two are changed on their way:
requirements.txt becomes its own lock, so that a deployment installs what was tested; and with
`--durable scheduler` host.json names Durable Task Scheduler. That has to stand in the file, because
what wakes an app without instances (the scale controller, told by the host's FunctionsSyncManager)
knows the file and no override of it from app settings.
"""

import argparse
import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from infra.tools.azure import Stop, ended

CHECKOUT = Path(__file__).parents[2]
# What an app consists of. Anything else that .funcignore leaves is somebody's forgotten file, and
# perhaps a secret.
APP = ("function_app.py", "host.json", "requirements.txt", "config*.yaml", "shared")
_PAGE = "shared/static/"  # what /studio serves, built and compared with its source before
_LOCK = "requirements.lock"
_SCHEDULER = {"type": "azureManaged", "connectionStringName": "DURABLE_TASK_SCHEDULER_CONNECTION_STRING"}
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # zip knows no earlier time


class PackageError(Stop):
    """What keeps the package from being built; the message says what to change."""


@dataclass(frozen=True)
class Package:
    """A package that was built: where, of which files, and a digest that tells two of them
    apart.
    """

    path: Path
    files: tuple[str, ...]
    sha256: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the package and say what is in it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.tools.package", description="Build the zip that is deployed.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("dist/app.zip"))
    parser.add_argument("--durable", choices=("storage", "scheduler"), default="storage", help="what keeps orchestrations")
    given = parser.parse_args(arguments)
    return ended(lambda: _build(given.file, scheduler=given.durable == "scheduler"))


def _build(target: Path, *, scheduler: bool) -> None:
    package = build(CHECKOUT, target, scheduler=scheduler)
    print(f"{package.path}: {len(package.files)} files, {package.size / 1024:.0f} KiB, sha256 {package.sha256[:16]}")


def build(root: Path, target: Path, *, scheduler: bool = False) -> Package:
    """Write the package of the app in `root`. Raises PackageError."""
    files = _files(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, _content(root, name, scheduler=scheduler))
    return Package(target, tuple(files), hashlib.sha256(target.read_bytes()).hexdigest())


def lay_out(root: Path, folder: Path, *, scheduler: bool = False) -> None:
    """The same files in a folder, in place of whatever is there, for azd, which makes its own zip
    of it. Raises PackageError.
    """
    files = _files(root)
    shutil.rmtree(folder, ignore_errors=True)
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_content(root, name, scheduler=scheduler))


def _files(root: Path) -> list[str]:
    files = sorted(chosen(root))
    surplus = sorted({name.partition("/")[0] for name in files if not _belongs(name)})
    if surplus:
        raise PackageError(f"Not part of the app, and not in .funcignore either: {', '.join(surplus)}")
    return files


def _content(root: Path, name: str, *, scheduler: bool) -> bytes:
    if name == "requirements.txt":
        if not (root / _LOCK).exists():
            raise PackageError(f"There is no {_LOCK}: make lock")
        return (root / _LOCK).read_bytes()
    if name == "host.json" and scheduler:
        host = json.loads((root / name).read_text("utf-8"))
        host["extensions"]["durableTask"]["storageProvider"] = _SCHEDULER
        return json.dumps(host, indent=2).encode() + b"\n"
    return (root / name).read_bytes()


def chosen(root: Path) -> Iterator[str]:
    """The files below `root` that `.funcignore` leaves, as paths with slashes. Raises
    PackageError.
    """
    patterns = _patterns(root / ".funcignore")
    folders = [root]
    while folders:
        for path in folders.pop().iterdir():
            if _ignored(path, patterns):
                continue
            if path.is_dir():
                folders.append(path)
            elif path.name != ".funcignore":
                yield path.relative_to(root).as_posix()


def _patterns(path: Path) -> list[str]:
    patterns = [line.strip() for line in path.read_text("utf-8").splitlines()]
    patterns = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    for pattern in patterns:
        if "/" in pattern.rstrip("/"):
            raise PackageError(f".funcignore: {pattern} has a slash in it, which this does not understand; use names only.")
    return patterns


def _ignored(path: Path, patterns: Sequence[str]) -> bool:
    """As in .gitignore: the last pattern that fits decides; one that ends in a slash fits folders
    only.
    """
    ignored = False
    for pattern in patterns:
        name = pattern.removeprefix("!")
        if fnmatch(path.name, name.rstrip("/")) and (path.is_dir() or not name.endswith("/")):
            ignored = not pattern.startswith("!")
    return ignored


def _belongs(name: str) -> bool:
    top, _, below = name.partition("/")
    code = not below or name.endswith(".py") or name.startswith(_PAGE)
    return any(fnmatch(top, part) for part in APP) and code


if __name__ == "__main__":
    sys.exit(main())
