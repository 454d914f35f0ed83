"""What infra/main.bicepparam may choose, and who may deploy it: refused before anything is made."""

from pathlib import Path

import pytest

from infra.tools import choices, deploy
from infra.tools.azure import Stop
from tests.fakes.azure_cli import Chosen, Cli, Refusal, providers
from tests.project.bicep import PROJECT


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def complaint(cli: Cli) -> str:
    """What the checks say."""
    with pytest.raises(Stop) as reason:
        choices.check(cli.azure, choices.read(cli.azure))
    return str(reason.value)


@pytest.mark.parametrize("name", ["Video", "vidéo", "a", "a_b", "seventeen-letters", "-ab", "ab-", "ab\n"])
def test_a_name_that_azure_would_refuse_later_is_refused_at_once(name: str) -> None:
    """Names of vaults, accounts and hosts are made of it."""
    assert "2 to 16 lower-case" in complaint(Cli(environment={"AZURE_ENV_NAME": name}))


@pytest.mark.parametrize("name", ["ab", "video-gateway", "sixteen-letters1"])
def test_a_good_name_is_taken(name: str) -> None:
    """And the choices as they stand."""
    cli = Cli(environment={"AZURE_ENV_NAME": name})
    choices.check(cli.azure, choices.read(cli.azure))


def test_a_private_network_needs_delivery_by_the_app(tmp_path: Path) -> None:
    """In the configuration that is deployed."""
    (config := tmp_path / "redirect.yaml").write_text("gateway:\n  delivery: redirect\n")
    assert "delivery: proxy" in complaint(Cli(Chosen(network="backend", config=str(config))))


def test_the_configuration_must_be_there() -> None:
    """The app would start with none."""
    assert "config.prod.yaml, which does not exist" in complaint(Cli(Chosen(config="config.prod.yaml")))


def test_a_region_must_offer_the_plan() -> None:
    """Not every one does."""
    assert "not offered in westus9" in complaint(Cli(Chosen(location="westus9")))
    # And fewer of them across zones.
    across = Cli(
        Chosen(resilience="zone"), {"functionapp list-flexconsumption-locations --zone-redundant": [{"name": "westus3"}]}
    )
    assert "across zones is not offered in eastus2" in complaint(across)


def test_a_master_key_by_another_name_is_refused() -> None:
    """The scripts would set one secret, and the app refer to another."""
    assert "gateway-master-key" in complaint(Cli(Chosen(master="my-master-key")))


@pytest.mark.parametrize(
    ("chosen", "registered", "missing"),
    [
        (Chosen(network="backend", config="proxy.yaml"), ("Microsoft.Network",), "Microsoft.App"),
        (Chosen(backend="scheduler"), (), "Microsoft.DurableTask"),
        (Chosen(topics=True), (), "Microsoft.EventGrid"),
    ],
)
def test_the_subscription_must_know_what_is_needed(
    tmp_path: Path, chosen: Chosen, registered: tuple[str, ...], missing: str
) -> None:
    """Microsoft.App makes no resource here, so that Azure would not register it by itself."""
    if chosen.config:
        config = tmp_path / chosen.config
        config.write_text("gateway:\n  delivery: proxy\n")
        chosen.config = str(config)
    said = complaint(Cli(chosen, {"provider list": providers(*registered)}))
    assert f"az provider register --namespace {missing} --wait" in said
    assert said.count("az provider register") == 1


@pytest.mark.parametrize("command", ["functionapp list-flexconsumption-locations", "provider list"])
def test_rights_on_a_group_are_enough(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What takes rights on the subscription is not checked then; any other failure is one."""
    refused = Cli(Chosen(location="westus9"), {command: Refusal("(AuthorizationFailed) The client has no authorization")})
    if command == "provider list":
        refused.chosen.location = "eastus2"
    choices.check(refused.azure, choices.read(refused.azure))
    assert f"Not checked, because it takes rights on the subscription: az {command}\n" in capsys.readouterr().out
    assert "no route" in complaint(Cli(answers={command: Refusal("no route to host")}))


def test_name_and_region_are_those_of_the_parameter_file() -> None:
    """Edited there, as it says, without any variable."""
    cli = Cli(Chosen(name="films", location="swedencentral"))
    assert deploy.main(["--what-if"], cli.azure) == 0
    assert cli.calls[-1].startswith("deployment sub what-if --location swedencentral ")


def test_variables_go_before_the_parameter_file() -> None:
    """Where they are set."""
    cli = Cli(environment={"AZURE_ENV_NAME": "films", "AZURE_LOCATION": "swedencentral"})
    found = choices.read(cli.azure)
    assert (found.name, found.location) == ("films", "swedencentral")


@pytest.mark.parametrize(
    ("kind", "environment", "told"),
    [
        ("user", {}, {"AZURE_PRINCIPAL_ID": "1-2-3"}),
        ("user", {"AZURE_PRINCIPAL_ID": "4-5-6"}, {"AZURE_PRINCIPAL_ID": "4-5-6"}),
        (
            "servicePrincipal",
            {"AZURE_PRINCIPAL_ID": "4-5-6"},
            {"AZURE_PRINCIPAL_ID": "4-5-6", "AZURE_PRINCIPAL_TYPE": "ServicePrincipal"},
        ),
    ],
)
def test_the_parameter_file_is_told_who_deploys(kind: str, environment: dict[str, str], told: dict[str, str]) -> None:
    """So that they may set secrets; a service principal's role must not call it a user."""
    account = {"name": "Subscription", "user": {"name": "ada", "type": kind}}
    cli = Cli(answers={"account show": account}, environment=environment)
    assert choices.signed_in(cli.azure).environment == told


@pytest.mark.parametrize(
    ("answers", "hint"),
    [
        ({"account show": {"name": "S", "user": {"name": "app", "type": "servicePrincipal"}}}, "set AZURE_PRINCIPAL_ID"),
        ({"account show": Refusal("Please run 'az login'")}, "Sign in first: az login"),
        ({"version": {"azure-cli": "2.75.0"}}, "az upgrade"),
        ({"version": {"azure-cli": "2.9.1"}}, "az upgrade"),
    ],
)
def test_who_cannot_deploy_is_told_what_to_do(answers: dict[str, object], hint: str) -> None:
    """Instead of an option that an old CLI does not know, or a role for nobody."""
    with pytest.raises(Stop, match=hint):
        choices.signed_in(Cli(answers=answers).azure)


@pytest.mark.parametrize("version", ["2.76.0", "3.0.0"])
def test_a_cli_that_is_new_enough_is_taken(version: str) -> None:
    """3.0 is newer than 2.76."""
    choices.signed_in(Cli(answers={"version": {"azure-cli": version}}).azure)
