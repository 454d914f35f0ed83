"""A stand-in of the Azure CLI: it answers from a table, notes what it was asked, and refuses what
the real one would not understand.
"""

import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.tools.azure import Azure

# The commands that scripts and pages use, with their options, by the tool's own help.
# `tests/project/test_docs_commands.py` compares it with the tool where that is installed.
COMMANDS = {
    "az login": "",
    "az account get-access-token": "--resource",
    "az account set": "--subscription",
    "az account show": "",
    "az ad signed-in-user show": "",
    "az deployment sub what-if": "--location --template-file --parameters --validation-level",
    "az deployment sub create": "--name --location --template-file --parameters",
    "az deployment sub show": "--name",
    "az deployment group what-if": "-g --template-file --parameters --validation-level",
    "az deployment group create": "--name -g --template-file --parameters",
    "az deployment group show": "--name -g",
    "az functionapp list-flexconsumption-locations": "--zone-redundant",
    "az functionapp deployment source config-zip": "-g -n --src --build-remote",
    "az functionapp list": "-g",
    "az functionapp config appsettings list": "-g -n",
    "az functionapp config access-restriction add": "-g -n --rule-name --action --priority --service-tag --http-headers",
    "az functionapp config access-restriction show": "-g -n",
    "az functionapp config hostname add": "-g -n --hostname",
    "az functionapp config ssl create": "-g -n --hostname",
    "az functionapp log deployment list": "-g -n",
    "az functionapp keys list": "-g -n",
    "az functionapp keys set": "-g -n --key-type --key-name",
    "az functionapp restart": "-g -n",
    "az functionapp show": "-g -n",
    "az cognitiveservices account list": "-g",
    "az cognitiveservices account list-deleted": "",
    "az cognitiveservices account deployment list": "-g -n",
    "az cognitiveservices account purge": "-g -n -l",
    "az cognitiveservices account recover": "-g -n -l",
    "az cognitiveservices usage list": "-l",
    "az consumption usage list": "",
    "az group create": "-n -l",
    "az group delete": "-n --yes",
    "az group exists": "-n",
    "az identity list": "-g",
    "az resource list": "-g",
    "az resource delete": "--ids",
    "az rest": "--method --url",
    "az role assignment create": "--role --assignee-object-id --assignee-principal-type --scope "
    "--condition-version --condition",
    "az role assignment list": "--assignee --all",
    "az role assignment delete": "--ids",
    "az role definition create": "--role-definition",
    "az monitor diagnostic-settings delete": "--name --resource",
    "az provider list": "",
    "az provider register": "--namespace --wait",
    "az upgrade": "",
    "az version": "",
    "az bicep build": "--file --stdout",
    "az bicep build-params": "--file --stdout",
    "az bicep install": "",
    "az bicep lint": "--file",
    "az keyvault list": "",
    "az keyvault list-deleted": "--resource-type",
    "az keyvault recover": "--name --resource-group --location",
    "az keyvault secret list": "--vault-name",
    "az keyvault secret recover": "--vault-name --name",
    "az keyvault secret set": "--vault-name --name --file --encoding",
    "az keyvault secret show": "--vault-name --name",
    "az storage account migration start": "--account-name -g --sku",
    "az storage blob undelete": "--account-name --container-name --name --auth-mode",
    "azd up": "",
    "azd provision": "",
    "azd deploy": "",
    "azd down": "",
}
# Options of every az command.
EVERYWHERE = {"-o", "--output", "--query"}

GROUP = "/subscriptions/s/resourceGroups/RG-Video-Gateway"
PROVIDERS = (
    *("Microsoft.Web", "Microsoft.Storage", "Microsoft.KeyVault", "Microsoft.ManagedIdentity", "Microsoft.CognitiveServices"),
    *("Microsoft.OperationalInsights", "microsoft.insights"),
)


class Refusal(str):
    """What az says when it fails."""

    __slots__ = ()


SEALED = Refusal("(Forbidden) Public network access is disabled. Inner error: ForbiddenByConnection")
NO_ROLE = Refusal("(Forbidden) Caller is not authorized. Inner error: ForbiddenByRbac")


class InTurn:
    """One answer after the other, and the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))

    def take(self) -> Any:
        return next(self._answers)


def parsed(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command's name and its options. Raises KeyError for a command that the table does not
    have.
    """
    names = [name for name in COMMANDS if list(words[: len(name.split())]) == name.split()]
    if not names:
        raise KeyError(shlex.join(words))
    name = max(names, key=len)
    rest = words[len(name.split()) :]
    return name, [word.partition("=")[0] for word in rest if re.match(r"-[a-z]|--[a-z]", word)]


def providers(*more: str) -> list[dict[str, str]]:
    """What `provider list` answers where these are registered, too."""
    return [{"name": name, "state": "Registered"} for name in (*PROVIDERS, *more)]


