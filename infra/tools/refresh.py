"""`infra/refresh GROUP APP`: have the app read its secrets anew.

It may have looked for one before there was one, and Azure remembers for a day what it found.
"""

import argparse
import sys
from collections.abc import Sequence

from infra.tools import azure
from infra.tools.azure import Azure, AzureError

_REFRESH = "/config/configreferences/appsettings/refresh?api-version=2022-03-01"


def main(arguments: Sequence[str] | None = None, az: Azure | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="infra/refresh", description="Have the app read its secrets anew.", allow_abbrev=False
    )
    parser.add_argument("group", type=azure.a_name)
    parser.add_argument("app", type=azure.a_name)
    given = parser.parse_args(arguments)
    return azure.ended(lambda: refresh(az or azure.here(), given.group, given.app))


def refresh(az: Azure, group: str, app: str) -> None:
    """The restart has the same end where the first call is refused. Raises AzureError."""
    site = az.ask("functionapp show", "-g", group, "-n", app)["id"]
    try:
        az.do("rest", "--method", "post", "--url", site + _REFRESH)
    except AzureError as error:
        print(
            f"{error.said.strip()}\nThe references to the vault were not refreshed; the restart does it, or Azure within a day."
        )
    az.do("functionapp restart", "-g", group, "-n", app)


if __name__ == "__main__":
    sys.exit(main())
