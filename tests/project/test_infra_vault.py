"""The master key and the app that reads it: infra/master-key and infra/refresh."""

import re
from pathlib import Path

import pytest

from infra.tools import refresh, vault
from infra.tools.azure import AzureError
from tests.fakes.azure_cli import NO_ROLE, Cli, InTurn, Refusal, using


def test_the_master_key_is_random_and_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """It travels from this program to az's input: not on a command line, not on the screen."""
    made = []
    for _ in range(2):
        cli = Cli()
        assert vault.main(["kv-x"], cli.azure) == 0
        (key,) = cli.given
        said = capsys.readouterr()
        assert re.fullmatch(r"sk-[\w-]{43}", key)
        assert key not in said.out + said.err + "".join(cli.calls)
        made.append(key)
    assert made[0] != made[1]


def test_without_a_name_for_standard_input_a_file_of_this_user_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in Windows: nobody else can open it, and it is gone afterwards."""
    monkeypatch.setattr(vault, "_STANDARD_INPUT", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cli = Cli()
    read: list[tuple[str, int]] = []

    def run(words: list[str], **rest: object) -> object:
        if "--file" in words:
            file = Path(words[words.index("--file") + 1])
            read.append((file.read_text(), file.parent.stat().st_mode & 0o077))
        return Cli.run(cli, words, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cli, "run", run)
    assert vault.main(["kv-x"], cli.azure) == 0
    ((key, others),) = read
    assert key.startswith("sk-")
    assert others == 0
    assert list(tmp_path.iterdir()) == []


def test_a_master_key_that_exists_is_kept() -> None:
    """Deploying again does not lock the operator out; rotating is asked for by name."""
    kept, rotated = Cli(held={"gateway-master-key"}), Cli(held={"gateway-master-key"})
    assert vault.main(["kv-x"], kept.azure) == 0
    assert kept.given == []
    assert vault.main(["kv-x", "--rotate"], rotated.azure) == 0
    assert len(rotated.given) == 1


def test_a_vault_is_waited_for_while_its_role_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten minutes, and then it is said what is needed."""
    late = Cli(answers={"keyvault secret list": InTurn(NO_ROLE, NO_ROLE, [])})
    assert vault.main(["kv-x"], late.azure) == 0
    assert late.pauses == [15, 15]
    never = Cli(answers={"keyvault secret list": NO_ROLE})
    assert vault.main(["kv-x"], never.azure) == 1
    assert sum(never.pauses) == 600
    assert "Key Vault Secrets Officer" in capsys.readouterr().err
    assert never.given == []
    signed_out = Cli(answers={"keyvault secret list": Refusal("ERROR: AADSTS700082: expired.\nInteractively: az login")})
    assert vault.main(["kv-x"], signed_out.azure) == 1
    assert signed_out.pauses == []


def test_references_are_those_of_the_gateways_app() -> None:
    """The secrets' names; nothing where there is no app yet; a refusal is not taken for that."""
    cli = Cli(answers=using("a-key", "b-key"))
    assert vault.references(cli.azure, "rg", "video-gateway") == {"a-key", "b-key"}
    assert len(cli.asked("functionapp config appsettings list -g rg -n func-x")) == len(cli.asked("functionapp config")) == 1
    nothing = Cli()
    assert vault.references(nothing.azure, "rg", "video-gateway") == set()
    assert nothing.asked("functionapp config") == []
    refused = Cli(answers=using("a-key") | {"functionapp config appsettings list": Refusal("no")})
    with pytest.raises(AzureError):
        vault.references(refused.azure, "rg", "video-gateway")


def test_references_that_cannot_be_refreshed_are_no_reason_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """The restart after it has the same end; it is said."""
    cli = Cli(answers={"rest ": Refusal("no")})
    assert refresh.main(["rg", "func-x"], cli.azure) == 0
    assert "were not refreshed" in capsys.readouterr().out
    assert cli.calls[-1] == "functionapp restart -g rg -n func-x -o none"
