"""infra/deploy with an `az` that answers from a table: what it asks, in which order, and where it
stops.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.tools import azure, choices, deploy, package, smoke
from tests.fakes.azure_cli import (
    GROUP,
    NO_ROLE,
    SEALED,
    Chosen,
    Cli,
    InTurn,
    Refusal,
    deleted_account,
    providers,
    using,
    vault_of,
)
from tests.project.bicep import PROJECT, TEMPLATES, code

TESTED: list[tuple[str, str | None, bool]] = []
UPLOAD = "functionapp deployment source config-zip"
MADE = "deployment sub create"


@pytest.fixture(autouse=True)
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In place of a gateway in Azure: notes with which key it is tested, and if with a video."""
    TESTED.clear()
    monkeypatch.setattr(smoke, "check", lambda client, *, video: TESTED.append((client.url, client.key, video)))
    monkeypatch.chdir(PROJECT)
    yield


@pytest.fixture
def proxy(tmp_path: Path) -> str:
    """A configuration whose videos are delivered by the app."""
    config = tmp_path / "proxy.yaml"
    config.write_text("gateway:\n  delivery: proxy\n")
    return str(config)


def behind(network: str, config: str, **answers: object) -> Cli:
    """A network that this machine is not in."""
    known = {"provider list": providers("Microsoft.Network", "Microsoft.App"), "keyvault secret list": SEALED}
    return Cli(Chosen(network=network, config=config), {**known, **answers})


def run(cli: Cli, *arguments: str) -> int:
    return deploy.main([*arguments], cli.azure)


def test_a_first_deployment_does_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Looks, makes, puts a key into the vault, deploys the code, has Azure look at the vault again,
    tests with the key, which nobody sees.
    """
    cli = Cli()
    assert run(cli, "--yes") == 0
    steps = cli.order(
        (
            "deployment sub what-if --location eastus2 --template-file infra/main.bicep --parameters infra/main.bicepparam",
            "deployment sub create --name gateway-video-gateway --location eastus2",
            "keyvault secret set --vault-name kv-x --name gateway-master-key",
            "functionapp deployment source config-zip -g rg-video-gateway -n func-x",
            "rest --method post --url /subscriptions/s/app/config/configreferences/appsettings/refresh",
            "functionapp restart -g rg-video-gateway -n func-x",
            "keyvault secret show",
        )
    )
    assert steps == sorted(steps)
    assert TESTED == [("https://gateway.example", "sk-master", True)]
    said = capsys.readouterr()
    assert "The gateway is at https://gateway.example" in said.out
    assert "sk-master" not in said.out + said.err


def test_a_pipeline_signs_in_to_the_vault_while_it_can() -> None:
    """GitHub's token is good for five minutes, and making the resources takes longer. The answer,
    which is a secret, is not asked for.
    """
    cli = Cli()
    assert run(cli, "--yes") == 0
    assert cli.asked("account get-access-token") == ["account get-access-token --resource https://vault.azure.net -o none"]
    order = cli.order(("account get-access-token", "deployment sub what-if", MADE, "keyvault secret list"))
    assert order == sorted(order)


def test_a_deployment_may_be_repeated() -> None:
    """The key that exists is kept, and no video is made where none is wanted."""
    cli = Cli(answers={"keyvault list -o": vault_of()}, held={"gateway-master-key"})
    assert run(cli, "--yes", "--no-video") == 0
    assert cli.asked("keyvault secret set") == []
    assert TESTED == [("https://gateway.example", "sk-master", False)]


@pytest.mark.parametrize(("backend", "named"), [("storage", b"AzureStorage"), ("scheduler", b"azureManaged")])
def test_the_chosen_backend_is_packaged(monkeypatch: pytest.MonkeyPatch, backend: str, named: bytes) -> None:
    """host.json names it."""
    sent = io.BytesIO()
    monkeypatch.setattr(deploy, "upload", lambda _az, _group, _app, package: sent.write(package.read_bytes()))
    cli = Cli(Chosen(backend=backend), {"provider list": providers("Microsoft.DurableTask")})
    assert run(cli, "--yes") == 0
    with zipfile.ZipFile(sent) as archive:
        assert named in archive.read("host.json")


def test_backend_from_outside_deploys_the_code_and_says_what_is_left(proxy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The vault is asked once; key and test are left to a machine inside, with the command to run
    there.
    """
    cli = behind("backend", proxy)
    assert run(cli, "--yes") == 0
    assert len(cli.asked("keyvault secret list")) == len(cli.asked(UPLOAD)) == 1
    assert not any((cli.pauses, TESTED, cli.asked("keyvault secret set")))
    assert "AZURE_ENV_NAME=video-gateway AZURE_LOCATION=eastus2 infra/deploy --yes" in capsys.readouterr().out


