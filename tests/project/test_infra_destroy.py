"""infra/destroy, and what deleted accounts leave behind."""

import io

import pytest

from infra.tools import deleted, destroy
from tests.fakes.azure_cli import Cli, Refusal, deleted_account

ACCOUNTS = [{"name": "oai-a", "location": "eastus2"}, {"name": "oai-b", "location": "swedencentral"}]
GROUP = "/subscriptions/s/resourceGroups/rg-test"
PURGE = "cognitiveservices account purge"


def run(cli: Cli, monkeypatch: pytest.MonkeyPatch, answer: str = "rg-test\n") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    return destroy.main(["rg-test"], cli.azure)


@pytest.mark.parametrize("answer", ["", "\n", "y\n", "another\n"])
def test_nothing_is_destroyed_without_the_name_of_the_group(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """A yes is not enough."""
    cli = Cli()
    assert run(cli, monkeypatch, answer) == 1
    assert cli.asked("group delete") == cli.asked(PURGE) == []


def test_the_group_is_destroyed_when_its_name_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model accounts are purged, so that their names and quota are free again: each once,
    whether the list of the deleted knows it yet or not; no other group's.
    """
    listed = [deleted_account("oai-b", "swedencentral", GROUP), deleted_account("oai-c", group=f"{GROUP}-2")]
    cli = Cli(answers={"cognitiveservices account list -g": ACCOUNTS, "cognitiveservices account list-deleted": listed})
    assert run(cli, monkeypatch) == 0
    assert len(cli.asked("group delete -n rg-test --yes")) == 1
    assert cli.asked(PURGE) == [
        f"{PURGE} -g rg-test -n oai-a -l eastus2 -o none",
        f"{PURGE} -g rg-test -n oai-b -l swedencentral -o none",
    ]


def test_what_fails_stops_nothing_and_is_left_to_do_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is tried, and the commands that are left can be pasted."""
    cli = Cli(
        answers={
            "cognitiveservices account list -g": ACCOUNTS,
            "group delete": Refusal("ScopeLocked: remove the lock"),
            f"{PURGE} -g rg-test -n oai-a": Refusal("not deleted"),
            "cognitiveservices account list-deleted": Refusal("AuthorizationFailed"),
        }
    )
    assert run(cli, monkeypatch) == 1
    assert len(cli.asked(PURGE)) == 2
    said = capsys.readouterr().err
    assert "ScopeLocked" in said
    left = said.partition("by hand")[2]
    assert "\n  az group delete -n rg-test --yes\n" in left
    assert f"\n  az {PURGE} -g rg-test -n oai-a -l eastus2" in left
    assert "\n  az cognitiveservices account list-deleted\n" in left
    assert "oai-b" not in left


def test_roles_on_accounts_of_other_groups_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They outlive the identity, and the next one could not get them. Those in the group go with
    it; without a right to take them away, or to look, the command is told.
    """
    elsewhere, within = f"{GROUP}-2/providers/oai-x", f"{GROUP}/providers/st"
    roles = [{"id": "role-1", "scope": elsewhere}, {"id": "role-2", "scope": within}]
    cli = Cli(answers={"identity list": [{"principalId": "p-1"}], "role assignment list --assignee p-1 --all": roles})
    assert run(cli, monkeypatch) == 0
    order = cli.order(("role assignment list", "group delete", "role assignment delete --ids role-1"))
    assert order == sorted(order)
    assert len(cli.asked("role assignment delete")) == 1
    refused = Cli(answers=cli.answers | {"role assignment delete": Refusal("no")})
    assert run(refused, monkeypatch) == 1


def test_a_gateway_that_a_lock_saves_keeps_its_roles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on making videos. What is left takes them away, after the group."""
    roles = [{"id": "role-1", "scope": f"{GROUP}-2/providers/oai-x"}]
    cli = Cli(
        answers={
            "identity list": [{"principalId": "p-1"}],
            "role assignment list": roles,
            "group delete": Refusal("ScopeLocked"),
        }
    )
    assert run(cli, monkeypatch) == 1
    assert cli.asked("role assignment delete") == []
    left = capsys.readouterr().err.partition("by hand")[2].split("\n")
    assert left[2:4] == ["  az group delete -n rg-test --yes", "  az role assignment delete --ids role-1"]


def test_whoever_destroys_sees_in_which_subscription(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the question: another one may have a group of the same name."""
    cli = Cli()
    assert run(cli, monkeypatch, "no\n") == 1
    said = capsys.readouterr().out
    assert said.index("Subscription Subscription") < said.index("Type the name")


def test_a_group_that_is_gone_may_have_left_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a first run that could not purge them."""
    listed = [deleted_account("oai-a", group=GROUP)]
    cli = Cli(answers={"group exists": False, "cognitiveservices account list-deleted": listed})
    assert run(cli, monkeypatch) == 0
    assert cli.asked("group delete") == cli.asked("resource list") == []
    assert len(cli.asked(PURGE)) == 1


def test_deleted_accounts_can_be_settled_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """For azd, which has nobody to ask: those of one gateway in one group."""
    listed = [deleted_account("oai-films-abcdefghijklm", group=GROUP), deleted_account("oai-other-abcdefghijklm", group=GROUP)]
    cli = Cli(answers={"cognitiveservices account list-deleted": listed, "group exists": False})
    assert deleted.main(["restore", "films", "rg-test", "eastus2"], cli.azure) == 0
    assert cli.calls[-2:] == [
        "group create -n rg-test -l eastus2 -o none",
        "cognitiveservices account recover -g rg-test -n oai-films-abcdefghijklm -l eastus2 -o none",
    ]
    nothing = Cli(answers={"cognitiveservices account list-deleted": []})
    assert deleted.main(["purge", "films", "rg-test", "eastus2"], nothing.azure) == 0
    assert "No account" in capsys.readouterr().out
