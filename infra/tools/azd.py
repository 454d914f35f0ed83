"""`python3 -m infra.tools.azd HOOK`: what azure.yaml has `azd` run before and after its own steps,
the same in every shell. What they do is what infra/deploy does.
"""

import argparse
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from infra.tools import azure, choices, deleted, package, smoke, vault
from infra.tools.azure import Azure, Stop
from infra.tools.refresh import refresh

# What azure.yaml calls `dist`.
LAID_OUT = package.CHECKOUT / "dist" / "azd"
Azd = Callable[..., str]


def main(arguments: Sequence[str] | None = None, az: Azure | None = None, azd: Azd | None = None) -> int:
    """Returns the exit code. `azd` runs azd with some words."""
    parser = argparse.ArgumentParser(prog="python3 -m infra.tools.azd", description="A hook of azd's.", allow_abbrev=False)
    parser.add_argument("hook", choices=("preprovision", "postprovision", "prepackage", "postdeploy"))
    given = parser.parse_args(arguments)
    cli = az or azure.here()
    hooks: dict[str, Callable[[], None]] = {
        "preprovision": lambda: preprovision(cli, azd or _azd),
        "postprovision": lambda: vault.set_master_key(cli, cli.environment["GATEWAY_VAULT"]),
        "prepackage": lambda: prepackage(cli),
        "postdeploy": lambda: postdeploy(cli),
    }
    return azure.ended(hooks[given.hook])


def preprovision(az: Azure, azd: Azd) -> None:
    """The checks of infra/deploy; and azd, which does not tell main.bicepparam what it is signed in
    as, is told. Raises Stop.
    """
    _check_subscription(az)
    principal = _principal_type(azd)
    azd("env", "set", "AZURE_PRINCIPAL_TYPE", principal)
    az = replace(az, environment={**az.environment, "AZURE_PRINCIPAL_TYPE": principal})
    chosen = choices.read(az)
    if chosen.is_private:
        raise Stop("infra/main.bicepparam asks for a private network, which azd's hooks are not in: deploy with infra/deploy.")
    choices.check(az, chosen)
    group = f"rg-{chosen.name}"
    _check_deleted(az, chosen, group)
    vault.sign_in(az)
    if vault.found(az, group, chosen.name) is None:
        vault.bring_back(az, group, chosen.name, chosen.location)


def _check_subscription(az: Azure) -> None:
    """azd and az are signed in each by itself. azd may not have asked for its subscription yet."""
    found = az.ask("account show")["id"]
    wanted = az.environment.get("AZURE_SUBSCRIPTION_ID", found)
    if wanted != found:
        raise Stop(f"azd deploys into another subscription than az uses: az account set --subscription {wanted}")


def _principal_type(azd: Azd) -> str:
    """By the claim `idtyp` of azd's own token, which Entra sets to `app` for what is no person."""
    token = json.loads(azd("auth", "token", "--output", "json"))["token"]
    return "ServicePrincipal" if _claims(token).get("idtyp") == "app" else "User"


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _check_deleted(az: Azure, chosen: choices.Choices, group: str) -> None:
    accounts = deleted.of_gateway(az, group, chosen.name)
    if accounts:
        command = f"{chosen.name} {group} {chosen.location}"
        raise Stop(
            f"Deleted lately, and in the way: {', '.join(map(str, accounts))}. Have them back, or have them go for good:\n"
            f"  python3 -m infra.tools.deleted restore {command}\n  python3 -m infra.tools.deleted purge {command}"
        )


def prepackage(az: Azure) -> None:
    """What azd zips is the package: with the lock as requirements.txt, and the host.json of the
    chosen backend. Raises Stop.
    """
    package.lay_out(package.CHECKOUT, LAID_OUT, scheduler=choices.read(az).durable == "scheduler")


def postdeploy(az: Azure) -> None:
    """Raises Stop."""
    known = az.environment
    refresh(az, known["AZURE_RESOURCE_GROUP"], known["GATEWAY_APP"])
    key = vault.master_key(az, known["GATEWAY_VAULT"])
    smoke.check(smoke.Client(known["GATEWAY_URL"], key, az.sleep), video=True)


def _azd(*words: str) -> str:
    result = subprocess.run(["azd", *words], capture_output=True, encoding="utf-8", check=False)
    if result.returncode != 0:
        raise Stop(f"{result.stderr.strip()}\nIt was: azd {' '.join(words)}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
