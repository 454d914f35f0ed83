"""The templates: nothing public, no key in any setting, the least roles, and exactly the settings
that the app reads.
"""

import ast
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import ItemsView, Iterator, Mapping
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from infra.tools.package import build
from infra.tools.vault import MASTER_KEY
from shared.config import file, guardrail, settings, sinks
from shared.config.browsers import Waiting
from shared.errors import ConfigurationError
from shared.storage import blobs
from tests.project.bicep import (
    INFRA,
    PROJECT,
    TEMPLATES,
    braced,
    code,
    declared,
    keys,
    outputs,
    parameters,
    resources,
    variable,
)

CHECKER = PROJECT.parent / "shared" / "tools" / "bicep-check"

# Azure's own ids of its built-in roles; a wrong one would be valid syntax.
ROLES = {
    "storageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "storageQueueDataMessageSender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "cognitiveServicesOpenAiUser": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
    "cognitiveServicesUser": "a97b65f3-24c7-4388-baec-2e87135dc908",
    "keyVaultSecretsUser": "4633458b-17de-408a-b874-0445c86b69e6",
    "keyVaultSecretsOfficer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "monitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "eventGridDataSender": "d5a91429-5739-47e2-a06b-3470a27159e7",
    "durableTaskDataContributor": "0ad04412-c4d5-4796-b79c-f76d14c8d402",
}
# Module → (the resource that the role is on, the role): the whole of what anybody is given.
ASSIGNMENTS = {
    ("roles", "storage", "storageBlobDataOwner"),
    ("roles", "storage", "storageQueueDataContributor"),
    ("roles", "storage", "storageTableDataContributor"),
    ("roles", "vault", "keyVaultSecretsUser"),
    ("roles", "insights", "monitoringMetricsPublisher"),
    ("openai-role", "openAi", "chosen"),  # which of two is a parameter
    ("scheduler", "hub", "durableTaskDataContributor"),
    ("events-role", "queue", "storageQueueDataMessageSender"),
    ("topic", "topic", "eventGridDataSender"),
    ("content-safety", "account", "cognitiveServicesUser"),
    ("vault", "vault", "keyVaultSecretsOfficer"),
}
# What the Functions host reads, with no part in it for the app's code.
HOST_SETTINGS = {
    "AzureWebJobsStorage__credential",
    "AzureWebJobsDisableHomepage",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "TASK_HUB",
    "PYTHON_ENABLE_INIT_INDEXING",
}
SCHEDULER_SETTINGS = {"DURABLE_TASK_SCHEDULER_CONNECTION_STRING"}
# What the app reads and the templates never set, because each holds a key.
KEYS = {"AzureWebJobsStorage", *file.KEY_NAMES, *guardrail.KEY_NAMES}
# Those of OpenTelemetry, for who has a collector: its headers hold a key.
COLLECTOR = {name for name in settings.APP_SETTINGS if name.startswith("OTEL_")}
# Other people's names for a setting that the templates set by the first of its names.
SPELLINGS = {*file.BASE_NAMES[1:], *guardrail.ADDRESS_NAMES[1:]}
# What names of secrets have in them.
SECRET = re.compile(r"key|secret|password|connectionstring|token", re.IGNORECASE)
# Ignored or refused on Flex Consumption, whose plan has properties for them.
FORBIDDEN = (
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY",
    "linuxFxVersion",
    "ftpsState",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "ENABLE_ORYX_BUILD",
    "WEBSITE_",
)


def parameter_file() -> str:
    return code(INFRA / "main.bicepparam")


def given_settings() -> set[str]:
    """Every app setting that the templates set by name."""
    text = code(INFRA / "modules" / "settings.bicep")
    names: set[str] = set()
    for name in (
        "host",
        "hostWithScheduler",
        "gateway",
        "gatewayConfig",
        "gatewayApiVersion",
        "gatewaySafety",
        "gatewayEvents",
        "gatewayRequests",
    ):
        names |= keys(variable(name, text))
    return names


def chosen_settings() -> set[str]:
    """Every app setting that main.bicepparam adds: addresses of upstreams, and secrets."""
    text = code(INFRA / "main.bicepparam")
    return set(re.findall(r"setting: '(\w+)'", text)) | keys(braced(text, text.index("secrets:")))


