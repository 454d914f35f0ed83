"""infra/deploy, infra/master-key and infra/destroy, run with an `az` that answers from a table and
notes what it was asked.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project.bicep import PROJECT, TEMPLATES, code

SEALED = "echo '(Forbidden) Public network access is disabled. Inner error: ForbiddenByConnection' >&2; exit 1"
NO_ROLE = "echo '(Forbidden) Caller is not authorized. Inner error: ForbiddenByRbac' >&2; exit 1"
VAULT = "printf 'kv-x\\t/subscriptions/s/resourceGroups/RG-Video-Gateway/kv-x\\n'"
PROVIDERS = (
    "Microsoft.Web Microsoft.Storage Microsoft.KeyVault Microsoft.ManagedIdentity Microsoft.OperationalInsights "
    "microsoft.insights Microsoft.CognitiveServices"
)
COMPILE = 'sed "s/NAME/${AZURE_ENV_NAME-video-gateway}/; s/LOCATION/${AZURE_LOCATION-eastus2}/" "$HOME/compiled"'
# What az answers, by a pattern of its arguments; the first that fits. $HOME is the test's folder.
ANSWERS = {
    "version --query*": "echo 2.91.0",
    "account show --query user.type*": "echo user",
    "functionapp list-flexconsumption-locations*": "printf 'eastus2\\nswedencentral\\n'",
    "ad signed-in-user*": "echo 1-2-3",
    "bicep build-params*": COMPILE,
    "provider list*": f"printf '%s\\n' {PROVIDERS}",
    "*show*GATEWAY_APP*": "echo func-x",
    "*show*GATEWAY_VAULT*": "echo kv-x",
    "*show*GATEWAY_URL*": "echo https://gateway.example",
    "keyvault secret list*'gateway-master-key'*": 'grep gateway-master-key "$HOME/secrets" || true',
    "keyvault secret list*": 'cat "$HOME/secrets"',
    "keyvault secret set*": 'cat /dev/stdin > "$HOME/key"; echo gateway-master-key >> "$HOME/secrets"',
    "keyvault secret show*": "echo sk-master",
    "functionapp show*": "echo /subscriptions/s/app",
    "functionapp deployment source config-zip*": 'shift 9; cp "$1" "$HOME/deployed.zip"',
}


@dataclass(frozen=True)
class Run:
    """A script that has ended, and the calls it made: of az, of `sleep`, and of the smoke test with
    the key it got.
    """

    code: int
    out: str
    calls: list[str]

    def asked(self, start: str) -> list[str]:
        return [call for call in self.calls if call.startswith(start)]


def compiled(
    network: str = "public",
    backend: str = "storage",
    secrets: tuple[str, ...] = (),
    config: str = "",
    *,
    name: str = "NAME",
    location: str = "LOCATION",
    master: str = "gateway-master-key",
) -> str:
    """What `az bicep build-params --stdout` prints for main.bicepparam with these choices.

    NAME and LOCATION stand for what is read from the environment, where even nothing is a value.
    """
    chosen = {
        "name": name,
        "location": location,
        "network": network,
        "durable": {"backend": backend},
        "settings": {
            "configFile": config,
            "secrets": {"GATEWAY_MASTER_KEY": master} | {each.upper(): each for each in secrets},
        },
        "budget": None,
    }
    parameters = {"parameters": {name: {"value": value} for name, value in chosen.items()}}
    return json.dumps({"templateJson": "{}", "parametersJson": json.dumps(parameters)})


def shell(pattern: str) -> str:
    """The pattern as bash reads it after `case`: nothing but the stars is special."""
    return "*".join(shlex.quote(part) if part else "" for part in pattern.split("*"))


def run(
    folder: Path,
    script: str,
    *arguments: str,
    answers: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    given: str = "",
    held: str = "",
) -> Run:
    """Run a script of infra/ where only its own tools can be found. `held`: the secrets that the
    vault has, a line each.
    """
    changed = dict(answers or {})
    table = changed | {pattern: text for pattern, text in ANSWERS.items() if pattern not in changed}
    cases = "".join(f"{shell(pattern)}) {text} ;;\n" for pattern, text in table.items())
    tools = {
        "az": f'echo "$*" >> "{folder}/calls"\ncase "$*" in\n{cases}esac',
        "sleep": f'echo "sleep $*" >> "{folder}/calls"',
        "python3": f'case "$*" in *infra.tools.smoke*) echo "smoke $* $GATEWAY_MASTER_KEY" >> "{folder}/calls" ;; '
        f'*) exec "{sys.executable}" "$@" ;; esac',
    }
    for name, text in tools.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    for name in ("bash", "seq", "cat", "sed", "dirname", "rm", "grep", "mktemp", "cp"):
        if not (folder / name).exists():
            (folder / name).symlink_to(shutil.which(name) or name)
    if not (folder / "compiled").exists():
        (folder / "compiled").write_text(compiled())
    (folder / "secrets").write_text(held)
    (folder / "calls").write_text("")
    (folder / "tmp").mkdir(exist_ok=True)
    result = subprocess.run(
        [str(PROJECT / "infra" / script), *arguments],
        env={"PATH": str(folder), "HOME": str(folder), "TMPDIR": str(folder / "tmp"), **(environment or {})},
        input=given,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert list((folder / "tmp").iterdir()) == []  # nothing is left behind, however it ends
    return Run(result.returncode, result.stdout + result.stderr, (folder / "calls").read_text().splitlines())


def private(folder: Path, network: str) -> dict[str, str]:
    """The answers and the configuration for a network that this machine is not in."""
    config = folder / "proxy.yaml"
    config.write_text("gateway:\n  delivery: proxy\n")
    (folder / "compiled").write_text(compiled(network=network, config=str(config)))
    return {"provider list*": f"printf '%s\\n' {PROVIDERS} Microsoft.Network Microsoft.App", "keyvault secret list*": SEALED}


def test_a_first_deployment_does_everything(tmp_path: Path) -> None:
    """Looks, makes, puts a key into the vault, deploys the code, has Azure look at the vault again,
    tests with the key.
    """
    found = run(tmp_path, "deploy", "--yes")
    assert found.code == 0, found.out
    steps = (
        "deployment sub what-if --location eastus2 --template-file infra/main.bicep --parameters infra/main.bicepparam",
        "deployment sub create --name gateway-video-gateway --location eastus2",
        "keyvault secret set --vault-name kv-x --name gateway-master-key",
        "functionapp deployment source config-zip -g rg-video-gateway -n func-x",
        "rest --method post --url /subscriptions/s/app/config/configreferences/appsettings/refresh",
        "functionapp restart -g rg-video-gateway -n func-x",
        "smoke -m infra.tools.smoke https://gateway.example --video sk-master",
    )
    positions = [next(number for number, call in enumerate(found.calls) if call.startswith(step)) for step in steps]
    assert positions == sorted(positions)
    assert "The gateway is at https://gateway.example" in found.out
    assert "sk-master" not in found.out
    with zipfile.ZipFile(tmp_path / "deployed.zip") as archive:
        assert b"AzureStorage" in archive.read("host.json")


def test_a_deployment_may_be_repeated(tmp_path: Path) -> None:
    """The key that exists is kept, and no video is made where none is wanted."""
    answers = {"keyvault list --query*": VAULT}
    found = run(tmp_path, "deploy", "--yes", "--no-video", answers=answers, held="gateway-master-key\n")
    assert found.code == 0, found.out
    assert found.asked("keyvault secret set") == []
    assert found.asked("smoke") == ["smoke -m infra.tools.smoke https://gateway.example sk-master"]


def test_the_chosen_backend_is_packaged(tmp_path: Path) -> None:
    """host.json names the scheduler, which the subscription must know."""
    (tmp_path / "compiled").write_text(compiled(backend="scheduler"))
    refused = run(tmp_path, "deploy", "--yes")
    assert refused.code == 1
    assert "az provider register --namespace Microsoft.DurableTask --wait" in refused.out
    found = run(tmp_path, "deploy", "--yes", answers={"provider list*": f"printf '%s\\n' {PROVIDERS} Microsoft.DurableTask"})
    assert found.code == 0, found.out
    with zipfile.ZipFile(tmp_path / "deployed.zip") as archive:
        assert b"azureManaged" in archive.read("host.json")


def test_backend_from_outside_deploys_the_code_and_says_what_is_left(tmp_path: Path) -> None:
    """The vault is asked once; key and test are left to a machine inside, with the command to run
    there.
    """
    found = run(tmp_path, "deploy", "--yes", answers=private(tmp_path, "backend"))
    assert found.code == 0, found.out
    assert len(found.asked("keyvault secret list")) == 1
    assert found.asked("sleep") == found.asked("smoke") == found.asked("keyvault secret set") == []
    assert len(found.asked("functionapp deployment source config-zip")) == 1
    assert "AZURE_ENV_NAME=video-gateway AZURE_LOCATION=eastus2 infra/deploy --yes" in found.out


def test_private_from_outside_stops_before_the_code(tmp_path: Path) -> None:
    """It cannot be deployed from there, and a pipeline must not take that for a success."""
    found = run(tmp_path, "deploy", "--yes", "--group", "rg-mine", answers=private(tmp_path, "private"))
    assert found.code == 1
    assert len(found.asked("deployment group create")) == 1
    assert found.asked("functionapp deployment") == found.asked("smoke") == []
    assert "infra/deploy --yes --group rg-mine" in found.out


@pytest.mark.parametrize("network", ["backend", "private"])
def test_from_inside_a_private_network_everything_is_done(tmp_path: Path, network: str) -> None:
    """Also while the role on the vault does not work yet: that refusal comes from inside."""
    answers = private(tmp_path, network)
    once = f'if [ -e "$HOME/waited" ]; then cat "$HOME/secrets"; else echo > "$HOME/waited"; {NO_ROLE}; fi'
    found = run(tmp_path, "deploy", "--yes", answers=answers | {"keyvault secret list*": once})
    assert found.code == 0, found.out
    assert len(found.asked("keyvault secret set")) == len(found.asked("smoke")) == 1


def test_a_private_network_needs_delivery_by_the_app(tmp_path: Path) -> None:
    """In the configuration that is deployed; nothing is changed without."""
    answers = private(tmp_path, "backend")
    (tmp_path / "proxy.yaml").write_text("gateway:\n  delivery: redirect\n")
    found = run(tmp_path, "deploy", "--yes", answers=answers)
    assert found.code == 1
    assert "delivery: proxy" in found.out
    assert found.asked("deployment") == []


def test_the_subscription_must_know_who_makes_the_subnet(tmp_path: Path) -> None:
    """Microsoft.App makes no resource here, so that Azure would not register it by itself."""
    answers = private(tmp_path, "backend") | {"provider list*": f"printf '%s\\n' {PROVIDERS} Microsoft.Network"}
    found = run(tmp_path, "deploy", "--what-if", answers=answers)
    assert found.code == 1
    assert "az provider register --namespace Microsoft.App --wait" in found.out
    assert found.out.count("az provider register") == 1


def test_every_provider_of_the_templates_is_looked_for() -> None:
    """Those of what is always made and of the network; Azure registers the extras with their first
    resource.
    """
    extras = {"Consumption", "EventGrid", "Resources", "Authorization"}
    used = {name for path in TEMPLATES for name in re.findall(r"Microsoft\.(\w+)/\w+@", code(path))} | {"App"}
    words = re.findall(r"providers\+?='([\w ]+)'", (PROJECT / "infra" / "deploy").read_text())
    assert set(" ".join(words).split()) == used - extras


@pytest.mark.parametrize("exists", [False, True], ids=["a new vault", "a vault that exists"])
def test_a_missing_secret_stops_before_the_app_is_told_of_it(tmp_path: Path, exists: bool) -> None:
    """With the line that sets it: a reference to nothing would make every route answer 500."""
    (tmp_path / "compiled").write_text(compiled(secrets=("vendor-api-key", "there")))
    answers = {"keyvault list --query*": VAULT} if exists else {}
    found = run(tmp_path, "deploy", "--yes", answers=answers, held="there\n")
    assert found.code == 1
    assert found.out.count("az keyvault secret set") == 1
    assert "az keyvault secret set --vault-name kv-x --name vendor-api-key --file FILE --encoding utf-8 -o none" in found.out
    assert len(found.asked("deployment sub create")) == (0 if exists else 1)  # the vault has to be made for the secret to go in
    assert found.asked("functionapp deployment") == []


def using(*secrets: str) -> dict[str, str]:
    """The answers about a gateway with a vault whose settings refer to these secrets; with none, it
    was never told anything.
    """
    references = "".join(f"@Microsoft.KeyVault(VaultName=kv-x;SecretName={name})\\n" for name in secrets)
    return {
        "keyvault list --query*": VAULT,
        "functionapp list -g*": "echo func-x",
        "functionapp config appsettings list*": f"printf '{references}'",
    }


def outside(folder: Path, network: str) -> dict[str, str]:
    """The answers where the vault cannot be asked: it is in a network, or a role is missing."""
    return {"keyvault secret list*": NO_ROLE} if network == "public" else private(folder, network)


@pytest.mark.parametrize("network", ["public", "backend", "private"])
def test_a_running_gateway_is_told_of_no_secret_that_nobody_saw(tmp_path: Path, network: str) -> None:
    """Where the vault cannot be asked, what the app already refers to is known, and the rest may be
    missing.
    """
    answers = outside(tmp_path, network) | using("gateway-master-key", "old-key")
    config = str(tmp_path / "proxy.yaml") if network != "public" else ""
    (tmp_path / "compiled").write_text(compiled(network, secrets=("old-key", "new-key"), config=config))
    found = run(tmp_path, "deploy", "--yes", answers=answers)
    assert found.code == 1
    assert found.asked("deployment sub create") == found.asked("functionapp deployment") == []
    assert found.out.count("az keyvault secret set") == 1
    assert "--name new-key" in found.out
    assert "--secrets-are-set" in found.out
    vouched = run(tmp_path, "deploy", "--yes", "--secrets-are-set", answers=answers)
    assert len(vouched.asked("deployment sub create")) == 1
    (tmp_path / "compiled").write_text(compiled(network, secrets=("old-key",), config=config))
    assert len(run(tmp_path, "deploy", "--yes", answers=answers).asked("deployment sub create")) == 1


@pytest.mark.parametrize("secrets", [(), ("gateway-master-key", "new-key")], ids=["never ran", "running"])
def test_only_a_gateway_that_never_ran_is_said_to_wait_for_its_secrets(tmp_path: Path, secrets: tuple[str, ...]) -> None:
    """One that refers to no secret yet cannot be taken down; one that does goes on answering."""
    answers = private(tmp_path, "backend") | using(*secrets)
    (tmp_path / "compiled").write_text(compiled("backend", secrets=("new-key",), config=str(tmp_path / "proxy.yaml")))
    found = run(tmp_path, "deploy", "--yes", answers=answers)
    assert found.code == 0, found.out
    assert ("the gateway answers nothing" in found.out) == (not secrets)
    assert "no test was made" in found.out


def test_references_are_those_of_the_gateways_app(tmp_path: Path) -> None:
    """The secrets' names; nothing where there is no app yet; a refusal is not taken for that."""
    assert run(tmp_path, "references", "rg-x", "video-gateway", answers=using("a-key", "b-key")).out == "a-key\nb-key\n"
    nothing = run(tmp_path, "references", "rg-x", "video-gateway")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.asked("functionapp config") == []
    refused = using("a-key") | {"functionapp config appsettings list*": "exit 3"}
    assert run(tmp_path, "references", "rg-x", "video-gateway", answers=refused).code == 3


