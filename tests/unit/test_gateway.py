"""What holds for every worker, whatever it was woken for."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

# A worker as the host starts it: a handler on the root, at the level that Azure keeps.
SWEEPING = """
import asyncio, logging
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
from shared import gateway as composition
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine

async def main():
    gateway = composition.current()
    await Sweep(gateway, Engine()).run()
    await gateway.close()

asyncio.run(main())
"""


def test_a_worker_that_only_sweeps_is_quiet(azurite: str) -> None:
    """The storage clients log a dozen lines for each request: they are hushed before the first."""
    told = subprocess.run(
        [sys.executable, "-c", SWEEPING],
        cwd=CHECKOUT,
        env={
            "AzureWebJobsStorage": azurite,
            "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
            "AZURE_OPENAI_API_KEY": "a-key",
            "GATEWAY_MASTER_KEY": "sk-1234",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    chatter = [line for line in told.stderr.splitlines() if line.startswith(("azure", "httpx"))]
    assert chatter == []
