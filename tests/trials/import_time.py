"""`python -m tests.trials.import_time`: the cold import of the app, against the Azure SDK modules
it cannot do without.
"""

import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

APP = "import function_app"
SDK = "import azure.functions, azure.durable_functions"
PROCESSES = 7
SHOWN = 12
_CHECKOUT = Path(__file__).parents[2]
# The app reads its settings when it is imported; nothing connects to these addresses.
_SETTINGS = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1",
    "AZURE_OPENAI_API_KEY": "simulated",
    "GATEWAY_MASTER_KEY": "sk-1234",
    "TASK_HUB": "VideoGateway",
    "PYTHONDONTWRITEBYTECODE": "",  # else every process compiles the app again, and not the SDK
}
_LINE = re.compile(r"^import time:\s+(?P<own>\d+) \|\s+\d+ \| +(?P<module>\S+)$", re.MULTILINE)


def main() -> None:
    """Print both medians, their ratio, and the packages whose own code takes the app longest."""
    for statement in (APP, SDK):
        cold(statement)  # the first one compiles, and fills the page cache
    both = [(cold(APP), cold(SDK)) for _ in range(PROCESSES)]
    app, sdk = (statistics.median(times) for times in zip(*both, strict=True))
    print(f"{APP:<50} {app * 1000:6.0f} ms")
    print(f"{SDK:<50} {sdk * 1000:6.0f} ms")
    print(f"{'ratio':<50} {app / sdk:6.2f}    (median of {PROCESSES} fresh processes each)")
    print("\nWhere the app's time goes, by package (its own code, in ms):")
    for package, microseconds in shares(report(APP)).most_common(SHOWN):
        print(f"  {package:<48} {microseconds / 1000:6.1f}")


def cold(statement: str) -> float:
    """How long the statement takes in a fresh process, in seconds; starting Python is not
    counted.
    """
    timed = f"import time; begun = time.perf_counter(); {statement}; print(time.perf_counter() - begun)"
    return float(_python("-c", timed).stdout)


def report(statement: str) -> str:
    """What `python -X importtime` writes about the statement."""
    return _python("-X", "importtime", "-c", statement).stderr


def shares(importtime: str) -> Counter[str]:
    """Own import time per package in microseconds, from `-X importtime`; `azure` is told apart by
    its second name.
    """
    total: Counter[str] = Counter()
    for line in _LINE.finditer(importtime):
        parts = line["module"].split(".")
        total[".".join(parts[: 2 if parts[0] == "azure" else 1])] += int(line["own"])
    return total


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | _SETTINGS, cwd=_CHECKOUT, capture_output=True, text=True, check=True
    )


if __name__ == "__main__":
    main()
