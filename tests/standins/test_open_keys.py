"""`--open`: any key is the operator's, for whoever is on this machine."""

import pytest

from local.open_keys import opened
from shared.config.settings import load
from shared.errors import PermissionDenied, Unauthenticated
from shared.gateway import build

pytestmark = pytest.mark.anyio


async def test_with_open_keys_any_key_is_the_operators_and_none_is_none() -> None:
    """A page that a browser has from elsewhere cannot use it under its own name."""
    settings = load({"AzureWebJobsStorage": "UseDevelopmentStorage=true", "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1"})
    keys = opened(build(settings)).keys
    anything = {"authorization": "Bearer anything"}
    assert (await keys.authenticate({**anything, "x-forwarded-host": "localhost:4000"})).master
    with pytest.raises(Unauthenticated):
        await keys.authenticate({"x-forwarded-host": "localhost:4000"})
    with pytest.raises(PermissionDenied):
        await keys.authenticate({**anything, "x-forwarded-host": "evil.example:4000"})
