"""`python3 -m infra.tools.deleted restore|purge NAME GROUP LOCATION`: a gateway's deleted accounts
of Azure OpenAI and Content Safety, which keep their names and quota for two days.

As long as one is there, a deployment that makes it again is refused.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.tools import azure
from infra.tools.azure import Azure, AzureError

LIST = "cognitiveservices account list-deleted"
CHOICES = {"restore": "cognitiveservices account recover", "purge": "cognitiveservices account purge"}


@dataclass(frozen=True)
class Account:
    """A deleted account, and where it was."""

    name: str
    location: str

    def __str__(self) -> str:
        return f"{self.name} ({self.location})"


def main(arguments: Sequence[str] | None = None, az: Azure | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m infra.tools.deleted", description="Restore or purge a gateway's deleted accounts.", allow_abbrev=False
    )
    parser.add_argument("choice", choices=CHOICES)
    parser.add_argument("name", type=azure.a_name, help="of the gateway")
    parser.add_argument("group", type=azure.a_name, help="that the accounts were in")
    parser.add_argument("location", type=azure.a_name, help="of the group, which is made again where it is gone")
    given = parser.parse_args(arguments)
    return azure.ended(lambda: _settle_all(az or azure.here(), given.choice, given.name, given.group, given.location))


def _settle_all(az: Azure, choice: str, name: str, group: str, location: str) -> None:
    accounts = of_gateway(az, group, name)
    if not accounts:
        print(f"No account of {name} in {group} is deleted.")
        return
    if choice == "restore":
        azure.make_group(az, group, location)
    settle(az, group, accounts, choice)


def of_gateway(az: Azure, group: str, name: str) -> list[Account]:
    """Those that a deployment would make again; none, with a word, where they cannot be listed."""
    try:
        accounts = among(az.ask(LIST), group)
    except AzureError as error:
        print(
            f'{error.said.strip()}\nDeleted accounts cannot be listed. Where one is in the way: docs/operations.md, "Restore".'
        )
        return []
    # What comes after the gateway's name is Azure's `uniqueString`.
    return [each for each in accounts if re.fullmatch(rf"(oai|cs)-{re.escape(name)}-[a-z0-9]{{13}}", each.name)]


def among(listed: Sequence[Mapping[str, str]], group: str) -> list[Account]:
    """Those of a group, in what the command LIST answers."""
    return [Account(each["name"], each["location"]) for each in listed if azure.is_in(group, each["id"])]


def settle(az: Azure, group: str, accounts: Sequence[Account], choice: str) -> None:
    """`restore` them, into their group, which has to exist; or `purge` them. Raises AzureError."""
    for account in accounts:
        print(f"{choice}: {account}")
        az.do(CHOICES[choice], *where(group, account))


def where(group: str, account: Account) -> tuple[str, ...]:
    """The options that tell one account from all others."""
    return ("-g", group, "-n", account.name, "-l", account.location)


if __name__ == "__main__":
    sys.exit(main())
