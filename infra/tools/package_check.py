"""`python -m infra.tools.package_check`: the deployed package on every Python it may run on, with
what it requires and nothing else.

For each Python on PATH: a fresh environment with the package's requirements.txt, the unpacked
package, a cold import. Where the Functions worker's own library is available (Python 3.13 and
later), it indexes the app as in Azure. CI must have every Python.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from infra.tools.package import CHECKOUT, Package, build

PYTHONS = ("3.11", "3.12", "3.13")
WORKER_FROM = "3.13"
WORKER = "azure-functions-runtime==1.3.0"
PROCESSES = 5
_TIMED = "import time; begun = time.perf_counter(); import function_app; print(time.perf_counter() - begun)"


def main() -> int:
    """Print one line for each Python. Returns 0 where the app imports on all that are here: in CI
    all, else one at least.
    """
    absent = []
    with tempfile.TemporaryDirectory() as directory:
        package = build(CHECKOUT, Path(directory) / "app.zip")
        print(f"package: {len(package.files)} files, {package.size / 1024:.0f} KiB")
        for version in PYTHONS:
            python = _usable(version)
            if python is None:
                absent.append(version)
                continue
            try:
                print(f"Python {version}: {check(python, version, package, Path(directory) / version)}")
            except subprocess.CalledProcessError as error:
                print(f"Python {version}: {error.cmd[0]} failed:\n{error.stdout}{error.stderr}", file=sys.stderr)
                return 1
    return verdict(absent, in_ci=bool(os.environ.get("CI")))


def verdict(absent: Sequence[str], *, in_ci: bool) -> int:
    """Say which Pythons are not on this machine. Returns the exit code where all the others are
    fine.
    """
    if absent:
        print(f"NOT CHECKED, because not on this machine: Python {', '.join(absent)}")
    return 1 if len(absent) == len(PYTHONS) or (absent and in_ci) else 0


def check(python: str, version: str, package: Package, directory: Path) -> str:
    """Install, unpack, import and, where the worker's library is available, index. Raises
    CalledProcessError.
    """
    environment, app = directory / "environment", directory / "app"
    _run(python, "-m", "venv", str(environment))
    own = str(environment / "bin" / "python")
    with zipfile.ZipFile(package.path) as archive:
        archive.extractall(app)
    _run(own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", "requirements.txt", cwd=app)
    (site,) = environment.glob("lib/python*/site-packages")
    installed = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    # The first import compiles what it loads; a deployed app is compiled by the remote build.
    _run(own, "-c", _TIMED, cwd=app)
    seconds = statistics.median(float(_run(own, "-c", _TIMED, cwd=app)) for _ in range(PROCESSES))
    result = f"imports in {seconds * 1000:.0f} ms; {installed / 1024**2:.0f} MiB installed"
    if version < WORKER_FROM:
        return result
    _run(own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", WORKER)
    count = _run(own, str(CHECKOUT / "infra" / "tools" / "worker_index.py"), str(app), cwd=app).split()[-1]
    return f"{result}; the worker's library indexes {count} functions"


def _usable(version: str) -> str | None:
    """A Python of this version that runs: a version manager's shim may be on PATH with nothing
    behind it.
    """
    python = shutil.which(f"python{version}")
    found = (
        python and subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0
    )
    return python if found else None


def _run(*command: str, cwd: Path | None = None) -> str:
    # Nothing of this checkout or of the caller's Python may be found from there.
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "AZURE", "GATEWAY"))
    }
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
