"""`infra/destroy GROUP`: delete the gateway's resource group with every video, key and log in it.
Asks first.

It tries everything, and prints the commands that are left to be run by hand.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.tools import azure, deleted
from infra.tools.azure import Azure, AzureError, Stop
from infra.tools.deleted import Account


def main(arguments: Sequence[str] | None = None, az: Azure | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="infra/destroy", description="Delete a group with every video, key and log in it.", allow_abbrev=False
    )
    parser.add_argument("group", type=azure.a_name)
    given = parser.parse_args(arguments)
    return azure.ended(lambda: destroy(az or azure.here(), given.group))


def destroy(az: Azure, group: str) -> None:
    """May be repeated: a group that is gone may have left accounts. Raises Stop where something is
    left to do.
    """
    print(f"Subscription {az.ask('account show')['name']}")
    exists = az.ask("group exists", "-n", group)
    if exists:
        az.show("resource list", "-g", group, "--query", "[].{name:name,type:type}", "-o", "table")
    else:
        print(f"There is no group {group}; what is left of it are deleted accounts.")
    _confirm(group)
    work = Work(az, group)
    # Asked before: afterwards nobody knows the identities, and the list of the deleted may be late.
    accounts, roles = (work.accounts(), work.roles_elsewhere()) if exists else ([], [])
    gone = not exists or work.do("group delete", "-n", group, "--yes")
    for account in dict.fromkeys([*accounts, *work.deleted_accounts()]):
        work.do(deleted.CHOICES["purge"], *deleted.where(group, account))
    # A gateway that is still there, behind a lock, goes on making videos with them.
    take_away = work.do if gone else work.leave
    for role in roles:
        take_away("role assignment delete", "--ids", role)
    if work.left:
        raise Stop("\nThis is left to be done by hand, in this order:\n" + "".join(f"\n  {command}" for command in work.left))
    print("For seven days infra/deploy brings the vault back with its secrets (docs/operations.md, 'Restore').")


def _confirm(group: str) -> None:
    try:
        answer = input("All of this will be deleted. Type the name of the group to go on: ")
    except EOFError:
        answer = ""
    if answer.strip() != group:
        raise Stop("Nothing was changed.")


@dataclass(frozen=True)
class Work:
    """What is tried of one group's end; `left` are the commands that failed."""

    az: Azure
    group: str
    left: list[str] = field(default_factory=list)

    def do(self, command: str, *options: str) -> bool:
        """Whether it was done; else it is left to do."""
        try:
            self.az.do(command, *options)
        except AzureError as error:
            print(error, file=sys.stderr)
            self.leave(command, *options)
            return False
        return True

    def leave(self, command: str, *options: str) -> None:
        """Leave it to be done by hand."""
        self.left.append(azure.by_hand([*command.split(), *options]))

    def _ask(self, command: str, *options: str) -> list[Any]:
        """What it answers; nothing where it fails, which somebody has to look at then."""
        try:
            return list(self.az.ask(command, *options) or [])
        except AzureError as error:
            print(error, file=sys.stderr)
            self.leave(command, *options)
            return []

    def accounts(self) -> list[Account]:
        """Of Azure OpenAI and Content Safety. Deleted ones keep their names and quota, and what was
        paid for in advance, until they are purged.
        """
        return [
            Account(each["name"], each["location"]) for each in self._ask("cognitiveservices account list", "-g", self.group)
        ]

    def deleted_accounts(self) -> list[Account]:
        """Those that were deleted before this, too."""
        return deleted.among(self._ask(deleted.LIST), self.group)

    def roles_elsewhere(self) -> list[str]:
        """Role assignments on accounts of other groups. They outlive the identity, and are in the
        way of the next one: the name of an assignment follows from the identity's.
        """
        return [
            role["id"]
            for identity in self._ask("identity list", "-g", self.group)
            for role in self._ask("role assignment list", "--assignee", identity["principalId"], "--all")
            if not azure.is_in(self.group, role["scope"])
        ]


if __name__ == "__main__":
    sys.exit(main())
