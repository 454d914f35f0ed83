"""The templates: nothing public, no key in any setting, the least roles, and exactly the settings that the app reads."""

import ast
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from shared import archive, settings
from tests.bicep import INFRA, PROJECT, TEMPLATES, braced, code, keys, parameters, resources, variable

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
    "durableTaskDataContributor": "0ad04412-c4d5-4796-b79c-f76d14c8d402",
}
# Module → (the resource that the role is on, the role): the whole of what anybody is given.
ASSIGNMENTS = {
    ("roles", "storage", "storageBlobDataOwner"),
    ("roles", "storage", "storageQueueDataContributor"),
    ("roles", "storage", "storageTableDataContributor"),
    ("roles", "vault", "keyVaultSecretsUser"),
    ("roles", "insights", "monitoringMetricsPublisher"),
    ("openai-role", "openAi", "cognitiveServicesOpenAiUser"),
    ("scheduler", "hub", "durableTaskDataContributor"),
    ("events", "finished", "storageQueueDataMessageSender"),
    ("content-safety", "account", "cognitiveServicesUser"),
    ("vault", "vault", "keyVaultSecretsOfficer"),
}
# What the Functions host reads, with no part in it for the app's code.
HOST_SETTINGS = {
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsDisableHomepage",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "TASK_HUB",
}
SCHEDULER_SETTINGS = {
    "DURABLE_TASK_SCHEDULER_CONNECTION_STRING",
    "AzureFunctionsJobHost__extensions__durableTask__storageProvider__type",
    "AzureFunctionsJobHost__extensions__durableTask__storageProvider__connectionStringName",
}
# What the app reads and the templates never set, because each holds a key.
KEYS = {"AzureWebJobsStorage", "AZURE_OPENAI_API_KEY"}
# Ignored or refused on Flex Consumption, whose plan has properties for them.
FORBIDDEN = (
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY",
    "linuxFxVersion",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "ENABLE_ORYX_BUILD",
    "WEBSITE_",
)


def given_settings() -> set[str]:
    """Every app setting that the templates set by name."""
    text = code(INFRA / "modules" / "settings.bicep")
    names: set[str] = set()
    for name in ("host", "hostWithScheduler", "gateway", "gatewayConfig", "gatewayApiVersion"):
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


def test_no_template_reads_a_key() -> None:
    """Whoever reads an account's key could hand it on: no function that lists keys is called anywhere."""
    for path in TEMPLATES:
        assert not re.search(r"\blist\w*\(", code(path)), path.name


def test_outputs_hold_no_secrets() -> None:
    """Outputs are kept in the deployment's history for everybody who may read it: ids, names and addresses only."""
    for path in TEMPLATES:
        for name, value in re.findall(r"^output (\w+) \w+ = (.*)$", code(path), re.MULTILINE):
            assert not re.search(r"key|secret|password|connectionstring|token", f"{name} {value}", re.IGNORECASE), (
                path.name,
                name,
            )


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
    """TLS 1.2 for the app and its deployment site; no FTP, no publishing passwords, no remote debugging."""
    (site,) = resources("Microsoft.Web/sites")
    for line in (
        "httpsOnly: true",
        "minTlsVersion: '1.2'",
        "scmMinTlsVersion: '1.2'",
        "ftpsState: 'Disabled'",
        "remoteDebuggingEnabled: false",
        "for each in ['scm', 'ftp']",
        "properties: { allow: false }",
    ):
        assert line in site.body


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


def test_every_role_assignment_is_on_one_resource() -> None:
    """No role on a group or a subscription; who gets which on what is this table and nothing more."""
    found = set()
    for each in resources("Microsoft.Authorization/roleAssignments"):
        scope = re.search(r"^\s*scope: (\w+)$", each.body, re.MULTILINE)
        role = re.search(r"roleDefinitionId: (\w+)", each.body)
        assert scope is not None, (each.module, each.symbol)
        assert role is not None, (each.module, each.symbol)
        assert re.search(r"name: guid\(\w+\.id, ", each.body)
        assert "principalType: " in each.body
        found.add((each.module, scope[1], role[1]))
    assert found == ASSIGNMENTS


def test_the_app_starts_after_its_roles() -> None:
    """A first start without them fails, and is tried again late."""
    text = code(INFRA / "group.bicep")
    app = braced(text, text.index("module app "))
    assert re.search(r"dependsOn: \[roles, useOfNew, useOfExisting, endpoints\]", app)


def test_app_settings_are_what_the_app_reads() -> None:
    """Each setting of the templates is read by the app or is the host's; each that the app reads is set, unless it is a key."""
    given = given_settings() | chosen_settings()
    declared = set(settings.APP_SETTINGS) | referred_settings()
    assert given - declared == HOST_SETTINGS | SCHEDULER_SETTINGS
    assert declared - given == KEYS


