"""The package on its way to the app. What az calls a failure there often is none, or passes: this
tells the three apart, by what az 2.91 prints.
"""

import re
import sys
from pathlib import Path

from infra.tools.azure import Azure, AzureError, Stop

# az waits for the triggers only after the code was taken; what it says from then on is about its
# own look at the app, which needs a right (to list host keys), a way (into a private network) and
# an app that starts at once.
_TAKEN = re.compile(r"Waiting for sync triggers|Deployment was successful but|Failed to fetch host (?:key|url)")
# A role that was just assigned takes up to ten minutes to work; until then the site, or the storage
# behind it, answers 403. The others: another deployment runs, the site restarts, or its answer was
# lost, and then sending the same package again does no harm.
_PASSING = re.compile(
    r"status code\D*(?:403|409|429|5\d\d)\b|\b403\b\D*forbidden|forbidden\D*\b403\b|AuthorizationPermissionMismatch"
    r"|There may be an ongoing deployment|another deployment is in progress|was partially successful"
    r"|Failed to retrieve deployment status|Timeout reached by the command"
    r"|Connection (?:aborted|reset|refused)|RemoteDisconnected|Max retries exceeded|Read timed out",
    re.IGNORECASE,
)
_PAUSES = (15.0, 30.0, 60.0, 60.0, 120.0, 120.0, 120.0, 120.0)


def upload(az: Azure, group: str, app: str, package: Path) -> None:
    """Returns when the app has the code, whether or not az found it in good health: a test of the
    gateway decides that. Raises Stop.
    """
    try:
        az.until_done(lambda: _send(az, group, app, package), _PASSING, _PAUSES)
    except AzureError as error:
        raise Stop(f"{error}\nThe code was not deployed.") from error


def _send(az: Azure, group: str, app: str, package: Path) -> None:
    source = ("--src", str(package), "--build-remote", "true")
    try:
        az.do("functionapp deployment source config-zip", "-g", group, "-n", app, *source)
    except AzureError as error:
        if not _TAKEN.search(error.said):
            raise
        print(f"{error.said.strip()}\nThe code is there all the same; the test tells whether it works.", file=sys.stderr)
