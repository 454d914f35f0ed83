"""The ways into Azure that are not typed by hand: azd, and GitHub Actions."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.project.bicep import INFRA, PROJECT, resources

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
# What GitHub's own token of each job may do, and that it may be exchanged for one of Entra.
PERMISSIONS = {
    "test": {"contents": "read"},
    "what-if": {"contents": "read", "id-token": "write"},
    "deploy": {"contents": "read", "id-token": "write"},
}


def test_azd_finds_the_site() -> None:
    """The service is called what the site's tag says, and azd's hooks run the same programs as
    infra/deploy.
    """
    described = yaml.safe_load((PROJECT / "azure.yaml").read_text())
    (site,) = resources("Microsoft.Web/sites")
    (service,) = described["services"]
    assert f"'azd-service-name': '{service}'" in site.body
    deploy = (INFRA / "deploy").read_text()
    for program in ("infra/master-key", "infra/refresh", "python3 -m infra.tools.smoke"):
        assert program in str(described["hooks"])
        assert program in deploy


def hook(name: str, folder: Path, tools: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of azd's hooks as azd does: with sh, in the project's folder, with its environment's
    values.
    """
    for tool, text in tools.items():
        (folder / tool).write_text(f"#!/bin/bash\n{text}\n")
        (folder / tool).chmod(0o755)
    script = yaml.safe_load((PROJECT / "azure.yaml").read_text())["hooks"][name]["posix"]["run"]
    return subprocess.run(
        ["sh", "-c", script],
        cwd=PROJECT,
        env={"PATH": f"{folder}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# What azd knows after a deployment.
DEPLOYED = {
    "AZURE_RESOURCE_GROUP": "rg",
    "GATEWAY_APP": "func",
    "GATEWAY_VAULT": "kv",
    "GATEWAY_URL": "https://gateway",
}


def with_smoke(folder: Path, az: str) -> dict[str, str]:
    """An `az`, and a smoke test that notes the key and the arguments it got."""
    return {"az": az, "python3": f"echo $GATEWAY_MASTER_KEY $@ > {folder}/smoke"}


def test_azd_stops_where_the_key_cannot_be_read(tmp_path: Path) -> None:
    """A failure of az is not taken for a gateway without a key, of which only the health would be
    tested.
    """
    refused = 'case "$*" in keyvault*) echo refused >&2; exit 1 ;; esac'
    assert hook("postdeploy", tmp_path, with_smoke(tmp_path, refused), **DEPLOYED).returncode != 0
    assert not (tmp_path / "smoke").exists()
    assert hook("postdeploy", tmp_path, with_smoke(tmp_path, "echo sk-1"), **DEPLOYED).returncode == 0
    assert (tmp_path / "smoke").read_text() == "sk-1 -m infra.tools.smoke https://gateway --video\n"


def test_azd_has_the_app_look_for_its_key_again(tmp_path: Path) -> None:
    """Before it is tested: it was told of the key before there was one."""
    asked = tmp_path / "asked"
    assert hook("postdeploy", tmp_path, with_smoke(tmp_path, f'echo "$*" >> {asked}; echo /app'), **DEPLOYED).returncode == 0
    calls = asked.read_text().splitlines()
    assert calls[0] == "functionapp show -g rg -n func --query id -o tsv"
    assert calls[1].startswith("rest --method post --url /app/config/configreferences/appsettings/refresh?")
    assert calls[2] == "functionapp restart -g rg -n func"
    assert calls[3].startswith("keyvault secret show")


@pytest.mark.parametrize("name", ["Video", "vidéo", "a", "a_b", "seventeen-letters", "-ab", "ab-", ""])
def test_azd_refuses_a_name_that_azure_would_refuse_later(tmp_path: Path, name: str) -> None:
    """Before anything is made."""
    result = hook("preprovision", tmp_path, {}, AZURE_ENV_NAME=name, LC_ALL="C.UTF-8")
    assert result.returncode == 1
    assert "2 to 16" in result.stderr


@pytest.mark.parametrize("name", ["ab", "video-gateway", "sixteen-letters1"])
def test_azd_takes_a_good_name(tmp_path: Path, name: str) -> None:
    """And the choices as they stand."""
    result = hook("preprovision", tmp_path, {}, AZURE_ENV_NAME=name)
    assert result.returncode == 0, result.stderr


def test_azd_makes_the_master_key_that_the_app_is_told_of(tmp_path: Path) -> None:
    """Under another name there would be none."""
    renamed = {"grep": 'case "$*" in *gateway-master-key*) exit 1 ;; esac'}
    result = hook("preprovision", tmp_path, renamed, AZURE_ENV_NAME="ab")
    assert result.returncode == 1
    assert "gateway-master-key" in result.stderr


def test_azd_leaves_what_it_cannot_do_to_the_script(tmp_path: Path) -> None:
    """It packages host.json as it lies, and its hooks run outside a private network."""
    result = hook("preprovision", tmp_path, {"grep": "exit 1"}, AZURE_ENV_NAME="ab")
    assert result.returncode == 1
    assert "infra/deploy" in result.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_hold_no_secrets_and_trust_no_tag(path: Path) -> None:
    """Actions are pinned by commit, tokens come from OIDC, and a job has the permissions it
    names.
    """
    text = path.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each)] == []
    assert "secrets." not in text
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == PERMISSIONS
    assert "pull_request_target" not in text
    assert misplaced(workflow) == []