def test_a_vault_of_another_group_is_anothers(tmp_path: Path) -> None:
    """Though its gateway has the same name. The case of the group's name does not matter, as it
    does not to Azure.
    """
    elsewhere = VAULT.replace("RG-Video-Gateway", "rg-video-gateway-2")
    (tmp_path / "compiled").write_text(compiled(secrets=("new-key",)))
    found = run(tmp_path, "deploy", "--yes", answers={"keyvault list --query*": elsewhere})
    assert len(found.asked("deployment sub create")) == 1
    found = run(tmp_path, "deploy", "--yes", "--group", "Rg-VIDEO-gateway", answers={"keyvault list --query*": VAULT})
    assert found.asked("deployment group create") == []
    assert "--name new-key" in found.out


def test_a_deleted_vault_is_brought_back_first(tmp_path: Path) -> None:
    """Into its group, which is gone as well; its name cannot be used for another."""
    deleted = {"keyvault list-deleted*": "printf 'kv-old\\twestus\\t/s/RESOURCEGROUPS/rg-video-gateway/kv-old\\n'"}
    found = run(tmp_path, "deploy", "--yes", answers=deleted)
    assert found.code == 0, found.out
    order = [
        found.calls.index(found.asked(start)[0]) for start in ("group create", "keyvault recover", "deployment sub create")
    ]
    assert order == sorted(order)
    assert "keyvault recover --name kv-old --resource-group rg-video-gateway --location westus -o none" in found.calls
    refused = run(tmp_path, "deploy", "--yes", answers={"keyvault list-deleted*": "exit 1"})
    assert refused.code == 0
    assert "Deleted vaults cannot be listed" in refused.out


