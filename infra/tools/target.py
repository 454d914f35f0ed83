"""Where the templates are deployed: into a subscription, in which they make their group, or into a
group that exists.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra.tools import choices
from infra.tools.azure import Azure, AzureError, Stop
from infra.tools.choices import Choices
from infra.tools.package import CHECKOUT

# What Azure's own side of a deployment answers while something else is at work, or is not known
# everywhere yet. The third and the fourth: an account that several private endpoints are made for.
_PASSING = re.compile(
    "AnotherOperationInProgress|DeploymentActive|AccountProvisioningStateInvalid|StorageAccountOperationInProgress"
    "|PrincipalNotFound|RetryableError|TooManyRequests"
    "|InternalServerError|ServiceUnavailable|GatewayTimeout|ServerTimeout"
)
_PAUSES = (30.0, 60.0, 120.0)
_TURNED = "infra/.group.bicepparam"


@dataclass(frozen=True)
class Target:
    """`exists`: the group was there before, and is deployed into with rights on it alone."""

    az: Azure
    chosen: Choices
    group: str
    exists: bool

    def preview(self, *, only_looking: bool) -> None:
        """Show what would change. Who only looks need not be allowed to change anything. Raises
        Stop.
        """
        level = ("--validation-level", "ProviderNoRbac" if only_looking else "Provider")
        with self._template() as template, _with_a_way_out():
            if self.exists:
                self.az.show("deployment group what-if", *template, *level)
            else:
                self.az.show("deployment sub what-if", *template, *level)

    def make(self) -> None:
        """Make the resources, or bring them up to date. Raises Stop."""
        with self._template() as template, _with_a_way_out():
            self.az.until_done(lambda: self._make(template), _PASSING, _PAUSES)

    def _make(self, template: tuple[str, ...]) -> None:
        if self.exists:
            self.az.do("deployment group create", "--name", self._name, *template)
        else:
            self.az.do("deployment sub create", "--name", self._name, *template)

    def outputs(self) -> dict[str, str]:
        """What the templates say of what they made. Raises AzureError."""
        if self.exists:
            shown = self.az.ask("deployment group show", "--name", self._name, "-g", self.group)
        else:
            shown = self.az.ask("deployment sub show", "--name", self._name)
        return {name: str(each["value"]) for name, each in shown["properties"]["outputs"].items()}

    @property
    def _name(self) -> str:
        return f"gateway-{self.chosen.name}"

    @contextmanager
    def _template(self) -> Iterator[tuple[str, ...]]:
        """The options that name place, template and parameters. Both entries take the same
        parameters, and a parameter file names the entry it is for.
        """
        if not self.exists:
            template = ("--template-file", "infra/main.bicep", "--parameters", choices.PARAMETERS)
            yield ("--location", self.chosen.location, *template)
            return
        turned = CHECKOUT / _TURNED
        text = (CHECKOUT / choices.PARAMETERS).read_text("utf-8")
        try:
            turned.write_text(text.replace("using 'main.bicep'", "using 'group.bicep'"), "utf-8")
            yield ("-g", self.group, "--template-file", "infra/group.bicep", "--parameters", _TURNED)
        finally:
            turned.unlink(missing_ok=True)


@contextmanager
def _with_a_way_out() -> Iterator[None]:
    """Azure says what is wrong, and seldom what to do. Raises Stop."""
    try:
        yield
    except AzureError as error:
        raise Stop(f'{error}\nWhat to do: docs/operations.md, "When a deployment fails".') from error
