"""Who gets what: the entries of `entra.accounts`, and what of them is refused."""

from typing import Any

import msgspec
import pytest

from shared.callers.mappings import first_that_fits, read_grants
from shared.callers.tokens import Identity
from shared.config.entra import Entra
from shared.errors import ConfigurationError
from tests.fakes.clock import SkippingClock
from tests.fakes.issuer import APP, AUDIENCE, GROUP, PERSON, TENANT
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

SOMEBODY = Identity(
    app_id=APP,
    object_id=PERSON,
    person=True,
    groups=frozenset({GROUP}),
    roles=frozenset({"Video.Maker"}),
    more_groups=False,
    expires=SkippingClock().now(),
)


def grants(world: World, *accounts: dict[str, Any]) -> Any:
    entra = msgspec.convert({"tenant": TENANT, "audience": AUDIENCE, "accounts": accounts}, Entra)
    return read_grants(entra, world.gateway.settings.catalog, world.clock.now())


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"app_id": APP}, True),
        ({"app_id": APP.upper()}, True),
        ({"app_id": PERSON}, False),
        ({"object_id": PERSON}, True),
        ({"group": GROUP}, True),
        ({"group": ["cccccccc-0000-0000-0000-000000000009", GROUP.upper()]}, True),
        ({"role": "Video.Maker"}, True),
        ({"role": "video.maker"}, False),
        ({"role": ["Other"]}, False),
        ({"role": "Video.Maker", "app_id": APP}, True),
        ({"role": "Video.Maker", "app_id": PERSON}, False),
    ],
)
async def test_everything_that_an_entry_names_has_to_fit(world: World, match: dict[str, Any], fits: bool) -> None:
    """Of a list, one; of ids, in any case."""
    assert (first_that_fits(grants(world, {"match": match}), SOMEBODY) is not None) == fits


async def test_the_first_entry_that_fits_decides(world: World) -> None:
    """However many more would."""
    given = grants(world, {"match": {"role": "Video.Maker"}, "max_budget": 1}, {"match": {"group": GROUP}, "max_budget": 2})
    found = first_that_fits(given, SOMEBODY)
    assert found is not None
    assert found.settings["max_budget"] == 1_000_000


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({}, "`match`"),
        ({"match": {}}, "must name"),
        ({"match": {"role": ""}}, "length"),
        ({"match": {"role": []}}, "length"),
        ({"match": {"rôle": "x"}}, "unknown field"),
        ({"match": {"role": "x"}, "admin": "yes"}, "admin"),
        ({"match": {"role": "x"}, "admin": True, "max_budget": 1}, "leave the rest out"),
        ({"match": {"role": "x"}, "max_bugdet": 1}, "max_budget"),
        ({"match": {"role": "x"}, "max_budget": -1}, "max_budget"),
        ({"match": {"role": "x"}, "models": ["nobody's"]}, "models"),
        ({"match": {"role": "x"}, "blocked": True}, "/key/block"),
        ({"match": {"role": "x"}, "duration": "1d"}, "duration"),
        ({"match": {"role": "x"}, "user_id": "me"}, "user_id"),
        ({"match": {"role": "x"}, "shared": True}, "key_alias"),
        ({"match": {"role": "x"}, "shared": True, "key_alias": None}, "key_alias"),
        ({"match": {"role": "x"}, "key_alias": "x"}, "key_alias"),
    ],
)
async def test_an_entry_that_is_wrong_is_named_at_the_start(world: World, entry: dict[str, Any], complaint: str) -> None:
    """With its number and what is wrong."""
    with pytest.raises(ConfigurationError, match=r"entra\.accounts\[1\]") as raised:
        grants(world, {"match": {"role": "y"}}, entry)
    assert complaint in raised.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "common"},
        {"tenant": "contoso.onmicrosoft.com"},
        {"audience": []},
        {"audience": ""},
        {"cloud": "germany"},
        {"authority": "https://evil.example"},
        {"authority": "http://127.0.0.1:80@evil.example:80"},
        {"authority": "http://127.0.0.1:80/"},
        {"leeway_seconds": 301},
        {"leeway_seconds": -1},
        {"client_id": "me"},
        {"issuer": "https://evil.example"},
    ],
)
def test_a_section_that_names_anything_else_is_refused(changed: dict[str, Any]) -> None:
    """One tenant by its id, one of Microsoft's clouds or this machine, and some audience."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tenant": TENANT, "audience": AUDIENCE, "accounts": [], **changed}, Entra)


async def test_two_entries_with_one_account_are_refused(world: World) -> None:
    """Its settings would be those of whoever came last."""
    with pytest.raises(ConfigurationError, match="make them one"):
        grants(world, *({"match": {"role": role}, "shared": True, "key_alias": "studio"} for role in "ab"))
