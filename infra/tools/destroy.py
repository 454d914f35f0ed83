"""`infra/destroy GROUP`: delete the gateway's resource group with every video, key and log in it.
Asks first.

It tries everything, and prints the commands that are left to be run by hand.
"""

import argparse
import sys
from collections.abc import Sequence

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
    exists = az.ask("group exists", "-n", group)
    if exists:
        az.show("resource list", "-g", group, "--query", "[].{name:name,type:type}", "-o", "table")
    else:
        print(f"There is no group {group}; what is left of it are deleted accounts.")
    _confirm(group)
    left: list[str] = []
    # Deleted accounts keep their names and quota, and what was paid for in advance, until they are
    # purged. A list of the deleted may be late: those that are there now will be on it.
    accounts = _accounts(az, group) if exists else []
    if exists:
        _try(az, left, "group delete", "-n", group, "--yes")
    for account in dict.fromkeys([*accounts, *_deleted_accounts(az, group, left)]):
        _try(az, left, deleted.CHOICES["purge"], *deleted.where(group, account))
    if left:
        raise Stop("\nThis is left to be done by hand, in this order:\n" + "".join(f"\n  {command}" for command in left))
    print("For seven days infra/deploy brings the vault back with its secrets (docs/operations.md, 'Restore').")


def _confirm(group: str) -> None:
    try:
        answer = input("All of this will be deleted. Type the name of the group to go on: ")
    except EOFError:
        answer = ""
    if answer.strip() != group:
        raise Stop("Nothing was changed.")


def _accounts(az: Azure, group: str) -> list[Account]:
    command = ("cognitiveservices account list", "-g", group)
    try:
        return [Account(each["name"], each["location"]) for each in az.ask(*command)]
    except AzureError as error:
        print(error, file=sys.stderr)
        return []


def _deleted_accounts(az: Azure, group: str, left: list[str]) -> list[Account]:
    try:
        return deleted.of_group(az, group)
    except AzureError as error:
        print(error, file=sys.stderr)
        left.append("az cognitiveservices account list-deleted  # and purge those of the group")
        return []


def _try(az: Azure, left: list[str], command: str, *options: str) -> None:
    """Do it, or note it as left to do."""
    try:
        az.do(command, *options)
    except AzureError as error:
        print(error, file=sys.stderr)
        left.append(azure.by_hand([*command.split(), *options]))


if __name__ == "__main__":
    sys.exit(main())