def referred_settings() -> set[str]:
    """Every app setting that config.yaml refers to."""
    return set(re.findall(r"^[^#\n]*os\.environ/(\w+)", (PROJECT / "config.yaml").read_text(), re.MULTILINE))


@pytest.mark.skipif(not CHECKER.exists(), reason="the offline checker is not beside this checkout")
def test_the_templates_check() -> None:
    """Types, symbols, scopes and hardening: no error and no warning."""
    result = subprocess.run([str(CHECKER), "infra"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert " 0 errors, 0 warnings" in result.stdout + result.stderr, result.stdout


@pytest.mark.skipif(shutil.which("bicep") is None, reason="the Bicep compiler is not installed")
@pytest.mark.parametrize("command", ["build", "lint"])
def test_the_templates_compile(command: str) -> None:
    """With the real compiler, both entries compile without a warning."""
    for entry in ("main.bicep", "group.bicep"):
        arguments = ["bicep", command, *(["--stdout"] if command == "build" else []), str(INFRA / entry)]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""


def test_calls_that_wait_leave_room_on_an_instance() -> None:
    """Azure starts another instance when all the requests of one are taken."""
    (given,) = re.findall(r"httpConcurrency: (\d+)", code(INFRA / "main.bicepparam"))
    assert Waiting().max_calls_per_key < Waiting().max_calls < int(given)


def test_the_tests_see_every_resource() -> None:
    """Under a condition, in a loop, nested: as many as are declared, so that no way of writing one
    gets around what follows.
    """
    everything = "".join(code(path) for path in TEMPLATES)
    for path in TEMPLATES:
        assert len(declared(path)) == len(re.findall(r"\bresource\s+\w+\s+'", code(path))), path.name
    for kind in set(re.findall(r"'(Microsoft\.[\w./]+)@", everything)):
        found = [each for path in TEMPLATES for each in declared(path) if each.kind == kind]
        assert len(found) >= everything.count(f"'{kind}@") > 0, kind
    assert len(resources("Microsoft.Authorization/roleAssignments")) == everything.count(
        "Microsoft.Authorization/roleAssignments@"
    )


def test_a_resource_is_seen_however_it_is_written(tmp_path: Path) -> None:
    """Each form in which Bicep lets a resource be declared."""
    role = "'Microsoft.Authorization/roleAssignments@2022-04-01'"
    path = tmp_path / "forms.bicep"
    path.write_text(
        f"""resource plain {role} = {{ name: 'a' }}
resource sometimes {role} = if (contains({{ a: [1] }}, 'a')) {{ name: 'b' }}
resource each {role} = [for (x, i) in [{{ y: 1 }}]: {{ name: 'c' }}]
resource some {role} = [for x in range(0, 3): if (x > 1) {{
  name: 'd'
}}]
resource outer 'Microsoft.Storage/storageAccounts@2025-01-01' = if (true) {{
  name: 'e'
  resource blobs 'blobServices' existing = {{
    name: 'f'
    resource all 'containers@2025-01-01' = [for x in ['a']: {{ name: 'g' }}]
  }}
}}
resource after {role} = {{ name: 'h' }}
// resource comment {role} = {{ name: 'i' }}
"""
    )
    found = declared(path)
    assert [re.findall(r"name: '(\w)'", each.body)[0] for each in found] == list("abcdefgh")
    assert [each.symbol for each in found if each.conditional] == ["sometimes", "some", "outer"]
    assert [each.symbol for each in found if each.existing] == ["blobs"]
    assert found[6].kind == "Microsoft.Storage/storageAccounts/blobServices/containers"
    assert {each.kind for each in found if each.symbol in ("plain", "after", "some")} == {role[1:].partition("@")[0]}


def test_modules_are_files_of_ours() -> None:
    """A module from elsewhere could make anything, unseen by these tests."""
    for path in TEMPLATES:
        for module in re.findall(r"(?m)^\s*module\s+\w+\s+'([^']+)'", code(path)):
            assert (path.parent / module).resolve() in TEMPLATES, (path.name, module)


def test_no_template_reads_a_key() -> None:
    """Whoever reads an account's key could hand it on: no function that lists keys is called
    anywhere.
    """
    for path in TEMPLATES:
        assert not re.search(r"\blist\w*\(", code(path)), path.name


def test_outputs_hold_no_secrets() -> None:
    """Outputs are kept in the deployment's history for everybody who may read it: ids, names and
    addresses only.
    """
    for path in TEMPLATES:
        text = code(path)
        assert len(outputs(text)) == len(re.findall(r"\boutput\b", text)), path.name
        for name, whole in outputs(text).items():
            assert not SECRET.search(whole), (path.name, name)


def test_an_output_is_seen_however_it_is_written() -> None:
    """Of any type, on any number of lines: what it holds is among what is looked through."""
    text = """output plain string = a.key
  output list string[] = [for each in all: each.secret]
output shaped { name: string } = { name: b.password }
output one 'a' | 'b' = c.token
output long object = {
  name: 'd'
  value: d.connectionString
}
output chosen types.x? = e
  ? f
  : g.accountKey
output good string = h.id
"""
    found = outputs(text)
    assert list(found) == ["plain", "list", "shaped", "one", "long", "chosen", "good"]
    assert [name for name, whole in found.items() if not SECRET.search(whole)] == ["good"]


def test_no_parameter_is_a_secret() -> None:
    """Nothing secret has to be handed to a deployment, where what-if and history would show it."""
    for path in TEMPLATES:
        assert "@secure()" not in code(path)


def test_storage_takes_no_keys_and_shows_nothing() -> None:
    """Shared keys, anonymous blobs, local users, old TLS and plain HTTP are all off."""
    (account,) = resources("Microsoft.Storage/storageAccounts")
    for line in (
        "allowSharedKeyAccess: false",
        "allowBlobPublicAccess: false",
        "isLocalUserEnabled: false",
        "defaultToOAuthAuthentication: true",
        "minimumTlsVersion: 'TLS1_2'",
        "supportsHttpsTrafficOnly: true",
    ):
        assert line in account.body
    assert "publicAccess: 'None'" in account.body


def test_every_account_for_models_takes_tokens_only() -> None:
    """Azure OpenAI and Content Safety have no keys that work."""
    for account in resources("Microsoft.CognitiveServices/accounts"):
        assert "disableLocalAuth: true" in account.body, account.module


def test_telemetry_takes_tokens_only() -> None:
    """Nobody can write logs with the connection string alone, which is no secret then."""
    (component,) = resources("Microsoft.Insights/components")
    assert "DisableLocalAuth: true" in component.body


def test_the_vault_asks_for_roles_and_keeps_what_is_deleted() -> None:
    """No access policies; a deleted secret can be brought back and not be purged."""
    (vault,) = resources("Microsoft.KeyVault/vaults")
    for line in ("enableRbacAuthorization: true", "enableSoftDelete: true", "enablePurgeProtection: true"):
        assert line in vault.body


def test_the_app_is_reached_by_https_only() -> None:
    """TLS 1.2 for the app and its deployment site; no FTP, no publishing passwords, no remote
    debugging.
    """
    (site,) = resources("Microsoft.Web/sites")
    for line in (
        "httpsOnly: true",
        "minTlsVersion: '1.2'",
        "scmMinTlsVersion: '1.2'",
        "remoteDebuggingEnabled: false",
    ):
        assert line in site.body
    passwords = resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {match[1] for each in passwords if (match := re.search(r"name: '(\w+)'", each.body))} == {"scm", "ftp"}
    assert all("properties: { allow: false }" in each.body for each in passwords)


def test_a_resource_whose_type_goes_by_its_name_has_a_literal_one() -> None:
    """The compiler cannot tell the type otherwise, and warns (BCP225)."""
    for kind in ("config", "basicPublishingCredentialsPolicies"):
        for each in resources(f"Microsoft.Web/sites/{kind}"):
            assert re.search(r"^\s*name: '\w+'$", each.body, re.MULTILINE), each.symbol


def test_no_address_is_plain_http() -> None:
    """Every URL in the templates and their parameters is https."""
    for path in [*TEMPLATES, INFRA / "main.bicepparam"]:
        assert "http://" not in path.read_text(), path.name


def test_every_role_is_one_of_ours() -> None:
    """Each role variable is called after the built-in role whose id it holds."""
    found: dict[str, str] = {}
    for path in TEMPLATES:
        found |= dict(
            re.findall(r"^var (\w+) = subscriptionResourceId\('[\w./]+', '([0-9a-f-]{36})'\)", code(path), re.MULTILINE)
        )
    assert found == ROLES


def test_whoever_deploys_may_give_and_take_these_roles_alone() -> None:
    """The condition that operations.md puts on the right to assign roles names what the templates
    assign, for both.
    """
    condition = (INFRA / "assignable-roles.txt").read_text()
    asked = re.findall(r"roleAssignments/(\w+)'}\)\)\s+OR\s+\(@(\w+)\[[^{]*GuidEquals \{([^}]*)\}", condition)
    assert [(action, source) for action, source, _ in asked] == [("write", "Request"), ("delete", "Resource")]
    for _, _, ids in asked:
        assert sorted(re.findall(r"[0-9a-f-]{36}", ids)) == sorted(ROLES.values())


def test_every_role_assignment_is_on_one_resource() -> None:
    """No role on a group or a subscription; who gets which on what is this table and
    nothing more.
    """
    found = set()
    for each in resources("Microsoft.Authorization/roleAssignments"):
        scope = re.search(r"^\s*scope: (\w+)$", each.body, re.MULTILINE)
        role = re.search(r"roleDefinitionId: (\w+)", each.body)
        assert scope is not None, (each.module, each.symbol)
        assert role is not None, (each.module, each.symbol)
        # Known before the identity is made, so that a preview shows the assignment.
        whose = r"each\.principalId" if each.module == "vault" else "identityId|senderId"
        assert re.search(rf"name: guid\({scope[1]}\.id, ({whose}), {role[1]}\)", each.body), each.module
        assert "principalType: " in each.body
        found.add((each.module, scope[1], role[1]))
    assert found == ASSIGNMENTS


# What modules are told by others, because Azure alone can tell it. All else is computed.
TOLD = {
    "identity.outputs.principalId",  # whom roles are given to
    "identity.outputs.clientId",  # as whom the app signs in
    "app.outputs.url",  # where the app answers
    "scheduler!.outputs.endpoint",  # holds a hash of Azure's own
    "topic!.outputs.endpoint",  # and this a number of Azure's own
}


def test_a_preview_shows_everything() -> None:
    """Neither what-if nor a snapshot knows a module's outputs: where one makes a name or decides
    something, the resource is missing from the preview.
    """
    told = {
        expression
        for path in TEMPLATES
        if path.name != "main.bicep"
        for line in code(path).splitlines()
        if not line.startswith("output ")
        for expression in re.findall(r"[\w\]\[!]+\.outputs\.\w+", line)
    }
    assert told == TOLD
    for path in TEMPLATES:
        assert "primaryEndpoints" not in code(path), path.name


def made_after(module: str) -> set[str]:
    """What a module of group.bicep waits for: what it is told by, and what it names."""
    text = code(INFRA / "group.bicep")
    body = braced(text, text.index(f"module {module} "))
    named = re.search(r"dependsOn: \[([^\n]*)\]\n", body)
    return {*re.findall(r"\w+", named[1] if named else ""), *re.findall(r"(\w+)!?(?:\[i\])?\.outputs", body)}


@pytest.mark.parametrize(
    ("module", "first"),
    [
        ("roles", {"identity", "storage", "vault", "telemetry"}),
        ("useOfNew", {"identity", "openAi"}),
        ("endpoints", {"net", "namesOf", "storage", "vault", "openAi", "safety", "topic"}),
        ("entrance", {"net", "namesOf", "app"}),
        ("namesOf", {"net"}),
        ("appSettings", {"identity", "app", "telemetry", "scheduler", "topic"}),
        ("diagnostics", {"telemetry", "storage", "vault"}),
        ("alerts", {"telemetry", "storage"}),
        ("workbook", {"telemetry"}),
        ("availability", {"telemetry", "alerts", "app"}),
        ("events", {"storage"}),
        ("senders", {"storage"}),
    ],
)
def test_what_a_module_is_told_by_name_is_made_before_it(module: str, first: set[str]) -> None:
    """A name tells the compiler nothing about the order, so each module says it."""
    assert first <= made_after(module)


LIMITS = {  # Azure's, of the names that are made here
    "app": 60,
    "identity": 128,
    "insights": 260,
    "network": 64,
    "safety": 64,
    "scheduler": 64,
    "storage": 24,
    "systemTopic": 50,
    "topic": 50,
    "vault": 24,
    "workspace": 63,
}


@pytest.mark.parametrize("name", ["ab", "sixteen-letters1"])
def test_names_are_as_azure_takes_them(name: str) -> None:
    """At either end of what a gateway may be called; a token is 13 letters and digits."""
    made = dict(re.findall(r"(\w+): '(.*)'", variable("names", code(INFRA / "group.bicep"))))
    assert made.keys() == LIMITS.keys()
    for kind, pattern in made.items():
        whole = pattern.replace("${name}", name).replace("${token}", "0" * 13)
        assert 3 <= len(whole) <= LIMITS[kind], whole
        assert re.fullmatch(r"[a-z][a-z0-9]+" if kind == "storage" else r"[a-z]([a-z0-9]|-(?!-))+[a-z0-9]", whole), whole


OLDEST = "2024-11-29"  # two years before this was last looked through
# Older, and yet the newest there are.
NEWEST = {
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/webtests": "2022-06-15",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
}


def test_versions_of_azures_interfaces_are_recent() -> None:
    """None is older than two years, unless there is no newer one: what the compiler's linter asks
    for by the rule `use-recent-api-versions`.
    """
    old = {
        (kind, version)
        for path in TEMPLATES
        for kind, version in re.findall(r"'(Microsoft\.[\w./]+)@([\w-]+)'", code(path))
        if version < OLDEST
    }
    assert old == set(NEWEST.items())


@pytest.mark.skipif(not CHECKER.exists(), reason="the index of types is not beside this checkout")
def test_no_newer_version_is_known_of_what_is_old() -> None:
    """By Azure's own index, as of when it was made."""
    with zipfile.ZipFile(CHECKER.parent / "bicep-types.zip") as archive_:
        known = [each.partition("@") for each in json.loads(archive_.read("index.json"))]
    for kind, used in NEWEST.items():
        stable = [version for name, _, version in known if name.lower() == kind.lower() and "preview" not in version]
        assert max(stable) <= used, kind


def test_the_app_starts_after_its_roles() -> None:
    """A first start without them fails, and is tried again late."""
    text = code(INFRA / "group.bicep")
    app = braced(text, text.index("module app "))
    assert re.search(r"dependsOn: \[roles, useOfNew, useOfExisting, endpoints\]", app)


def test_app_settings_are_what_the_app_reads() -> None:
    """Each setting of the templates is read by the app or is the host's; each that the app reads is
    set, unless it is a key.
    """
    given = given_settings() | chosen_settings()
    declared = set(settings.APP_SETTINGS) | referred_settings() | {"EVENT_GRID_TOPIC_ENDPOINT"}  # of a logging provider
    assert given - declared == HOST_SETTINGS | SCHEDULER_SETTINGS
    assert declared - given == KEYS | SPELLINGS | COLLECTOR


class Asked(Mapping[str, str]):
    """App settings that remember which of them were looked up, found or not."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values_ = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:  # which `get` and `in` come down to
        self.names.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    def items(self) -> ItemsView[str, str]:
        """All of them, which asks for none by name."""
        return self.values_.items()


def test_declared_settings_are_those_that_are_read(tmp_path: Path) -> None:
    """The table of app settings and what is looked up are the same, over every way to configure the
    app.
    """
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    screened, params = tmp_path / "screened.yaml", "{guardrail: azure/prompt_shield%s}"
    bare = tmp_path / "bare.yaml"
    bare.write_text(f"guardrails: [{{guardrail_name: a, params: {params % ''}}}]")
    screened.write_text(f"guardrails: [{{guardrail_name: a, params: {params % ', api_base: https://a'}}}]")
    base = {"AZURE_OPENAI_API_BASE": "https://a.openai.azure.com", "GATEWAY_MASTER_KEY": "k" * 16}
    identity = {f"AzureWebJobsStorage__{kind}ServiceUri": f"https://{kind}" for kind in ("blob", "table")}
    files = [{"GATEWAY_CONFIG": str(each)} for each in (empty, bare, screened)]
    asked: set[str] = set()
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://a"}
    for more in ({}, *files, collector, {"GATEWAY_MASTER_KEY": "short"}, {"AZURE_OPENAI_API_BASE": ""}):
        for storage in ({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}, identity):
            given = Asked(base | storage | more)
            try:
                settings.load(given)
            except ConfigurationError:
                assert more  # the first is complete
            asked |= given.names
    assert asked == set(settings.APP_SETTINGS)


def test_settings_are_read_in_one_place() -> None:
    """No other code looks into the environment, past the table and the tests of it."""
    reading = {
        path.name
        for path in [PROJECT / "function_app.py", *(PROJECT / "shared").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    }
    assert reading == {"settings.py"}


def test_settings_of_the_host_are_what_host_json_needs() -> None:
    """Every %NAME% in host.json is set."""
    assert set(re.findall(r"%(\w+)%", (PROJECT / "host.json").read_text())) <= HOST_SETTINGS


@pytest.mark.parametrize(
    ("scheduler", "type_", "setting"),
    [(True, "azureManaged", "connectionStringName"), (False, "AzureStorage", "connectionName")],
)
def test_what_keeps_orchestrations_stands_in_the_packaged_file(
    tmp_path: Path, scheduler: bool, type_: str, setting: str
) -> None:
    """What wakes an app without instances reads host.json and no override of it; what the file
    refers to is set.
    """
    package = build(PROJECT, tmp_path / "app.zip", scheduler=scheduler)
    with zipfile.ZipFile(package.path) as archive_:
        host = json.loads(archive_.read("host.json"))
    provider = host["extensions"]["durableTask"]["storageProvider"]
    assert provider["type"] == type_
    given = given_settings()
    assert any(name.partition("__")[0] == provider[setting] for name in given)
    assert [name for name in given if name.startswith("AzureFunctionsJobHost")] == []
    # And nothing else of the file changes.
    host["extensions"]["durableTask"]["storageProvider"] = None
    mine = json.loads((PROJECT / "host.json").read_text())
    mine["extensions"]["durableTask"]["storageProvider"] = None
    assert host == mine


def test_the_task_hub_has_a_name_that_durable_takes() -> None:
    """The same for the app and, where there is one, the scheduler."""
    hub = re.search(r"var taskHub = '(\w+)'", code(INFRA / "group.bicep"))
    assert hub is not None
    assert re.fullmatch(r"[a-z][a-z0-9]{2,44}", hub[1])


def test_events_go_where_the_configuration_sends_them() -> None:
    """The parameter file makes the queue and the topic for the providers that ask for them, with
    the name and the schema that the app uses.
    """
    asked = code(INFRA / "main.bicepparam")
    for choice, provider in (("eventQueue", "azure_queue"), ("eventTopic", "event_grid")):
        assert provider in sinks.SINKS
        assert re.search(rf"{choice}: contains\(string\(.*litellm_settings \?\? {{}}\), '\"{provider}\"'\)", asked)
    assert f"tellsEvents ? ['{sinks.SINKS['azure_queue']['VIDEO_EVENTS_QUEUE']}']" in code(INFRA / "modules" / "storage.bicep")
    (topic,) = resources("Microsoft.EventGrid/topics")
    for line in ("inputSchema: 'CloudEventSchemaV1_0'", "disableLocalAuth: true", "minimumTlsVersionAllowed: '1.2'"):
        assert line in topic.body


def test_an_account_is_made_for_guardrails_that_ask_one() -> None:
    """The parameter file tells them from the operator's own words by their names."""
    (asked,) = re.findall(
        r"(?m)^param contentSafety = contains\(string\(.*guardrails \?\? \[\]\), '\"(.*)'\)$", parameter_file()
    )
    for name in get_args(get_type_hints(guardrail.GuardrailParams)["guardrail"]):
        assert guardrail.GuardrailParams(guardrail=name).is_local is not name.startswith(asked), name


def test_the_parameter_file_asks_for_nothing_but_plain_functions() -> None:
    """It is read at every deployment, and by a compiler that these tests do not have."""
    called = set(re.findall(r"(\w+)\(", parameter_file()))
    assert called == {"any", "contains", "empty", "loadYamlContent", "readEnvironmentVariable", "string"}
    assert "=>" not in parameter_file()


def test_the_master_key_comes_from_the_vault() -> None:
    """Settings with secrets are references; their values are nowhere in the templates."""
    text = code(INFRA / "modules" / "settings.bicep")
    assert "'@Microsoft.KeyVault(VaultName=${vaultName};SecretName=${secret})'" in text
    assert "GATEWAY_MASTER_KEY: 'gateway-master-key'" in (INFRA / "main.bicepparam").read_text()
    assert MASTER_KEY == "gateway-master-key"


def test_no_setting_that_flex_consumption_refuses() -> None:
    """The plan's own properties say it instead."""
    for path in TEMPLATES:
        for name in FORBIDDEN:
            assert name not in code(path), (path.name, name)


def test_an_instance_answers_many_requests_on_the_newest_python() -> None:
    """Without a number a Python app gets one request at a time."""
    (site,) = resources("Microsoft.Web/sites")
    assert "perInstanceConcurrency: scale.httpConcurrency" in site.body
    assert "runtime: { name: 'python', version: '3.13' }" in site.body
    assert "3.13" in (PROJECT / ".github" / "workflows" / "gateway.yml").read_text()


def test_containers_and_tables_are_those_of_the_app() -> None:
    """What the templates make has the names that the code uses."""
    text = code(INFRA / "modules" / "storage.bicep")
    assert f"var videos = '{blobs.VIDEOS}'" in text
    assert f"var references = '{blobs.REFERENCES}'" in text
    made = re.search(r"resource all 'tables' = \[for each in \[(.*?)\]", text)
    used = re.findall(r"Table\(self\._connect, \"(\w+)\"\)", (PROJECT / "shared" / "storage" / "tables.py").read_text())
    assert made is not None
    assert set(re.findall(r"\w+", made[1])) == set(used) != set()


def test_videos_are_kept_as_long_as_the_app_says() -> None:
    """Storage deletes no video that the app still promises, and the rule covers the container of
    videos.
    """
    text = code(INFRA / "main.bicepparam")
    days = re.search(r"videoDays: (\w+)", text)
    file = yaml.safe_load((PROJECT / "config.yaml").read_text())
    promised = (file.get("gateway") or {}).get("retention_days")
    assert days is not None
    assert days[1] == ("null" if promised is None else str(promised))
    assert "prefixMatch: ['${videos}/']" in code(INFRA / "modules" / "storage.bicep")


def test_hosts_of_storage_are_not_spelt_out() -> None:
    """The names differ between clouds, so they come from the environment."""
    for path in TEMPLATES:
        assert "core.windows.net" not in code(path), path.name


def test_a_zone_of_names_hides_nobody_elses() -> None:
    """A linked zone that lacks a name would make it unknown in the whole network."""
    (link,) = resources("Microsoft.Network/privateDnsZones/virtualNetworkLinks")
    assert "resolutionPolicy: 'NxDomainRedirect'" in link.body


def test_names_are_entered_where_the_operator_says() -> None:
    """In zones of our own, which alone are made then; in none; or in those given, all of which
    must be there.
    """
    text = code(INFRA / "modules" / "endpoint.bicep")
    for way in (
        r"dnsZones == null\s+\? resourceId\('Microsoft.Network/privateDnsZones', zone\)",
        r": empty\(dnsZones\) \? ''",
        r"first\(filter\(dnsZones!, .*\) \?\? fail\(",
        r"= if \(dnsZones == null \|\| !empty\(dnsZones\)\) \{",
    ):
        assert re.search(way, text), way
    assert "var ownZones = existingNetwork.?dnsZones == null ? " in code(INFRA / "group.bicep")


def test_a_snapshot_can_tell_what_is_made_how_often() -> None:
    """It belongs to no cloud, so nothing that decides a loop or a condition asks which."""
    text = code(INFRA / "group.bicep")
    clouds = {
        name for name, value in re.findall(r"(?m)^var (\w+) = ((?:.*\n(?!\n|var ))*.*)", text) if "environment()" in value
    }
    assert clouds == {"zones"}
    for loop in re.findall(r"= (?:\[for \w+ in|if \()(.*)\{$", text, re.MULTILINE):
        assert not re.search(r"\bzones\b|environment\(\)|outputs", loop), loop


def test_what_outlives_a_zone_is_one_choice() -> None:
    """Data and instances together."""
    (account,), (plan,) = resources("Microsoft.Storage/storageAccounts"), resources("Microsoft.Web/serverfarms")
    assert "resilience == 'zone' ? 'Standard_ZRS' : 'Standard_LRS'" in account.body
    assert "zoneRedundant: resilience == 'zone'" in plan.body


def test_one_switch_closes_the_network() -> None:
    """Whatever can be public says whether it is, and none says so for itself."""
    for kind in ("Storage/storageAccounts", "KeyVault/vaults", "CognitiveServices/accounts", "EventGrid/topics", "Web/sites"):
        for each in resources(f"Microsoft.{kind}"):
            assert re.search(r"publicNetworkAccess: is(Private|Public) \?", each.body), each.module
    text = code(INFRA / "group.bicep")
    assert "var isPrivate = network != 'public'" in text
    assert "isPublic: network != 'private'" in text


def test_both_entries_take_the_same_parameters() -> None:
    """A parameter file serves either; main.bicep hands everything on."""
    outer, inner = code(INFRA / "main.bicep"), code(INFRA / "group.bicep")
    assert parameters(outer) == parameters(inner)
    passed = braced(outer, outer.index("params:"))
    assert re.findall(r"(\w+): \1$", passed, re.MULTILINE) == parameters(inner)
    assert re.findall(r"^output (\w+)", outer, re.MULTILINE) == re.findall(r"^output (\w+)", inner, re.MULTILINE)


def test_every_choice_is_made_and_explained() -> None:
    """main.bicepparam sets each parameter, below a comment."""
    lines = (INFRA / "main.bicepparam").read_text().splitlines()
    made = [line.split()[1] for line in lines if line.startswith("param ")]
    assert sorted(made) == sorted(parameters(code(INFRA / "main.bicep")))
    for number, line in enumerate(lines):
        if line.startswith("param ") and not line.endswith("= {"):
            assert lines[number - 1].startswith("//"), line
        if re.match(r"  \w+: .*[^{\[]$", line) and line.count("'") % 2 == 0 and lines[number - 1] != "    }":
            assert lines[number - 1].lstrip().startswith("//"), line


def test_tags_are_on_everything_that_has_tags() -> None:
    """The engineer's own tags, and azd's on the group and the site."""
    untagged = {
        "roleAssignments",
        "config",
        "deployments",
        "diagnosticSettings",
        "budgets",
        "queues",
        "eventSubscriptions",
        "taskHubs",
        "basicPublishingCredentialsPolicies",
        "privateDnsZoneGroups",
        "blobServices",
        "containers",
        "queueServices",
        "tableServices",
        "tables",
        "managementPolicies",
    }
    for path in TEMPLATES:
        for each in declared(path):
            if not each.existing and each.kind.rpartition("/")[2] not in untagged:
                assert "tags: " in each.body, (path.name, each.kind)


def alerts() -> Iterator[str]:
    text = code(INFRA / "modules" / "alerts.bicep")
    yield from re.findall(r"^    name: '([\w-]+)'", text, re.MULTILINE)
    yield from ("storage-unavailable", "unreachable")


def test_every_alert_has_an_answer() -> None:
    """docs/operations.md says what to do when it fires."""
    page = (PROJECT / "docs" / "operations.md").read_text()
    for name in alerts():
        assert f"`{name}`" in page, name