def test_private_from_outside_stops_before_the_code(proxy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be deployed from there, and a pipeline must not take that for a success."""
    cli = behind("private", proxy)
    assert run(cli, "--yes", "--group", "rg-mine") == 1
    assert len(cli.asked("deployment group create")) == 1
    assert not any((cli.asked(UPLOAD), TESTED))
    assert "infra/deploy --yes --group rg-mine" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["backend", "private"])
def test_from_inside_a_private_network_everything_is_done(proxy: str, network: str) -> None:
    """Also while the role on the vault does not work yet: that refusal comes from inside."""
    held = [{"name": "gateway-master-key"}]
    cli = behind(network, proxy, **{"keyvault secret list": InTurn(NO_ROLE, [], held)})
    assert run(cli, "--yes") == 0
    assert len(cli.asked("keyvault secret set")) == len(TESTED) == 1


@pytest.mark.parametrize("exists", [False, True], ids=["a new vault", "a vault that exists"])
def test_a_missing_secret_stops_before_the_app_is_told_of_it(capsys: pytest.CaptureFixture[str], *, exists: bool) -> None:
    """With the line that sets it: a reference to nothing would make every route answer 500."""
    cli = Cli(Chosen(secrets=("vendor-api-key", "there")), {"keyvault list -o": vault_of() if exists else []}, {"there"})
    assert run(cli, "--yes") == 1
    complaint = capsys.readouterr().err
    assert complaint.count("az keyvault secret set") == 1
    assert "--vault-name kv-x --file FILE --encoding utf-8 -o none --name vendor-api-key" in complaint
    assert len(cli.asked(MADE)) == (0 if exists else 1)  # the vault has to be made for the secret to go in
    assert cli.asked(UPLOAD) == []


@pytest.mark.parametrize("network", ["public", "backend", "private"])
def test_a_running_gateway_is_told_of_no_secret_that_nobody_saw(
    network: str, proxy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the vault cannot be asked, what the app already refers to is known, and the rest may be
    missing.
    """

    def closed(*secrets: str) -> Cli:
        cli = behind(network, proxy, **using("gateway-master-key", "old-key"))
        cli.chosen.secrets = secrets
        cli.answers["keyvault secret list"] = InTurn(NO_ROLE if network == "public" else SEALED)
        return cli

    refused = closed("old-key", "new-key")
    assert run(refused, "--yes") == 1
    assert refused.asked(MADE) == refused.asked(UPLOAD) == []
    complaint = capsys.readouterr().err
    assert complaint.count("az keyvault secret set") == 1
    assert "--name new-key" in complaint
    assert "--secrets-are-set" in complaint
    for vouched, arguments in ((closed("old-key", "new-key"), ["--secrets-are-set"]), (closed("old-key"), [])):
        run(vouched, "--yes", *arguments)
        assert len(vouched.asked(MADE)) == 1


@pytest.mark.parametrize("secrets", [(), ("gateway-master-key", "new-key")], ids=["never ran", "running"])
def test_only_a_gateway_that_never_ran_is_said_to_wait_for_its_secrets(
    secrets: tuple[str, ...], proxy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that refers to no secret yet cannot be taken down; one that does goes on answering."""
    cli = behind("backend", proxy, **using(*secrets))
    cli.chosen.secrets = ("new-key",)
    assert run(cli, "--yes") == 0
    said = capsys.readouterr().out
    assert ("the gateway answers nothing" in said) == (not secrets)
    assert "no test was made" in said


def test_a_vault_of_another_group_is_anothers(capsys: pytest.CaptureFixture[str]) -> None:
    """Though its gateway has the same name. The case of the group's name does not matter, as it
    does not to Azure.
    """
    chosen = Chosen(secrets=("new-key",))
    elsewhere = Cli(chosen, {"keyvault list -o": vault_of(group=f"{GROUP}-2")})
    run(elsewhere, "--yes")
    assert len(elsewhere.asked(MADE)) == 1
    capsys.readouterr()
    here = Cli(chosen, {"keyvault list -o": vault_of()})
    run(here, "--yes", "--group", "Rg-VIDEO-gateway")
    assert here.asked("deployment group create") == []
    assert "--name new-key" in capsys.readouterr().err


def test_a_deleted_vault_is_brought_back_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Into its group, which is gone as well; its name cannot be used for another."""
    tags = {"azd-env-name": "video-gateway"}
    gone = {"name": "kv-old", "properties": {"location": "westus", "tags": tags, "vaultId": f"{GROUP}/providers/kv-old"}}
    cli = Cli(answers={"keyvault list-deleted": [gone], "group exists": False})
    assert run(cli, "--yes") == 0
    order = cli.order(("group create", "keyvault recover", MADE))
    assert order == sorted(order)
    assert "keyvault recover --name kv-old --resource-group rg-video-gateway --location westus -o none" in cli.calls
    refused = Cli(answers={"keyvault list-deleted": Refusal("AuthorizationFailed")})
    assert run(refused, "--yes") == 0
    assert "Deleted vaults cannot be listed" in capsys.readouterr().out


OURS = "oai-video-gateway-abcdefghijklm"
DELETED = [
    deleted_account(OURS),
    deleted_account("cs-video-gateway-nopqrstuvwxyz", "westus"),
    deleted_account("oai-video-gateway-2-abcdefghijklm"),
    deleted_account(OURS, group=f"{GROUP}-2"),
]


@pytest.mark.parametrize(("choice", "verb"), [("restore", "recover"), ("purge", "purge")])
def test_deleted_accounts_are_restored_or_purged_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, choice: str, verb: str
) -> None:
    """By a flag or by an answer; those of other gateways and groups are left alone."""
    for arguments, answer in ((("--yes", "--deleted", choice), ""), ((), f"{choice}\ny\n")):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        cli = Cli(answers={"cognitiveservices account list-deleted": DELETED, "group exists": False})
        assert run(cli, *arguments) == 0
        where = "cognitiveservices account " + verb
        assert cli.asked(where) == [
            f"{where} -g rg-video-gateway -n {OURS} -l eastus2 -o none",
            f"{where} -g rg-video-gateway -n cs-video-gateway-nopqrstuvwxyz -l westus -o none",
        ]
        order = cli.order((where, "deployment sub what-if"))
        assert order == sorted(order)
        assert bool(cli.asked("group create")) == (choice == "restore")


@pytest.mark.parametrize(("arguments", "answer"), [(["--yes"], ""), ([], ""), ([], "no\n")])
def test_what_becomes_of_deleted_accounts_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], answer: str
) -> None:
    """Nobody to ask, or no answer: nothing is changed, and the flags are named."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    cli = Cli(answers={"cognitiveservices account list-deleted": DELETED})
    assert run(cli, *arguments) == 1
    assert "--deleted restore" in capsys.readouterr().err
    assert cli.asked("deployment") == cli.asked("cognitiveservices account purge") == []


def test_a_look_says_what_is_in_the_way_and_leaves_it_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever only looks changes nothing, whatever else was said; and needs no right to list."""
    cli = Cli(answers={"cognitiveservices account list-deleted": DELETED})
    assert run(cli, "--what-if", "--deleted", "purge") == 0
    assert f"in the way: {OURS} (eastus2), cs-video-gateway" in capsys.readouterr().out
    assert cli.asked("cognitiveservices account purge") == []
    assert run(Cli(answers={"cognitiveservices account list-deleted": NO_ROLE}), "--what-if") == 0


