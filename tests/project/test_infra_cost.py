"""The page of costs: one set of quantities, which follow from the simulation, from host.json and
from the templates.
"""

import json
import re
from datetime import timedelta

import pytest

from tests.project.bicep import INFRA, PROJECT, code

MONTH = timedelta(days=30).total_seconds()
QUANTITIES = ("gb_second", "execution", "table_operation", "queue_operation", "blob_write")  # of a video, measured in cost.md
COUNTS = (0, 1_000, 100_000)


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The Markdown table whose first column has this heading: first cell → the others."""
    text = (PROJECT / "docs" / page).read_text()
    lines = text[text.index(f"\n| {heading} |") + 1 :].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip(" `*") for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def number(text: str) -> float:
    return float(text.replace(",", ""))


def durable() -> dict[str, object]:
    host = json.loads((PROJECT / "host.json").read_text())
    return dict(host["extensions"]["durableTask"]["storageProvider"])


def sweeps() -> float:
    minutes = re.search(r'schedule="0 \*/(\d+) \* \* \* \*"', (PROJECT / "function_app.py").read_text())
    assert minutes is not None
    return MONTH / 60 / int(minutes[1])


def test_both_pages_use_the_same_quantities() -> None:
    """What a video needs is in cost.md, from the simulation; operations.md takes it from there."""
    measured, used = rows("cost.md", "quantity"), rows("operations.md", "quantity")
    assert {name: number(used[name][1]) for name in QUANTITIES} == {name: number(measured[name][0]) for name in QUANTITIES}


def test_looks_at_queues_follow_from_host_json() -> None:
    """What wakes the app looks at the control queues and at the work items' as often as the page
    assumes, an instance that is awake as often as host.json says.
    """
    provider = durable()
    hours, minutes, seconds = (int(part) for part in str(provider["maxQueuePollingInterval"]).split(":"))
    queues = int(str(provider["partitionCount"])) + 1
    idle, _, why = rows("operations.md", "quantity")["queue_operation"]
    assumed = re.search(r"each looked at every (\d+) seconds by what wakes the app", why)
    assert assumed is not None
    assert number(idle) == queues * MONTH / int(assumed[1])
    reads = queues / (3600 * hours + 60 * minutes + seconds)
    dollars = 10 * 3600 * reads * number(rows("operations.md", "price")["queue_operation"][0])
    page = " ".join((PROJECT / "docs" / "operations.md").read_text().split())
    assert f"{reads:g} reads a second in all: {dollars:.2f} dollars for ten hours" in page


def test_a_dead_instance_holds_no_message_for_longer_than_a_minute() -> None:
    """Both queues' time-outs are the smallest that the control queue takes: with Azure's own, a
    video that was under way in a killed instance stands still for five minutes.
    """
    provider = durable()
    assert provider["controlQueueVisibilityTimeout"] == provider["workItemQueueVisibilityTimeout"] == "00:01:00"


def test_idle_executions_follow_from_the_sweep_and_the_size_of_an_instance() -> None:
    """Each sweep is an execution, and is billed for a second at least of the whole instance."""
    memory = re.search(r"instanceMemoryMB: (\d+)", (INFRA / "main.bicepparam").read_text())
    quantities = rows("operations.md", "quantity")
    assert memory is not None
    assert number(quantities["execution"][0]) == sweeps()
    assert f"{sweeps():,.0f} a month" in (PROJECT / "docs" / "operations.md").read_text()
    assert number(quantities["gb_second"][0]) == sweeps() * int(memory[1]) // 1024


def endpoints() -> tuple[int, int, int, int]:
    """How many private endpoints the template makes behind the app at any rate, for each account,
    for Content Safety, and in front of the app.
    """
    text = code(INFRA / "group.bicep")
    behind, front = (
        text[text.index("var behind =") : text.index("var front =")],
        text[text.index("var front =") : text.index("var ownZones")],
    )
    (kinds,) = re.findall(r"map\(\[(.*?)\], kind =>", behind)
    singles = re.findall(r"name: '(\w+)'", behind)
    assert singles == ["vault", "safety", "topic"]
    return len(kinds.split(",")) + 1, behind.count("map(openAiIds"), 1, front.count("name: ")


def test_private_endpoints_are_counted() -> None:
    """As the templates make them for one account: behind the app, one more in front of it, and one
    for Content Safety.
    """
    always, each, safety, front = endpoints()
    page = " ".join((PROJECT / "docs" / "operations.md").read_text().split())
    more = f"{safety} more with `contentSafety`, 1 more with `pipelines.eventTopic`"
    told = f"{always + each} with one account, {always + each + front} with `'private'`, {more}"
    assert f"each by the hour; {told}" in page


def scale_groups() -> set[str]:
    """What Flex Consumption scales by itself: HTTP, Durable, and each function that is neither."""
    text = (PROJECT / "function_app.py").read_text()
    triggers = re.findall(r"(?m)^@app\.(route|\w+_trigger)\(", text)
    together = {"route": "http", "orchestration_trigger": "durable", "activity_trigger": "durable", "entity_trigger": "durable"}
    return {together.get(each, each) for each in triggers}


ALERTS = code(INFRA / "modules" / "alerts.bicep")


def looks() -> float:
    """Of the availability test, in a month."""
    text = code(INFRA / "modules" / "availability.bicep")
    places, seconds = re.search(r"var places = \[(.*)\]", text), re.search(r"Frequency: (\d+)", text)
    assert places is not None
    assert seconds is not None
    return len(places[1].split(",")) * MONTH / int(seconds[1])


def test_what_a_switch_adds_is_what_it_comes_to() -> None:
    """Private endpoints with a zone each, and the instances that are awake in two zones."""
    prices = {name: number(cells[0]) for name, cells in rows("cost.md", "price of a switch").items()}
    adds = {name: number(cells[0]) for name, cells in rows("cost.md", "switch").items()}
    way = MONTH / 3600 * prices["endpoint_hour"]
    always, each, _, front = endpoints()
    memory = re.search(r"instanceMemoryMB: (\d+)", (INFRA / "main.bicepparam").read_text())
    assert memory is not None
    assert adds == {
        "a private endpoint": pytest.approx(way),
        "a zone of names": pytest.approx(prices["zone"]),
        "network: 'backend'": pytest.approx((always + each) * (way + prices["zone"])),
        "network: 'private'": pytest.approx((always + each + front) * (way + prices["zone"])),
        "an instance that is always ready": pytest.approx(
            int(memory[1]) / 1024 * MONTH * prices["always_ready_gb_second"], abs=0.005
        ),
        "alertEmails": pytest.approx(len(re.findall(r"loadTextContent", ALERTS)) * prices["log_rule"] + prices["metric_rule"]),
        "availabilityTest": pytest.approx(looks() * prices["web_test"]),
        "pipelines.requests": pytest.approx(
            MONTH / 10 * number(rows("operations.md", "price")["queue_operation"][0]), abs=0.005
        ),
        "auditLogs": pytest.approx(
            number(rows("operations.md", "quantity")["blob_write"][0])
            / 1e6
            * number(rows("operations.md", "price")["log_gb"][0]),
            abs=0.005,
        ),
        "resilience: 'zone'": pytest.approx(
            2 * len(scale_groups()) * int(memory[1]) / 1024 * MONTH * prices["always_ready_gb_second"], abs=0.005
        ),
    }


def test_the_table_of_dollars_is_what_the_quantities_come_to() -> None:
    """The failure shows the lines that belong there."""
    text = (PROJECT / "docs" / "operations.md").read_text()
    free = {name: number(amount) for amount, name in re.findall(r"([\d,]+) `(gb_second|execution)`", text)}
    prices = {name: number(cells[0]) for name, cells in rows("operations.md", "price").items()}
    totals = [0.0] * len(COUNTS)
    lines = []
    for name, (idle, each, _) in rows("operations.md", "quantity").items():
        billed = [max(0.0, number(idle) + count * number(each) - free.get(name, 0)) * prices[name] for count in COUNTS]
        totals = [total + dollars for total, dollars in zip(totals, billed, strict=True)]
        lines.append(f"| `{name}` | " + " | ".join(f"{dollars:,.2f}" for dollars in billed) + " |")
    lines.append("| **the gateway** | " + " | ".join(f"{total:,.2f}" for total in totals) + " |")
    expected = "\n".join(lines)
    assert expected in text, f"docs/operations.md must say:\n{expected}"
    dollars = {name: [number(cell) for cell in cells] for name, cells in rows("operations.md", "dollars a month").items()}
    always_on, generation = dollars["always-on container and database"][0], dollars["generation, 4 seconds each"][2]
    a_video = (totals[2] - totals[1]) / (COUNTS[2] - COUNTS[1])
    even = COUNTS[1] + (always_on - totals[1]) / a_video
    said = re.search(r"up to about ([\d,]+) videos a month, and at any number its cost is less than (\w+) percent", text)
    assert said is not None
    assert abs(number(said[1]) - even) < 0.05 * even, even
    assert totals[2] / generation < {"two": 0.02, "three": 0.03}[said[2]], totals[2] / generation
    assert f"{totals[0]:.2f} dollars a month" in text, totals[0]


def test_the_other_ways_are_priced_from_the_same_list() -> None:
    """An always-on server, a second one in the largest column, and the generation itself."""
    prices = {name: number(cells[0]) for name, cells in rows("operations.md", "price").items()}
    dollars = {name: [number(cell) for cell in cells] for name, cells in rows("operations.md", "dollars a month").items()}
    server = MONTH * (prices["vcpu_second"] + 2 * prices["gib_second"] + prices["database"] / MONTH)
    assert dollars["always-on container and database"] == pytest.approx([server, server, 2 * server], abs=0.0051)
    assert dollars["generation, 4 seconds each"] == pytest.approx([4 * count * prices["video_second"] for count in COUNTS])
