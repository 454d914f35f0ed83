"""The ways into Azure that are not typed by hand: azd, and GitHub Actions."""

import re
from pathlib import Path

import pytest
import yaml

from tests.bicep import INFRA, PROJECT, resources

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))


def test_azd_finds_the_site() -> None:
    """The service is called what the site's tag says, and azd's hooks run the same programs as infra/deploy."""
    described = yaml.safe_load((PROJECT / "azure.yaml").read_text())
    (site,) = resources("Microsoft.Web/sites")
    (service,) = described["services"]
    assert f"'azd-service-name': '{service}'" in site.body
    deploy = (INFRA / "deploy").read_text()
    for program in ("infra/master-key", "python3 -m local.smoke"):
        assert program in str(described["hooks"])
        assert program in deploy


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_hold_no_secrets_and_trust_no_tag(path: Path) -> None:
    """Actions are pinned by commit, tokens come from OIDC, and a job has the permissions it names."""
    text = path.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each)] == []
    assert "secrets." not in text
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert all("permissions" in job for job in workflow["jobs"].values())
    assert "pull_request_target" not in text
    # Nothing that a pull request says is put into a script.
    assert not re.search(r"run:.*\$\{\{", text)


def test_the_workflow_tests_before_it_deploys() -> None:
    """A pull request shows what would change; main is deployed, one at a time."""
    jobs = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]
    assert jobs["what-if"]["needs"] == jobs["deploy"]["needs"] == "test"
    assert "infra/deploy --what-if" in str(jobs["what-if"]["steps"])
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert jobs["deploy"]["concurrency"]["cancel-in-progress"] is False
