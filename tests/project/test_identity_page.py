"""docs/identity.md: its configuration is read as it stands, and it has every key."""

import re
from pathlib import Path

import pytest

from shared.callers.mappings import Match, _Entry, read_grants
from shared.clock import SystemClock
from shared.config.entra import Entra
from shared.config.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
(CONFIGURATION,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_its_configuration_is_read(tmp_path: Path) -> None:
    """With an entry of every kind."""
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    told = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com",
        "GATEWAY_CONFIG": str(tmp_path / "config.yaml"),
    }
    given = load(told)
    assert given.entra is not None
    assert given.entra.host == "https://login.microsoftonline.com"
    grants = read_grants(given.entra, given.catalog, SystemClock().now())
    assert [(each.admin, each.shared) for each in grants] == [(True, False), (False, False), (False, False), (False, True)]
    assert grants[1].settings["max_budget"] == 20_000_000


@pytest.mark.parametrize(
    ("cloud", "host", "older"),
    [
        ("public", "https://login.microsoftonline.com", "https://sts.windows.net"),
        ("government", "https://login.microsoftonline.us", "https://sts.windows.net"),
        ("china", "https://login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn"),
    ],
)
def test_a_cloud_decides_which_hosts_are_asked_and_believed(cloud: str, host: str, older: str) -> None:
    """The issuers are those of both versions of tokens."""
    entra = Entra("AAAAAAAA-2222-3333-4444-555555555555", "api://x", [], cloud=cloud)  # type: ignore[arg-type]
    tenant = "aaaaaaaa-2222-3333-4444-555555555555"
    assert (entra.host, entra.issuers) == (host, [f"{host}/{tenant}/v2.0", f"{older}/{tenant}/"])


def test_the_page_has_every_key() -> None:
    """Of the section, and of an entry."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    entry = {name for name in _Entry.__struct_fields__ if name != "match"}
    assert told >= {*Entra.__struct_fields__, *entry, *(f"match.{name}" for name in Match.__struct_fields__)}
