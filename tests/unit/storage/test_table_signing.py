"""The token of the app's identity, as requests to tables have it. (Azurite judges the account's
key in every other test.)
"""

import asyncio
from typing import Any, NamedTuple

import pytest
from azure.core.exceptions import ClientAuthenticationError

from shared.errors import StorageUnavailable
from shared.storage.table_signing import BearerToken
from tests.fakes.loop import JumpingLoop

pytestmark = pytest.mark.anyio


class Token(NamedTuple):
    token: str
    expires_on: int


class Identity:
    """Gives tokens of an hour, one after the other. It is its own clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.is_down = False
        self.takes = 0.0  # seconds

    async def get_token(self, scope: str) -> Token:
        self.asked.append(scope)
        await asyncio.sleep(self.takes)
        if self.is_down:
            raise ClientAuthenticationError
        return Token(f"t{len(self.asked)}", int(self.now) + 3600)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def token(identity: Identity) -> BearerToken:
    return BearerToken(lambda: identity, lambda: identity.now)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Coroutine tests run on a loop whose time passes at once."""
    return "asyncio", {"loop_factory": JumpingLoop}


async def test_a_token_is_fetched_once_for_all_and_again_before_its_end(identity: Identity, token: BearerToken) -> None:
    """Nobody waits for the second one: the first is good meanwhile."""
    assert await asyncio.gather(*(token.authorization() for _ in range(5))) == ["Bearer t1"] * 5
    identity.now += 3299
    assert await token.authorization() == "Bearer t1"
    identity.now += 1
    assert await asyncio.gather(*(token.authorization() for _ in range(5))) == ["Bearer t1"] * 5
    await asyncio.sleep(1)
    assert await token.authorization() == "Bearer t2"
    assert identity.asked == ["https://storage.azure.com/.default"] * 2


async def test_a_caller_that_goes_away_takes_no_token_from_the_others(identity: Identity, token: BearerToken) -> None:
    first, second = (asyncio.create_task(token.authorization()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "Bearer t1"
    assert len(identity.asked) == 1


async def test_a_token_is_used_to_its_end_while_there_is_no_new_one(identity: Identity, token: BearerToken) -> None:
    """The identity is asked again only twice a minute meanwhile."""
    await token.authorization()
    identity.is_down = True
    identity.now += 3300
    for _ in range(3):
        assert await token.authorization() == "Bearer t1"
        await asyncio.sleep(1)
    assert len(identity.asked) == 2
    identity.now += 299
    assert await token.authorization() == "Bearer t1"
    await asyncio.sleep(1)
    identity.now += 30
    with pytest.raises(StorageUnavailable):
        await token.authorization()
    identity.is_down = False
    assert await token.authorization() == "Bearer t5"


async def test_an_identity_that_hangs_is_given_up(identity: Identity, token: BearerToken) -> None:
    """It keeps nobody waiting while the old token is good, and half a minute after."""
    await token.authorization()
    identity.takes = 1e6
    identity.now += 3300
    assert await token.authorization() == "Bearer t1"
    await asyncio.sleep(60)
    identity.now += 300
    before = asyncio.get_running_loop().time()
    with pytest.raises(StorageUnavailable):
        await token.authorization()
    assert asyncio.get_running_loop().time() - before == 30


async def test_without_any_token_storage_is_unavailable(identity: Identity, token: BearerToken) -> None:
    """To all who wait at once: not one after the other."""
    identity.is_down = True
    refused = await asyncio.gather(*(token.authorization() for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in refused] == [StorageUnavailable] * 5
    assert len(identity.asked) == 1