STEPS = (
    "account show",
    "functionapp list-flex",
    "ad signed-in-user",
    "bicep build-params",
    "provider list",
    "account get-access-token",
    "deployment sub what-if",
    "keyvault list -o",
    "deployment sub create",
    "deployment sub show",
    "functionapp deployment source config-zip",
    "functionapp show",
    "functionapp restart",
    "keyvault secret show",
)


@pytest.mark.parametrize("failing", STEPS)
def test_az_failing_anywhere_ends_the_deployment(failing: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With a status that tells, what az said, the command to try by hand, and no step after it."""
    cli = Cli(answers={failing: Refusal("refused")})
    assert run(cli, "--yes") == 1
    assert TESTED == []
    assert cli.calls[-1].startswith(failing)
    complaint = capsys.readouterr().err
    assert "refused" in complaint
    assert f"It was: az {failing.removesuffix(' -o')}" in complaint


@pytest.mark.parametrize("step", ["deployment sub what-if", MADE])
def test_what_azure_refuses_names_the_page(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its answer says what is in the way; the page, which has a row for it, what to do."""
    assert run(Cli(answers={step: Refusal("RoleAssignmentExists")}), "--yes") == 1
    page, heading = re.findall(r'What to do: (\S+), "(.+)"\.', capsys.readouterr().err)[0]
    assert re.search(rf"(?ms)^### {heading}$.*^\| `RoleAssignmentExists` \|", (PROJECT / page).read_text())


@pytest.mark.parametrize(
    "code",
    [
        "DeploymentActive",
        "AnotherOperationInProgress",
        "StorageAccountOperationInProgress",
        "PrincipalNotFound",
        "ServerTimeout",
    ],
)
def test_what_passes_in_azure_is_waited_out(code: str) -> None:
    """The same deployment once more: it may be repeated. Not for ever."""
    cli = Cli(answers={MADE: InTurn(Refusal(f'{{"code": "{code}"}}'), None)})
    assert run(cli, "--yes") == 0
    assert cli.pauses == [30]
    never = Cli(answers={MADE: Refusal(code)})
    assert run(never, "--yes") == 1
    assert len(never.asked(MADE)) == 4


def test_what_if_changes_nothing_and_needs_no_right_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after showing what would change, at the level that checks for reading only; a
    deployment checks for all.
    """
    cli = Cli()
    assert run(cli, "--what-if") == 0
    assert cli.calls[-1] == (
        "deployment sub what-if --location eastus2 --template-file infra/main.bicep --parameters infra/main.bicepparam "
        "--validation-level ProviderNoRbac"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = Cli()
    assert run(refused) == 1
    assert refused.calls[-1].endswith("--validation-level Provider")


def test_a_person_may_stop_it_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """With Ctrl-C: no stack of calls, and what to do then; nothing is left behind."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert azure.ended(interrupted) == 130
    assert "once more" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["n\n", "yes please\n", "\n", ""])
