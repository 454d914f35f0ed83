"""The studio's sign-in with Entra, in a real Chromium; `test_studio.py` beside this has the rest. A
module of its own, because the durable client serves one gateway at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.fakes.issuer import APP, AUDIENCE, TENANT, Issuer, issuing
from tests.fakes.stack import Served, serving, write_config
from tests.trials.outside.test_studio import in_a_browser, installed, play


@dataclass(frozen=True)
class Tenant:
    """A gateway whose people sign in with Entra, and who signs them in."""

    served: Served
    issuer: Issuer


@pytest.fixture(scope="module")
def tenant(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    folder = tmp_path_factory.mktemp("tenant")
    with issuing() as issuer:
        entra = {"tenant": TENANT, "audience": AUDIENCE, "authority": issuer.url, "client_id": APP}
        accounts = [{"match": {"app_id": APP}, "max_budget": 1}]
        path = write_config(folder / "own.yaml")
        path.write_text(path.read_text() + yaml.safe_dump({"general_settings": {"entra": {**entra, "accounts": accounts}}}))
        with serving(azurite, folder, environment={"GATEWAY_CONFIG": str(path)}) as served:
            yield Tenant(served, issuer)


@installed
@in_a_browser
def test_people_sign_in_with_entra(tenant: Tenant, tmp_path: Path) -> None:
    """By the tenant's own page, with a new code each time, which does not stay in the address."""
    play("signing_in_with_entra", tenant.served.url, tmp_path, "")
    assert tenant.issuer.asked.count("authorization_code") == 1
    assert "refresh_token" not in tenant.issuer.asked


@installed
@in_a_browser
def test_a_token_is_renewed_before_it_ends(tenant: Tenant, tmp_path: Path) -> None:
    """Without anybody who has to sign in again."""
    tenant.issuer.lifetime = 1
    play("a_token_is_renewed", tenant.served.url, tmp_path, "")
    assert "refresh_token" in tenant.issuer.asked


@installed
@in_a_browser
def test_signing_out_while_a_token_is_renewed_leaves_nothing(tenant: Tenant, tmp_path: Path) -> None:
    """Whoever comes to the tab next, with a key, would be the person before once it is due."""
    tenant.issuer.lifetime = 1
    play("signing_out_ends_a_renewal", tenant.served.url, tmp_path, "")
