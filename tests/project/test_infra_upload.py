"""The package on its way: what az 2.91 calls a failure, by its own words."""

from pathlib import Path

import pytest

from infra.tools.azure import Stop
from infra.tools.upload import upload
from tests.fakes.azure_cli import Cli, InTurn, Refusal

# What az writes before its own look at the app, and the ends of that look that it calls failures.
TAKEN = "WARNING: Waiting for sync triggers...\nWARNING: Checking the health of the function app\nERROR: "
HEALTH = (
    f"{TAKEN}Deployment was successful but the app appears to be unhealthy. Please check the app logs.",
    f"{TAKEN}Failed to fetch host key to check for function app status",
    f"{TAKEN}('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    "ERROR: Failed to fetch host url for function app",
)
PASSING = (
    "An error occured during deployment. Status Code: 403, Details: Forbidden",
    "Failed to upload blob: Response status code does not indicate success: 403 (This request is not authorized)",
    "ERROR: Operation returned an invalid status: Forbidden (403)",
    "ErrorCode: AuthorizationPermissionMismatch",
    "There may be an ongoing deployment. Please track your deployment in https://x.scm/api/deployments/latest",
    "An error occured during deployment. Status Code: 409, Details: ",
    "An error occured during deployment. Status Code: 429, Details: ",
    "An error occured during deployment. Status Code: 502, Details: <html>",
    "An error occured during deployment. Status Code: 503, Details: ",
    "Deployment was cancelled and another deployment is in progress.",
    "Deployment was partially successful. These are the deployment logs:\n[]",
    "Failed to retrieve deployment status. Please try again in a few minutes.",
    "Timeout reached by the command, however, the deployment operation\n is still on-going.",
    "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
    "HTTPSConnectionPool(host='x.scm', port=443): Max retries exceeded with url: /api/publish",
)
FINAL = (
    "Zip deployment failed. {'status': 3}. These are the deployment logs: [Could not find a version of av==17.0.403]",
    "An error occured during deployment. Status Code: 400, Details: see /deployments/403",
    "Deployment was cancelled.",
    "The function app 'func-x' was not found in resource group 'rg'.",
)
ACCEPTED = "WARNING: Deployment endpoint responded with status code 202 for deployment id 5034\nERROR: "
SEND = "functionapp deployment source config-zip"


def send(*answers: object) -> Cli:
    cli = Cli(answers={SEND: InTurn(*answers)})
    upload(cli.azure, "rg", "func-x", Path("app.zip"))
    return cli


@pytest.mark.parametrize("said", HEALTH)
def test_code_that_was_taken_is_left_to_the_test(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """az looks at an app that starts for the first time, and with a right that not everybody has;
    it is told as a warning.
    """
    assert len(send(Refusal(said)).calls) == 1
    assert "the test tells whether it works" in capsys.readouterr().err


@pytest.mark.parametrize("said", PASSING)
def test_what_passes_is_waited_out(said: str) -> None:
    """Twice, and then it works; each pause is at least as long as the one before."""
    cli = send(Refusal(said), Refusal(ACCEPTED + said), None)
    assert len(cli.calls) == 3
    assert cli.pauses == [15, 30]


def test_the_waiting_has_an_end() -> None:
    """After more than the ten minutes that a new role takes; az's last words are told."""
    cli = Cli(answers={SEND: Refusal(PASSING[0])})
    with pytest.raises(Stop, match=r"Status Code: 403(.|\n)*The code was not deployed"):
        upload(cli.azure, "rg", "func-x", Path("app.zip"))
    assert len(cli.calls) == 9
    assert 600 <= sum(cli.pauses) <= 900
    assert cli.pauses == sorted(cli.pauses)


@pytest.mark.parametrize("said", FINAL)
def test_anything_else_is_not_repeated(said: str) -> None:
    """A 403 is a status, not three digits of something else."""
    cli = Cli(answers={SEND: Refusal(ACCEPTED + said)})
    with pytest.raises(Stop, match="was not deployed"):
        upload(cli.azure, "rg", "func-x", Path("app.zip"))
    assert len(cli.calls) == 1
