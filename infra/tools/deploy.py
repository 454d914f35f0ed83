"""`infra/deploy`: the gateway, into the subscription that `az` is signed in to. May be repeated: it
brings up to date what exists.

What would change is shown; after a yes come the change, the code and a test of both. The choices
are in infra/main.bicepparam. AZURE_ENV_NAME and AZURE_LOCATION, where they are set, name the
gateway and its region.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.tools import azure, choices, deleted, package, smoke, vault
from infra.tools.azure import Azure, AzureError, Stop
from infra.tools.choices import Choices
from infra.tools.refresh import refresh
from infra.tools.target import Target
from infra.tools.upload import upload

_NOT_HELD = "what the vault does not hold. Set it, and run this again"


@dataclass(frozen=True)
class Options:
    """What was asked for. `group`: one that exists, for people who may not make one. `deleted`:
    what becomes of deleted accounts. `given`: the words themselves, to be repeated elsewhere.
    """

    what_if: bool
    yes: bool
    video: bool
    group: str | None
    secrets_are_set: bool
    deleted: str | None
    given: str


def main(arguments: Sequence[str] | None = None, az: Azure | None = None) -> int:
    """Returns the exit code."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    return azure.ended(lambda: deploy(az or azure.here(), options))


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="infra/deploy",
        description="Deploy the gateway, or bring it up to date: shows what would change, asks, does it, tests it.",
        epilog="The choices are in infra/main.bicepparam; AZURE_ENV_NAME and AZURE_LOCATION go before it.",
        allow_abbrev=False,
    )
    parser.add_argument("--what-if", action="store_true", help="only show what would change; needs no right to change it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--no-video", action="store_true", help="without the video that the test makes, and pays for")
    parser.add_argument("--group", type=azure.a_name, help="a group that exists, for people who may not make one")
    parser.add_argument("--secrets-are-set", action="store_true", help="you know that the vault, closed from here, holds them")
    parser.add_argument("--deleted", choices=deleted.CHOICES, help="what to do with accounts that were deleted lately")
    given = parser.parse_args(arguments)
    return Options(
        what_if=given.what_if,
        yes=given.yes,
        video=not given.no_video,
        group=given.group,
        secrets_are_set=given.secrets_are_set,
        deleted=given.deleted,
        given=shlex.join(arguments),
    )


def deploy(az: Azure, options: Options) -> None:
    """All of it, from the checks to the test. Raises Stop."""
    azure.heading("Checks")
    az = choices.signed_in(az)
    chosen = choices.read(az)
    choices.check(az, chosen)
    target = Target(az, chosen, options.group or f"rg-{chosen.name}", exists=options.group is not None)
    run = Deployment(az, options, chosen, target)
    run.settle_deleted()
    if not options.what_if:
        vault.sign_in(az)
    azure.heading("What would change")
    target.preview(only_looking=options.what_if)
    if options.what_if:
        return
    run.confirm()
    azure.heading("Vault")
    runs = run.prepare_vault()
    azure.heading("Infrastructure")
    target.make()
    run.finish(runs=runs)


