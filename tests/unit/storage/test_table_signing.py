"""The token of the app's identity, as requests to tables have it. (Azurite judges the account's
key in every other test.)
"""

import asyncio
from typing import NamedTuple

import pytest
from azure.core.exceptions import ClientAuthenticationError

from shared.errors import StorageUnavailable
from shared.storage.table_signing import BearerToken

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

    async def get_token(self, scope: str) -> Token:
        self.asked.append(scope)
        await asyncio.sleep(0)
        if self.is_down:
            raise ClientAuthenticationError
        return Token(f"t{len(self.asked)}", int(self.now) + 3600)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def token(identity: Identity) -> BearerToken:
    return BearerToken(lambda: identity, lambda: identity.now)


async def test_a_token_is_fetched_once_for_all_and_again_before_its_end(identity: Identity, token: BearerToken) -> None:
    assert await asyncio.gather(*(token.authorization() for _ in range(5))) == ["Bearer t1"] * 5
    identity.now += 3299
    assert await token.authorization() == "Bearer t1"
    identity.now += 1
    assert await asyncio.gather(*(token.authorization() for _ in range(5))) == ["Bearer t2"] * 5
    assert identity.asked == ["https://storage.azure.com/.default"] * 2


async def test_a_token_is_used_to_its_end_while_there_is_no_new_one(identity: Identity, token: BearerToken) -> None:
    """The identity is asked again only twice a minute meanwhile."""
    await token.authorization()
    identity.is_down = True
    identity.now += 3300
    for _ in range(3):
        assert await token.authorization() == "Bearer t1"
    assert len(identity.asked) == 2
    identity.now += 299
    assert await token.authorization() == "Bearer t1"
    identity.now += 30
    with pytest.raises(StorageUnavailable):
        await token.authorization()
    identity.is_down = False
    assert await token.authorization() == "Bearer t5"


async def test_without_any_token_storage_is_unavailable(identity: Identity, token: BearerToken) -> None:
    identity.is_down = True
    with pytest.raises(StorageUnavailable, match="identity"):
        await token.authorization()
