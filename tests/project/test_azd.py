"""azd's way into Azure: azure.yaml, and what its hooks do."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.tools import azd, smoke
from tests.fakes.azure_cli import Chosen, Cli, Refusal, deleted_account, vault_of
from tests.project.bicep import PROJECT, resources

DESCRIBED: dict[str, Any] = yaml.safe_load((PROJECT / "azure.yaml").read_text())
(SERVICE,) = DESCRIBED["services"]
HOOKS = {**DESCRIBED["hooks"], **DESCRIBED["services"][SERVICE]["hooks"]}
DEPLOYED = {
    "AZURE_RESOURCE_GROUP": "rg",
    "GATEWAY_APP": "func",
    "GATEWAY_VAULT": "kv",
    "GATEWAY_URL": "https://gateway",
}


class Azd:
    """In place of azd: notes what it is told, and has a token with these claims."""

    def __init__(self, **claims: str) -> None:
        self.told: list[tuple[str, ...]] = []
        self._part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    def __call__(self, *words: str) -> str:
        self.told.append(words)
        return json.dumps({"token": f"e30.{self._part}.x"}) if words[:2] == ("auth", "token") else ""


def run(hook: str, cli: Cli, told: Azd | None = None) -> int:
    return azd.main([hook], cli.azure, told or Azd(idtyp="user"))


def test_azd_finds_the_site_and_the_package() -> None:
    """The service is called what the site's tag says; azd zips what the hook lays out."""
    (site,) = resources("Microsoft.Web/sites")
    assert f"'azd-service-name': '{SERVICE}'" in site.body
    assert DESCRIBED["services"][SERVICE]["dist"] == azd.LAID_OUT.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_the_same_program_in_every_shell(name: str) -> None:
    """With sh, and with PowerShell, which has to be told to end as the program did."""
    assert HOOKS[name]["posix"] == {"shell": "sh", "run": f"python3 -m infra.tools.azd {name}"}
    assert HOOKS[name]["windows"] == {"shell": "pwsh", "run": f"python -m infra.tools.azd {name}; exit $LASTEXITCODE"}


def test_a_hook_runs_as_azd_runs_it(tmp_path: Path) -> None:
    """By the shell, in the project's folder; without az it says so and ends with an error."""
    (tmp_path / "python3").symlink_to(PROJECT / ".venv" / "bin" / "python")
    environment = {"PATH": str(tmp_path), **DEPLOYED}
    command = ["/bin/sh", "-c", HOOKS["postdeploy"]["posix"]["run"]]
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "The Azure CLI is not installed: https://aka.ms/azure-cli\n"


@pytest.mark.parametrize(
    ("claims", "principal"), [({"idtyp": "app"}, "ServicePrincipal"), ({"idtyp": "user"}, "User"), ({}, "User")]
)
def test_a_service_principal_is_not_declared_a_user(claims: dict[str, str], principal: str) -> None:
    """azd is told before it reads main.bicepparam, by its own token."""
    told = Azd(**claims)
    assert run("preprovision", Cli(), told) == 0
    assert told.told[-1] == ("env", "set", "AZURE_PRINCIPAL_TYPE", principal)


def test_azd_signs_in_to_the_vault_while_it_can() -> None:
    """Making the resources may take longer than a pipeline's own token is good for."""
    cli = Cli()
    assert run("preprovision", cli) == 0
    assert len(cli.asked("account get-access-token --resource https://vault.azure.net")) == 1


@pytest.mark.parametrize(
    ("cli", "hint"),
    [
        (Cli(Chosen(name="Video")), "2 to 16"),
        (Cli(Chosen(master="my-key")), "gateway-master-key"),
        (Cli(Chosen(network="private")), "infra/deploy"),
        (Cli(environment={"AZURE_SUBSCRIPTION_ID": "sub-2"}), "az account set --subscription sub-2"),
    ],
)
def test_azd_stops_before_anything_is_made(cli: Cli, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what infra/deploy would say; and it and az must mean the same subscription."""
    assert run("preprovision", cli) == 1
    assert hint in capsys.readouterr().err


def test_azd_is_told_of_deleted_accounts_and_brings_the_vault_back(capsys: pytest.CaptureFixture[str]) -> None:
    """A hook has nobody to ask, and names both commands."""
    account = deleted_account("oai-video-gateway-abcdefghijklm")
    assert run("preprovision", Cli(answers={"cognitiveservices account list-deleted": [account]})) == 1
    said = capsys.readouterr().err
    for choice in ("restore", "purge"):
        assert f"python3 -m infra.tools.deleted {choice} video-gateway rg-video-gateway eastus2" in said
    tags = {"azd-env-name": "video-gateway"}
    gone = {"name": "kv-old", "properties": {"location": "westus", "tags": tags, "vaultId": vault_of()[0]["id"]}}
    cli = Cli(answers={"keyvault list-deleted": [gone]})
    assert run("preprovision", cli) == 0
    assert len(cli.asked("keyvault recover --name kv-old")) == 1
    assert Cli(answers={"keyvault list -o": vault_of()}).asked("keyvault list-deleted") == []


def test_azd_makes_the_master_key() -> None:
    """In the vault that it was told of."""
    cli = Cli(environment=DEPLOYED)
    assert run("postprovision", cli) == 0
    assert len(cli.asked("keyvault secret set --vault-name kv --name gateway-master-key")) == 1


def test_azd_packages_what_the_script_sends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The lock and not requirements.txt is what is built."""
    monkeypatch.setattr(azd, "LAID_OUT", tmp_path / "azd")
    assert run("prepackage", Cli(Chosen(backend="scheduler"))) == 0
    assert (tmp_path / "azd" / "requirements.txt").read_bytes() == (PROJECT / "requirements.lock").read_bytes()
    assert "azureManaged" in (tmp_path / "azd" / "host.json").read_text()


def test_azd_has_the_app_look_for_its_key_again_and_tests_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told of the key before there was one. A key that cannot be read is not taken for a
    gateway without one, of which only the health would be tested.
    """
    tested = []
    monkeypatch.setattr(smoke, "check", lambda client, *, video: tested.append((client.url, client.key, video)))
    cli = Cli(environment=DEPLOYED)
    assert run("postdeploy", cli) == 0
    order = cli.order(("functionapp show -g rg -n func", "rest --method post", "functionapp restart", "keyvault secret show"))
    assert order == sorted(order)
    assert tested == [("https://gateway", "sk-master", True)]
    assert run("postdeploy", Cli(answers={"keyvault secret show": Refusal("no")}, environment=DEPLOYED)) == 1
    assert len(tested) == 1
