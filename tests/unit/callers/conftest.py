"""A world in which callers may send tokens of an issuer on this machine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from shared.callers import signing_keys
from shared.config.entra import Entra
from tests.fakes.issuer import AUDIENCE, TENANT, Issuer, issuing
from tests.fakes.world import World
from tests.fakes.world import world as open_world

ANYBODY: list[dict[str, Any]] = [{"match": {"app_id": "aaaaaaaa-0000-0000-0000-000000000001"}, "max_budget": 10}]


@pytest.fixture(scope="session")
def listening() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def issuer(listening: Issuer) -> Issuer:
    """The issuer as it is at first."""
    fresh = Issuer(listening.url)
    listening.__dict__.update(fresh.__dict__)
    return listening


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is decides nothing."""
    monkeypatch.setattr(signing_keys, "_PATIENCE", 60.0)


def entra_of(issuer: Issuer, accounts: list[dict[str, Any]] | None = None, **changed: Any) -> Entra:
    """The section, as config.yaml would have it."""
    told = {"tenant": TENANT, "audience": AUDIENCE, "authority": issuer.url, "accounts": accounts or ANYBODY, **changed}
    return msgspec.convert(told, Entra)


@pytest.fixture
async def world(azurite: str, issuer: Issuer, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """`@pytest.mark.entra(accounts=[…])` sets options of the section."""
    options: dict[str, Any] = {}
    for mark in request.node.iter_markers("entra"):
        options = {**mark.kwargs, **options}
    real = request.config.getoption("--real-tables")
    async with open_world(azurite, entra=entra_of(issuer, **options), real_tables=real) as opened:
        issuer.now = opened.clock.now
        yield opened