@dataclass
class Chosen:
    """What infra/main.bicepparam says; name and location where the environment says nothing."""

    name: str = "video-gateway"
    location: str = "eastus2"
    network: str = "public"
    backend: str = "storage"
    resilience: str = "local"
    topics: bool = False
    secrets: Sequence[str] = ()
    config: str = ""
    master: str = "gateway-master-key"

    def compiled(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What `bicep build-params` prints, where even nothing is a value of a variable."""
        secrets = {"GATEWAY_MASTER_KEY": self.master} | {each.upper(): each for each in self.secrets}
        chosen = {
            "name": environment.get("AZURE_ENV_NAME", self.name),
            "location": environment.get("AZURE_LOCATION", self.location),
            "network": self.network,
            "durable": {"backend": self.backend},
            "resilience": self.resilience,
            "finishedVideoEvents": False,
            "pipelines": {"eventTopic": self.topics},
            "settings": {"configFile": self.config, "secrets": secrets},
        }
        parameters = {"parameters": {name: {"value": value} for name, value in chosen.items()}}
        return {"templateJson": "{}", "parametersJson": json.dumps(parameters)}


@dataclass
class Cli:
    """Answers of an `az` that is signed in to a subscription with a vault in it. `answers` go
    before those below; `held` are the secrets of the vault.
    """

    chosen: Chosen = field(default_factory=Chosen)
    answers: dict[str, Any] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    seen: list[Mapping[str, str]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def azure(self) -> Azure:
        return Azure(self.environment, self.run, self.pauses.append)

    def run(
        self, words: Sequence[str], *, given: str, out: int | None, environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """As the real one is run."""
        name, options = parsed(["az", *words])
        unknown = {*options} - {*COMMANDS[name].split(), *EVERYWHERE}
        assert not unknown, f"{name} has no {unknown}"
        self.calls.append(" ".join(words))
        self.seen.append(environment)
        if given:
            self.given.append(given)
        answer = self._answer(" ".join(words), environment)
        if isinstance(answer, Refusal):
            return subprocess.CompletedProcess(words, 1, "", answer)
        return subprocess.CompletedProcess(words, 0, "" if answer is None or out is None else json.dumps(answer), "")

    def _answer(self, call: str, environment: Mapping[str, str]) -> Any:
        for start, answer in self.answers.items():
            if call.startswith(start):
                return answer.take() if isinstance(answer, InTurn) else answer
        if call.startswith("keyvault secret set"):
            self.held.add("gateway-master-key")
        usual = self._usual(environment)
        return next((usual[start] for start in usual if call.startswith(start)), None)

    def _usual(self, environment: Mapping[str, str]) -> dict[str, Any]:
        outputs = {"GATEWAY_APP": "func-x", "GATEWAY_VAULT": "kv-x", "GATEWAY_URL": "https://gateway.example"}
        made = {"properties": {"outputs": {name: {"value": value} for name, value in outputs.items()}}}
        return {
            "version": {"azure-cli": "2.91.0"},
            "account show": {"id": "sub-1", "name": "Subscription", "user": {"name": "ada", "type": "user"}},
            "ad signed-in-user show": {"id": "1-2-3"},
            "bicep build-params": self.chosen.compiled(environment),
            "functionapp list-flex": [{"name": "eastus2"}, {"name": "swedencentral"}],
            "provider list": providers(),
            "deployment sub show": made,
            "deployment group show": made,
            "keyvault secret list": [{"name": name} for name in sorted(self.held)],
            "keyvault secret show": {"value": "sk-master"},
            "keyvault list": [],
            "cognitiveservices account list": [],
            "functionapp list": [],
            "functionapp show": {"id": "/subscriptions/s/app"},
            "cognitiveservices account list-deleted": [],
            "identity list": [],
            "group exists": True,
        }

    def asked(self, start: str) -> list[str]:
        """The calls that begin so."""
        return [call for call in self.calls if call.startswith(start)]

    def order(self, starts: Iterable[str]) -> list[int]:
        """Where the first call of each kind is among all."""
        return [next(place for place, call in enumerate(self.calls) if call.startswith(start)) for start in starts]


def vault_of(name: str = "video-gateway", group: str = GROUP) -> list[dict[str, Any]]:
    """What `keyvault list` answers where a gateway has one."""
    return [{"name": "kv-x", "id": f"{group}/providers/kv-x", "tags": {"azd-env-name": name}}]


def deleted_account(name: str, location: str = "eastus2", group: str = GROUP) -> dict[str, str]:
    """An entry of `cognitiveservices account list-deleted`, whose ids name the location first."""
    before, _, group_name = group.rpartition("/resourceGroups/")
    place = f"{before}/providers/Microsoft.CognitiveServices/locations/{location}"
    return {"id": f"{place}/resourceGroups/{group_name}/deletedAccounts/{name}", "name": name, "location": location}


def using(*secrets: str) -> dict[str, Any]:
    """The answers about a gateway with a vault whose settings refer to these secrets; with none, it
    was never told anything.
    """
    references = [f"@Microsoft.KeyVault(VaultName=kv-x;SecretName={name})" for name in secrets]
    return {
        "keyvault list -o": vault_of(),
        "functionapp list -g": [
            {"name": "func-x", "tags": {"azd-env-name": "video-gateway"}},
            {"name": "another", "tags": None},
        ],
        "functionapp config appsettings list": [{"value": value} for value in (*references, "plain", None)],
    }