def misplaced(workflow: object, key: str = "") -> list[str]:
    """Expressions where somebody's text could become a program: in a script, or of more than the
    repository's own variables.
    """
    if isinstance(workflow, dict):
        return [text for name, value in workflow.items() for text in misplaced(value, name)]
    if isinstance(workflow, list):
        return [text for value in workflow for text in misplaced(value, key)]
    if not isinstance(workflow, str) or "${{" not in workflow:
        return []
    safe = key != "run" and re.fullmatch(r"\$\{\{ vars\.\w+( \|\| '[\w.-]+')? \}\}", workflow)
    return [] if safe else [workflow]


def test_an_expression_in_a_script_would_be_noticed() -> None:
    """On one line or in a block, of a pull request's title or of a variable; and a title that is
    handed on.
    """
    steps = yaml.safe_load(
        """
- run: echo ${{ github.event.pull_request.title }}
- run: |
    echo first
    echo ${{ vars.NAME }}
- run: echo $TITLE
  env:
    TITLE: ${{ github.event.pull_request.title }}
    NAME: ${{ vars.NAME }}
- uses: a/b
  with:
    script: say(${{ vars.NAME }})
    where: ${{ vars.RUNNER || 'ubuntu-24.04' }}
"""
    )
    assert misplaced({"jobs": {"test": {"steps": steps}}}) == [
        "echo ${{ github.event.pull_request.title }}",
        "echo first\necho ${{ vars.NAME }}\n",
        "${{ github.event.pull_request.title }}",
        "say(${{ vars.NAME }})",
    ]


def test_the_workflow_tests_before_it_deploys() -> None:
    """A pull request shows what would change; main is deployed, one at a time."""
    jobs = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]
    assert set(jobs) == {"test", "what-if", "deploy"}
    assert jobs["what-if"]["needs"] == jobs["deploy"]["needs"] == "test"
    assert "make package-check" in str(jobs["test"]["steps"])
    assert "3.11\\n3.12\\n3.13" in str(jobs["test"]["steps"])
    assert "infra/deploy --what-if" in str(jobs["what-if"]["steps"])
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert jobs["deploy"]["concurrency"]["cancel-in-progress"] is False


def test_only_the_right_events_reach_azure() -> None:
    """A fork's pull request gets no token; each job that has one is in an environment with its own
    identity and reviewers.
    """
    workflow = yaml.safe_load(WORKFLOWS[0].read_text())
    jobs = workflow["jobs"]
    assert workflow[True] == {"pull_request": None, "push": {"branches": ["main"]}}  # YAML takes the key `on` for a truth
    assert jobs["what-if"]["if"] == (
        "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository"
    )
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert {name: job.get("environment") for name, job in jobs.items()} == {
        "test": None,
        "what-if": "plan",
        "deploy": "production",
    }
    assert {name for name, job in jobs.items() if "azure/login" in str(job)} == {"what-if", "deploy"}
    # Whatever ran the code of a pull request holds nothing that outlives it.
    for job in jobs.values():
        checkouts = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


def test_actions_are_pinned_by_commit_to_a_named_release() -> None:
    """A tag can be moved, a commit cannot; the release beside it is for people and dependabot. The
    first majors that run on Node 24 or later are the least.
    """
    used = re.findall(r"uses: (\S+)@(\S+) # v(\d+)\.\d+\.\d+$", WORKFLOWS[0].read_text(), re.MULTILINE)
    assert len(used) == WORKFLOWS[0].read_text().count("uses: ")
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for _, commit, _ in used)
    oldest = {"actions/checkout": 5, "actions/setup-python": 6, "azure/login": 3}
    assert all(int(major) >= oldest[name] for name, _, major in used)