MIDDLE = (
    "account show --query {*",
    "functionapp list-flex*",
    "ad signed-in-user*",
    "bicep build-params*",
    "provider list*",
    "deployment sub what-if*",
    "keyvault list --query*",
    "deployment sub create*",
    "*show*GATEWAY_APP*",
    "*show*GATEWAY_VAULT*",
    "*show*GATEWAY_URL*",
    "functionapp deployment source config-zip*",
    "functionapp show*",
    "functionapp restart*",
    "keyvault secret show*",
)


@pytest.mark.parametrize("failing", MIDDLE)
def test_az_failing_anywhere_ends_the_deployment(tmp_path: Path, failing: str) -> None:
    """With a status that tells, and no step after it."""
    found = run(tmp_path, "deploy", "--yes", answers={failing: "echo refused >&2; exit 3"})
    assert found.code != 0
    assert found.asked("smoke") == []
    pattern = re.escape(failing).replace(r"\*", ".*").replace(r"\ ", " ")
    assert re.fullmatch(pattern, found.calls[-1]), found.calls[-1]


def test_a_refused_package_is_sent_again(tmp_path: Path) -> None:
    """The app's own roles may be minutes old; whatever else is wrong is not repeated."""
    late = (
        'echo >> "$HOME/tries"; if [ "$(grep -c "" "$HOME/tries")" -lt 3 ]; then echo "Status Code: 403" >&2; exit 1; fi; '
        'shift 9; cp "$1" "$HOME/deployed.zip"'
    )
    found = run(tmp_path, "deploy", "--yes", answers={"functionapp deployment source config-zip*": late})
    assert found.code == 0, found.out
    assert found.asked("sleep") == ["sleep 60"] * 2
    never = run(
        tmp_path, "deploy", "--yes", answers={"functionapp deployment source config-zip*": f"echo '{REFUSALS[0]}'; exit 1"}
    )
    assert never.code == 1
    assert len(never.asked("functionapp deployment")) == 10
    assert "The code was not deployed." in never.out