def test_a_deployment_that_is_not_wanted_changes_nothing(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Anything but y is a no, and so is nobody there."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    cli = Cli()
    assert run(cli) == 1
    assert cli.calls[-1].startswith("deployment sub what-if ")


def test_a_group_that_exists_gets_the_same_parameters() -> None:
    """The parameter file is turned to the other entry, and not left behind, however it ends."""
    turned = PROJECT / "infra" / ".group.bicepparam"
    cli = Cli()
    assert run(cli, "--group", "rg-mine", "--what-if") == 0
    assert cli.calls[-1].startswith(
        "deployment group what-if -g rg-mine --template-file infra/group.bicep --parameters infra/.group.bicepparam"
    )
    assert not turned.exists()
    assert run(Cli(answers={"deployment group what-if": Refusal("no")}), "--group", "rg-mine") == 1
    assert not turned.exists()


def test_every_provider_of_the_templates_is_looked_for() -> None:
    """Those of what is always made and of the network; Azure registers the extras with their first
    resource.
    """
    extras = {"Consumption", "EventGrid", "Resources", "Authorization"}
    used = {name for path in TEMPLATES for name in re.findall(r"Microsoft\.(\w+)/\w+@", code(path))} | {"App"}
    assert {*choices.PROVIDERS, *choices.NETWORK_PROVIDERS, *choices.SCHEDULER_PROVIDERS} == used - extras


def test_the_package_and_azds_folder_hold_the_same(tmp_path: Path) -> None:
    """The lock as requirements.txt in both, and nothing of an earlier time."""
    built = package.build(PROJECT, tmp_path / "app.zip", scheduler=True)
    (tmp_path / "azd").mkdir()
    (tmp_path / "azd" / "old.py").write_text("")
    package.lay_out(PROJECT, tmp_path / "azd", scheduler=True)
    with zipfile.ZipFile(built.path) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    laid_out = {path.relative_to(tmp_path / "azd").as_posix(): path.read_bytes() for path in (tmp_path / "azd").rglob("*.*")}
    assert {name: text for name, text in laid_out.items() if (tmp_path / "azd" / name).is_file()} == packed
    assert b"--hash=sha256:" in packed["requirements.txt"]
