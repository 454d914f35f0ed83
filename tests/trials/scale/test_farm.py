"""The farm, small: of shorter jobs it starts nearly as many a second as the large one."""

from tests.trials.scale.farm import FarmPlan, farm

SMALL = FarmPlan(seconds=24.0, deployments=160, keys=200, rate=34.0, unfinished=80, job=3.0)


def test_many_deployments_start_dozens_of_jobs_a_second() -> None:
    """No deployment ever runs two, and each video is woken once. On one row for all deployments
    most changes lose their race.
    """
    found = farm(SMALL)
    figures = {line.what: line.value for line in found.lines()}
    assert figures["starts"] >= 36
    assert figures["most running on one deployment"] == 1
    assert figures["wake-ups"] <= 1.1