REFUSALS = (
    "An error occured during deployment. Status Code: 403, Details: Forbidden",
    "Failed to upload blob: Response status code does not indicate success: 403 (This request is not authorized)",
    "ERROR: Operation returned an invalid status: Forbidden (403)",
    "ErrorCode: AuthorizationPermissionMismatch",
)


@pytest.mark.parametrize(
    ("reply", "times"),
    [
        *[(refusal, 10) for refusal in REFUSALS],
        ("The build 8e2a4034-77d1 failed: Could not find a version of av==17.0.403", 1),
        ("An error occured during deployment. Status Code: 400, Details: see /deployments/403", 1),
    ],
)
def test_only_a_refusal_is_waited_out(tmp_path: Path, reply: str, times: int) -> None:
    """A 403 is a status, not three digits of something else."""
    answers = {"functionapp deployment source config-zip*": f"echo '{reply}' >&2; exit 1"}
    found = run(tmp_path, "deploy", "--yes", answers=answers)
    assert found.code == 1
    assert len(found.asked("functionapp deployment")) == times


def test_references_that_cannot_be_refreshed_are_no_reason_to_stop(tmp_path: Path) -> None:
    """The restart after it has the same end; it is said."""
    found = run(tmp_path, "deploy", "--yes", answers={"rest *": "exit 1"})
    assert found.code == 0
    assert "were not refreshed" in found.out