def test_declared_settings_are_read() -> None:
    """The table of app settings lists nothing that no code looks up."""
    words: Counter[str] = Counter()
    for path in (PROJECT / "shared").glob("*.py"):
        constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        words.update(value for value in constants if isinstance(value, str))
    for name in settings.APP_SETTINGS:
        built_from_parts = name.endswith("ServiceUri") and {"AzureWebJobsStorage__", "ServiceUri"} <= words.keys()
        assert words[name] > 1 or built_from_parts, name  # once is in the table


def test_settings_of_the_host_are_what_host_json_needs() -> None:
    """Every %NAME% in host.json is set."""
    assert set(re.findall(r"%(\w+)%", (PROJECT / "host.json").read_text())) <= HOST_SETTINGS


def test_the_scheduler_switch_overrides_what_host_json_says() -> None:
    """The overriding names lead to keys that host.json has, and the hub is a name that Durable takes."""
    provider = json.loads((PROJECT / "host.json").read_text())["extensions"]["durableTask"]["storageProvider"]
    assert provider["type"] == "AzureStorage"
    hub = re.search(r"var taskHub = '(\w+)'", code(INFRA / "group.bicep"))
    assert hub is not None
    assert re.fullmatch(r"[a-z][a-z0-9]{2,44}", hub[1])


def test_the_master_key_comes_from_the_vault() -> None:
    """Settings with secrets are references; their values are nowhere in the templates."""
    text = code(INFRA / "modules" / "settings.bicep")
    assert "'@Microsoft.KeyVault(VaultName=${vaultName};SecretName=${secret})'" in text
    assert "GATEWAY_MASTER_KEY: 'gateway-master-key'" in (INFRA / "main.bicepparam").read_text()
    assert "--name gateway-master-key" in (INFRA / "master-key").read_text()


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
    assert f"var videos = '{archive.VIDEOS}'" in text
    assert f"var references = '{archive.REFERENCES}'" in text
    made = re.search(r"resource all 'tables' = \[for each in \[(.*?)\]", text)
    used = re.findall(r"Table\(self\._connect, \"(\w+)\"\)", (PROJECT / "shared" / "tables.py").read_text())
    assert made is not None
    assert set(re.findall(r"\w+", made[1])) == set(used) != set()


def test_videos_are_kept_as_long_as_the_app_says() -> None:
    """Storage deletes no video that the app still promises, and the rule covers the container of videos."""
    text = code(INFRA / "main.bicepparam")
    days = re.search(r"videoDays: (\w+)", text)
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    promised = (config.get("gateway") or {}).get("retention_days")
    assert days is not None
    assert days[1] == ("null" if promised is None else str(promised))
    assert "prefixMatch: ['${videos}/']" in code(INFRA / "modules" / "storage.bicep")


def test_hosts_of_storage_are_not_spelt_out() -> None:
    """The names differ between clouds, so they come from the environment."""
    for path in TEMPLATES:
        assert "core.windows.net" not in code(path), path.name


def test_one_switch_closes_the_network() -> None:
    """Whatever can be public says whether it is, and none says so for itself."""
    for kind in ("Storage/storageAccounts", "KeyVault/vaults", "CognitiveServices/accounts", "Web/sites"):
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
    }
    for path in TEMPLATES:
        text = code(path)
        for match in re.finditer(r"^resource \w+ 'Microsoft\.[\w.]+/([\w/]+)@[\w-]+' = (\[[^:\n]*: )?\{", text, re.MULTILINE):
            if match[1].rpartition("/")[2] not in untagged:
                assert "tags: " in braced(text, match.end() - 1), (path.name, match[1])


def test_alerts_look_for_what_the_code_logs() -> None:
    """An alert on a text that nobody writes would never fire."""
    logged = "\n".join(path.read_text() for path in (PROJECT / "shared").glob("*.py"))
    text = (INFRA / "modules" / "alerts.bicep").read_text()
    sought = re.findall(r'Message has "([^"]+)"', text)
    assert len(sought) >= 3
    for words in sought:
        assert re.search(rf'logger\.\w+\(\s*"[^"]*{re.escape(words)}', logged), words
    for operation in re.findall(r'contains ": (\w+): "', text):
        assert re.search(rf'log_failure\([\w.]+, "{operation}"', logged), operation


def alerts() -> Iterator[str]:
    text = code(INFRA / "modules" / "alerts.bicep")
    yield from re.findall(r"^    name: '([\w-]+)'", text, re.MULTILINE)
    yield "storage-unavailable"


def test_every_alert_has_an_answer() -> None:
    """docs/operations.md says what to do when it fires."""
    page = (PROJECT / "docs" / "operations.md").read_text()
    for name in alerts():
        assert f"`{name}`" in page, name
