"""`infra/master-key VAULT [--rotate]`: a random master key for the vault, where it has none. And
what else a deployment asks of vaults.

Nobody sees the key. The Azure CLI reads it from this program: it is in no file, on no screen, in no
list of processes.
"""

import argparse
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.tools import azure
from infra.tools.azure import Azure, AzureError, Stop

MASTER_KEY = "gateway-master-key"
# A role that was just assigned takes up to ten minutes to work, and a new name as long to be known.
_PAUSES = (15.0,) * 40
_PASSING = re.compile(r"\A(?!.*az login)", re.DOTALL)  # anything but a person who is not signed in any more
_STANDARD_INPUT = Path("/dev/stdin")
_REFERENCE = re.compile(r"@Microsoft\.KeyVault\(.*SecretName=([^;)]+)")


def main(arguments: Sequence[str] | None = None, az: Azure | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="infra/master-key", description="A random master key for the vault, if it has none.", allow_abbrev=False
    )
    parser.add_argument("vault", type=azure.a_name)
    parser.add_argument("--rotate", action="store_true", help="a new one in any case; the app takes it after infra/refresh")
    given = parser.parse_args(arguments)
    return azure.ended(lambda: set_master_key(az or azure.here(), given.vault, rotate=given.rotate))


def sign_in(az: Azure) -> None:
    """Have az keep a token for vaults, which works for an hour, while it can still get one: what a
    pipeline is signed in with is good for five minutes, and the resources take longer (Azure CLI,
    issue 28708). Raises AzureError.
    """
    az.do("account get-access-token", "--resource", "https://vault.azure.net")


def set_master_key(az: Azure, vault: str, *, rotate: bool = False) -> None:
    """Waits while the vault does not let us in, ten minutes at most. Raises Stop."""
    try:
        held = az.until_done(lambda: names(az, vault), _PASSING, _PAUSES)
    except AzureError as error:
        raise Stop(
            f"{error}\nNo access to the vault {vault}: that takes the role Key Vault Secrets Officer, and a way to it."
        ) from error
    if MASTER_KEY in held and not rotate:
        print(f"The vault {vault} has one.")
        return
    with _handed_over(f"sk-{secrets.token_urlsafe(32)}") as (file, given):
        az.do(
            "keyvault secret set",
            *("--vault-name", vault, "--name", MASTER_KEY, "--file", file, "--encoding", "utf-8"),
            given=given,
        )
    print(f"The vault {vault} has a new one.")


@contextmanager
def _handed_over(secret: str) -> Iterator[tuple[str, str]]:
    """The file that az is told of, and what it is given to read: where there is no name for that,
    as in Windows, a file that only this user can read, for as long as it takes.
    """
    if _STANDARD_INPUT.exists():
        yield str(_STANDARD_INPUT), secret
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "secret"
        file.write_text(secret, "utf-8")
        yield str(file), ""


def names(az: Azure, vault: str) -> set[str]:
    """The names of the secrets it holds. Raises AzureError."""
    return {each["name"] for each in az.ask("keyvault secret list", "--vault-name", vault)}


def master_key(az: Azure, vault: str) -> str:
    """The key itself, for a test with it. Raises AzureError."""
    return str(az.ask("keyvault secret show", "--vault-name", vault, "--name", MASTER_KEY)["value"])


def references(az: Azure, group: str, name: str) -> set[str]:
    """The names of the secrets that a gateway's settings refer to; none where there is no app yet.
    Settings can be read where the vault cannot. Raises AzureError.
    """
    found: set[str] = set()
    for app in az.ask("functionapp list", "-g", group):
        if _is_of(app, name):
            settings = az.ask("functionapp config appsettings list", "-g", group, "-n", app["name"])
            found |= {match[1] for each in settings if (match := _REFERENCE.match(each["value"] or ""))}
    return found


def found(az: Azure, group: str, name: str) -> str | None:
    """The gateway's vault in this group. Raises AzureError."""
    listed = az.ask("keyvault list")
    return next((str(each["name"]) for each in listed if _is_of(each, name) and azure.is_in(group, each["id"])), None)


def bring_back(az: Azure, group: str, name: str, location: str) -> str | None:
    """Recover the gateway's vault, with its secrets, where it was deleted: for a week its name is
    taken, it cannot be purged, and no other can be made with that name. Raises AzureError.
    """
    try:
        listed = az.ask("keyvault list-deleted", "--resource-type", "vault")
    except AzureError as error:
        print(f'{error.said.strip()}\nDeleted vaults cannot be listed. Where one is in the way: docs/operations.md, "Restore".')
        return None
    for each in listed:
        if _is_of(each["properties"], name) and azure.is_in(group, each["properties"]["vaultId"]):
            print(f"Bringing back the deleted vault {each['name']}")
            azure.make_group(az, group, location)
            where = ("--resource-group", group, "--location", each["properties"]["location"])
            az.do("keyvault recover", "--name", each["name"], *where)
            return str(each["name"])
    return None


def _is_of(resource: Mapping[str, Any], name: str) -> bool:
    return (resource.get("tags") or {}).get("azd-env-name") == name


if __name__ == "__main__":
    sys.exit(main())