def test_what_if_changes_nothing_and_needs_no_right_to(tmp_path: Path) -> None:
    """It ends after showing what would change, at the level that checks for reading only; a
    deployment checks for all.
    """
    found = run(tmp_path, "deploy", "--what-if")
    assert found.code == 0, found.out
    assert found.calls[-1] == (
        "deployment sub what-if --location eastus2 --template-file infra/main.bicep --parameters infra/main.bicepparam "
        "--validation-level ProviderNoRbac"
    )
    assert run(tmp_path, "deploy", given="n\n").calls[-1].endswith("--validation-level Provider")


def test_a_deployment_that_is_not_wanted_changes_nothing(tmp_path: Path) -> None:
    """Anything but y is a no."""
    found = run(tmp_path, "deploy", given="n\n")
    assert found.code == 1
    assert found.calls[-1].startswith("deployment sub what-if ")


def test_a_group_that_exists_gets_the_same_parameters(tmp_path: Path) -> None:
    """The parameter file is turned to the other entry, and not left behind."""
    found = run(tmp_path, "deploy", "--group", "rg-mine", "--what-if")
    assert found.code == 0, found.out
    assert found.calls[-1].startswith(
        "deployment group what-if -g rg-mine --template-file infra/group.bicep --parameters infra/.group.bicepparam"
    )
    assert not (PROJECT / "infra" / ".group.bicepparam").exists()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("deploy", ["--force"]),
        ("deploy", ["--what-iff", "--yes"]),
        ("master-key", []),
        ("master-key", [""]),
        ("master-key", ["--rotate"]),
        ("master-key", ["--rotate", "kv-x"]),
        ("master-key", ["kv-x", "--rotat"]),
        ("master-key", ["kv-x", ""]),
        ("master-key", ["kv-x", "--rotate", "more"]),
        ("refresh", ["rg-x"]),
        ("refresh", ["rg-x", ""]),
        ("refresh", ["--group", "func-x"]),
        ("references", ["rg-x"]),
        ("references", ["rg-x", "--all"]),
        ("destroy", []),
        ("destroy", ["--yes"]),
        ("destroy", ["rg-a", "rg-b"]),
    ],
)
def test_what_is_not_understood_gets_the_usage(tmp_path: Path, script: str, arguments: list[str]) -> None:
    """And nothing is asked of Azure."""
    found = run(tmp_path, script, *arguments, held="gateway-master-key\n")
    assert found.code == 2
    assert f"infra/{script}" in found.out
    assert found.calls == []