@dataclass(frozen=True)
class Deployment:
    """One run, towards one target."""

    az: Azure
    options: Options
    chosen: Choices
    target: Target

    def settle_deleted(self) -> None:
        """Deleted accounts are in the way of what makes them again, even of its preview. Raises
        Stop.
        """
        accounts = deleted.of_gateway(self.az, self.target.group, self.chosen.name)
        if not accounts:
            return
        print(f"Deleted lately, and in the way: {', '.join(map(str, accounts))}.")
        if self.options.what_if:
            return
        choice = self.options.deleted or self._asked("Restore or purge them? [restore/purge] ")
        if choice not in deleted.CHOICES:
            raise Stop("Nothing was changed. Say --deleted restore, or --deleted purge: what is purged does not come back.")
        if choice == "restore":
            azure.make_group(self.az, self.target.group, self.chosen.location)
        deleted.settle(self.az, self.target.group, accounts, choice)

    def _asked(self, question: str) -> str:
        if self.options.yes:
            return ""
        try:
            return input(question).strip()
        except EOFError:
            return ""

    def confirm(self) -> None:
        """Raises Stop for anything but a yes."""
        if not self.options.yes and self._asked("Go on? [y/N] ") != "y":
            raise Stop("Nothing was changed.")

    def prepare_vault(self) -> bool:
        """Whether a gateway may run that uses the vault: a setting must not refer to a new secret
        before the vault has it. The master key is made later. Raises Stop.
        """
        name = vault.found(self.az, self.target.group, self.chosen.name)
        if name is None:
            vault.bring_back(self.az, self.target.group, self.chosen.name, self.chosen.location)
            return False
        try:
            held = vault.names(self.az, name)
        except AzureError as error:
            print(f"{error.said.strip()}\nThe vault {name} does not let us in.")
            return self._compare_with_references(name)
        self._require_secrets(name, {*held, vault.MASTER_KEY}, _NOT_HELD)
        return True

    def _compare_with_references(self, name: str) -> bool:
        """What a running gateway refers to can be told from anywhere; one that refers to nothing
        has never run.
        """
        referred = vault.references(self.az, self.target.group, self.chosen.name)
        if referred and not self.options.secrets_are_set:
            self._require_secrets(
                name,
                referred,
                "what the running gateway does not use yet, and the vault cannot be asked from here. Set it where it can, "
                "and run this again there, or here with --secrets-are-set",
            )
        return bool(referred)

    def _require_secrets(self, name: str, held: set[str], complaint: str) -> None:
        """With a reference to nothing the app answers nothing."""
        missing = [secret for secret in self.chosen.secrets.values() if secret not in held]
        if missing:
            set_it = f"az keyvault secret set --vault-name {name} --file FILE --encoding utf-8 -o none --name"
            lines = "".join(f"\n  {set_it} {shlex.quote(secret)}" for secret in missing)
            raise Stop(f"settings.secrets in infra/main.bicepparam names {complaint}:{lines}")

    def finish(self, *, runs: bool) -> None:
        """Secrets, code and test: what of it can be done from here. Raises Stop."""
        made = self.target.outputs()
        name, app, url = made["GATEWAY_VAULT"], made["GATEWAY_APP"], made["GATEWAY_URL"]
        azure.heading("Secrets")
        inside = self._is_inside(name)
        if inside:
            vault.set_master_key(self.az, name)
            self._require_secrets(name, vault.names(self.az, name), _NOT_HELD)
        elif self.chosen.network == "private":
            raise Stop(f"The resources are made; secrets, code and test are not done. {self._left()}")
        azure.heading("Code")
        self._send_code(app)
        if inside:
            azure.heading("Test")
            self._test(url, name)
        else:
            azure.heading("Left to do")
            self._say_what_is_left(runs=runs)

    def _is_inside(self, name: str) -> bool:
        """From outside a private network the vault refuses at once. From inside it does while a new
        role does not work yet, and says so.
        """
        if not self.chosen.is_private:
            return True
        try:
            vault.names(self.az, name)
        except AzureError as error:
            if "ForbiddenByRbac" not in error.said:
                print(f"{error.said.strip()}\nThe vault {name} is in a private network, and this machine is not.")
                return False
        return True

    def _left(self) -> str:
        variables = f"AZURE_ENV_NAME={self.chosen.name} AZURE_LOCATION={self.chosen.location}"
        command = f"{variables} infra/deploy {self.options.given}".strip()
        return f"From a machine inside the network, signed in as here:\n\n  {command}"

    def _say_what_is_left(self, *, runs: bool) -> None:
        if not runs:
            print("Until the vault holds the secrets the gateway answers nothing.")
        print(f"Resources and code are deployed; no test was made. {self._left()}")

    def _send_code(self, app: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            built = package.build(package.CHECKOUT, Path(folder) / "app.zip", scheduler=self.chosen.durable == "scheduler")
            upload(self.az, self.target.group, app, built.path)
        refresh(self.az, self.target.group, app)

    def _test(self, url: str, name: str) -> None:
        smoke.check(smoke.Client(url, vault.master_key(self.az, name), self.az.sleep), video=self.options.video)
        print(_FIRST_KEY.format(url=url, vault=name))


# curl reads the key from a file that is none: arguments are seen by every user of a machine.
_FIRST_KEY = """
The gateway is at {url}

A first key, for a person or a program, with a budget of ten dollars:

  master=$(az keyvault secret show --vault-name {vault} --name gateway-master-key --query value -o tsv)
  curl {url}/key/generate -H @<(echo "Authorization: Bearer $master") -H 'Content-Type: application/json' \\
    -d '{{"key_alias": "first", "max_budget": 10}}'"""


if __name__ == "__main__":
    sys.exit(main())
