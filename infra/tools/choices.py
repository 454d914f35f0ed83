"""What infra/main.bicepparam chooses, as the compiler reads it, and whether it can be deployed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.tools.azure import Azure, AzureError, Stop
from infra.tools.package import CHECKOUT
from infra.tools.vault import MASTER_KEY

PARAMETERS = "infra/main.bicepparam"
_OLDEST_CLI = (2, 76)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,14}[a-z0-9]")
# Azure registers by itself what a template makes, for people who may do that. Microsoft.App only
# gets the app's subnet.
PROVIDERS = ("Web", "Storage", "KeyVault", "ManagedIdentity", "OperationalInsights", "Insights", "CognitiveServices")
NETWORK_PROVIDERS = ("Network", "App")
SCHEDULER_PROVIDERS = ("DurableTask",)
EVENT_PROVIDERS = ("EventGrid",)


@dataclass(frozen=True)
class Choices:
    """The choices that these programs need. `secrets`: app setting → name of the vault's secret."""

    name: str
    location: str
    network: str
    durable: str
    resilience: str
    has_topics: bool
    secrets: Mapping[str, str]
    config: str

    @property
    def is_private(self) -> bool:
        return self.network != "public"


def signed_in(az: Azure) -> Azure:
    """The same CLI, with who deploys in its environment, for infra/main.bicepparam: whoever it is
    may set the vault's secrets. Raises Stop.
    """
    version = az.ask("version")["azure-cli"]
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_CLI:
        raise Stop(f"The Azure CLI is {version}; {'.'.join(map(str, _OLDEST_CLI))} or later is needed: az upgrade")
    try:
        account = az.ask("account show")
    except AzureError as error:
        raise Stop(f"{error}\nSign in first: az login") from error
    print(f"Subscription {account['name']}, as {account['user']['name']}")
    return replace(az, environment={**_principal(az, account["user"]["type"]), **az.environment})


def _principal(az: Azure, kind: str) -> dict[str, str]:
    if kind == "servicePrincipal":
        if "AZURE_PRINCIPAL_ID" not in az.environment:
            raise Stop(
                "A service principal is signed in, which cannot look itself up: set AZURE_PRINCIPAL_ID to its object id."
            )
        return {"AZURE_PRINCIPAL_TYPE": "ServicePrincipal"}
    if "AZURE_PRINCIPAL_ID" in az.environment:
        return {}
    return {"AZURE_PRINCIPAL_ID": az.ask("ad signed-in-user show")["id"]}


def read(az: Azure) -> Choices:
    """Have the file compiled. Raises AzureError."""
    compiled = az.ask("bicep build-params", "--file", PARAMETERS, "--stdout")
    chosen = {name: each["value"] for name, each in json.loads(compiled["parametersJson"])["parameters"].items()}
    return Choices(
        name=chosen["name"],
        location=chosen["location"],
        network=chosen["network"],
        durable=chosen["durable"]["backend"],
        resilience=chosen["resilience"],
        has_topics=chosen["finishedVideoEvents"] or chosen["pipelines"]["eventTopic"],
        secrets=chosen["settings"]["secrets"],
        config=chosen["settings"]["configFile"] or "config.yaml",
    )


def check(az: Azure, choices: Choices) -> None:
    """Raises Stop for what Azure would refuse, or the gateway could not work with, later."""
    _check_name(choices)
    _check_master_key(choices)
    _check_config(choices)
    _check_region(az, choices)
    _check_providers(az, choices)


def _check_name(choices: Choices) -> None:
    if not _NAME.fullmatch(choices.name):
        raise Stop(
            f"The gateway is called '{choices.name}'; it must be 2 to 16 lower-case letters, digits and hyphens, "
            "none of these at either end."
        )


def _check_master_key(choices: Choices) -> None:
    if choices.secrets.get("GATEWAY_MASTER_KEY") != MASTER_KEY:
        raise Stop(f"settings.secrets must name {MASTER_KEY} as GATEWAY_MASTER_KEY: the scripts set no other.")


def _check_config(choices: Choices) -> None:
    config = CHECKOUT / choices.config
    if not config.is_file():
        raise Stop(f"settings.configFile in {PARAMETERS} names {choices.config}, which does not exist.")
    text = config.read_text("utf-8")
    if choices.is_private and not re.search(r"(?m)^  delivery: proxy", text):
        raise Stop(
            f"With a private network clients cannot reach storage: set 'delivery: proxy' under 'gateway:' in {choices.config}."
        )


def _check_region(az: Azure, choices: Choices) -> None:
    command = "functionapp list-flexconsumption-locations"
    options = ["--zone-redundant"] if choices.resilience == "zone" else []
    offered = _looked_up(az, command, *options)
    if offered is not None and choices.location not in {region["name"] for region in offered}:
        across = " across zones" if options else ""
        raise Stop(f"Flex Consumption{across} is not offered in {choices.location}: az {' '.join([command, *options])}")


def _check_providers(az: Azure, choices: Choices) -> None:
    needed = [*PROVIDERS]
    if choices.is_private:
        needed += NETWORK_PROVIDERS
    if choices.durable == "scheduler":
        needed += SCHEDULER_PROVIDERS
    if choices.has_topics:
        needed += EVENT_PROVIDERS
    listed = _looked_up(az, "provider list", "--query", "[].{name:namespace,state:registrationState}")
    if listed is None:
        return
    # Azure writes some of them in lower case.
    registered = {each["name"].lower() for each in listed if each["state"] == "Registered"}
    missing = [f"Microsoft.{name}" for name in needed if f"microsoft.{name}".lower() not in registered]
    if missing:
        commands = [f"\n  az provider register --namespace {name} --wait" for name in missing]
        raise Stop(f"The subscription has not registered what the gateway needs:{''.join(commands)}")


def _looked_up(az: Azure, command: str, *options: str) -> list[dict[str, str]] | None:
    """None where whoever deploys may not look, with rights on a group alone: Azure says later what
    is wrong.
    """
    try:
        found: list[dict[str, str]] = az.ask(command, *options)
    except AzureError as error:
        if "AuthorizationFailed" not in error.said:
            raise
        print(f"Not checked, because it takes rights on the subscription: az {command}")
        return None
    return found