@pytest.mark.parametrize("name", ["Video", "vidéo", "a", "a_b", "seventeen-letters", "-ab", "ab-"])
def test_a_name_that_azure_would_refuse_later_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Names of vaults, accounts and hosts are made of it."""
    found = run(tmp_path, "deploy", "--yes", environment={"AZURE_ENV_NAME": name, "LC_ALL": "C.UTF-8"})
    assert found.code == 1
    assert "2 to 16 lower-case" in found.out
    assert found.asked("deployment") == []


@pytest.mark.parametrize("environment", [{}, {"AZURE_ENV_NAME": "", "AZURE_LOCATION": ""}], ids=["unset", "empty"])
def test_name_and_region_are_those_of_the_parameter_file(tmp_path: Path, environment: dict[str, str]) -> None:
    """Edited there, as it says, without any variable; one that a pipeline sets to nothing
    is none.
    """
    (tmp_path / "compiled").write_text(compiled(name="films", location="swedencentral"))
    found = run(tmp_path, "deploy", "--yes", environment=environment)
    assert found.code == 0, found.out
    assert found.asked("deployment sub what-if")[0].startswith("deployment sub what-if --location swedencentral ")
    assert found.asked("deployment sub create")[0].startswith(
        "deployment sub create --name gateway-films --location swedencentral "
    )
    assert found.asked("functionapp deployment")[0].startswith("functionapp deployment source config-zip -g rg-films ")
    (tmp_path / "compiled").write_text(compiled())
    found = run(tmp_path, "deploy", "--what-if", environment=environment)
    assert found.calls[-1].startswith("deployment sub what-if --location eastus2 ")


def test_variables_go_before_the_parameter_file(tmp_path: Path) -> None:
    """Where they are set."""
    environment = {"AZURE_ENV_NAME": "films", "AZURE_LOCATION": "swedencentral"}
    found = run(tmp_path, "deploy", "--yes", environment=environment)
    assert found.asked("deployment sub create")[0].startswith(
        "deployment sub create --name gateway-films --location swedencentral "
    )


def test_a_master_key_by_another_name_is_refused(tmp_path: Path) -> None:
    """The scripts would set one secret, and the app refer to another."""
    (tmp_path / "compiled").write_text(compiled(master="my-master-key"))
    found = run(tmp_path, "deploy", "--yes")
    assert found.code == 1
    assert "gateway-master-key" in found.out
    assert found.asked("deployment") == []


def test_a_service_principal_says_who_it_is(tmp_path: Path) -> None:
    """It cannot look itself up, and its role assignment must not call it a user."""
    answers = {"account show --query user.type*": "echo servicePrincipal"}
    refused = run(tmp_path, "deploy", "--what-if", answers=answers)
    assert refused.code == 1
    assert "AZURE_PRINCIPAL_ID" in refused.out
    answers["bicep build-params*"] = f'echo "$AZURE_PRINCIPAL_TYPE $AZURE_PRINCIPAL_ID" > "$HOME/told"; {COMPILE}'
    found = run(tmp_path, "deploy", "--what-if", answers=answers, environment={"AZURE_PRINCIPAL_ID": "4-5-6"})
    assert found.code == 0, found.out
    assert (tmp_path / "told").read_text() == "ServicePrincipal 4-5-6\n"


@pytest.mark.parametrize(("version", "code"), [("2.75.0", 1), ("2.9.1", 1), ("2.76.0", 0), ("3.0.0", 0)])
def test_an_azure_cli_that_is_too_old_is_named(tmp_path: Path, version: str, code: int) -> None:
    """Instead of an option that it does not know."""
    assert run(tmp_path, "deploy", "--what-if", answers={"version --query*": f"echo {version}"}).code == code


def test_the_master_key_is_random_and_never_shown(tmp_path: Path) -> None:
    """It travels from one program's output to the next one's input: not on a command line, not on
    the screen.
    """
    made = set()
    for _ in range(2):
        found = run(tmp_path, "master-key", "kv-x")
        assert found.code == 0, found.out
        key = (tmp_path / "key").read_text()
        assert re.fullmatch(r"sk-[\w-]{43}", key)
        assert key not in found.out + "".join(found.calls)
        made.add(key)
    assert len(made) == 2


def test_a_master_key_that_exists_is_kept(tmp_path: Path) -> None:
    """Deploying again does not lock the operator out; rotating is asked for by name."""
    assert run(tmp_path, "master-key", "kv-x", held="gateway-master-key\n").asked("keyvault secret set") == []
    rotated = run(tmp_path, "master-key", "kv-x", "--rotate", held="gateway-master-key\n")
    assert len(rotated.asked("keyvault secret set")) == 1


@pytest.mark.parametrize("answer", ["", "y", "another"])
def test_nothing_is_destroyed_without_the_name_of_the_group(tmp_path: Path, answer: str) -> None:
    """A yes is not enough."""
    found = run(tmp_path, "destroy", "rg-test", given=f"{answer}\n")
    assert found.code == 1
    assert found.asked("group delete") == []


def test_the_group_is_destroyed_when_its_name_is_typed(tmp_path: Path) -> None:
    """Its model accounts are purged, so that their names and quota are free again."""
    accounts = {"cognitiveservices account list*": "printf 'oai-a\\teastus2\\noai-b\\tswedencentral\\n'"}
    found = run(tmp_path, "destroy", "rg-test", answers=accounts, given="rg-test\n")
    assert found.code == 0, found.out
    assert "group delete -n rg-test --yes" in found.calls
    assert found.calls[-2:] == [
        "cognitiveservices account purge -g rg-test -n oai-a -l eastus2",
        "cognitiveservices account purge -g rg-test -n oai-b -l swedencentral",
    ]
