"""The way into Azure that is not typed by hand: GitHub Actions."""

import re
from pathlib import Path

import pytest
import yaml

from tests.project.bicep import PROJECT

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
# What GitHub's own token of each job may do, and that it may be exchanged for one of Entra.
PERMISSIONS = {
    "test": {"contents": "read"},
    "templates": {"contents": "read"},
    "what-if": {"contents": "read", "id-token": "write"},
    "deploy": {"contents": "read", "id-token": "write"},
}


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
    if key in {"group", "cancel-in-progress"}:
        return []  # a name among the workflow's runs, and a yes or no
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
    """A pull request shows what would change; main is deployed."""
    jobs = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]
    assert set(jobs) == {"test", "templates", "what-if", "deploy"}
    assert jobs["what-if"]["needs"] == jobs["deploy"]["needs"] == "test"
    assert "make package-check" in str(jobs["test"]["steps"])
    assert "3.11\\n3.12\\n3.13" in str(jobs["test"]["steps"])
    assert "infra/deploy --what-if" in str(jobs["what-if"]["steps"])
    assert "infra/snapshots HEAD^1" in str(jobs["templates"]["steps"])
    assert "make infra-lint" in str(jobs["templates"]["steps"])
    assert "infra-lint" not in str(jobs["test"]["steps"])
    assert jobs["templates"]["steps"][0]["with"]["fetch-depth"] == 2
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"


def test_no_older_commit_is_deployed_after_a_newer_one() -> None:
    """A whole run waits for the one before it, tests too, which need not take as long each time;
    and only a pull request's is cut off.
    """
    workflow = yaml.safe_load(WORKFLOWS[0].read_text())
    assert workflow["concurrency"] == {
        "group": "${{ github.ref }}",
        "cancel-in-progress": "${{ github.event_name == 'pull_request' }}",
    }
    assert [name for name, job in workflow["jobs"].items() if "concurrency" in job] == []


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
        "templates": None,
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
