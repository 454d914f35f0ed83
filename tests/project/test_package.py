"""The package that is deployed: the app and nothing else, the same bytes from the same files,
importable on its own.
"""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_origin

import azure.functions as func
import pytest

import function_app
from infra.tools import package, package_check
from infra.tools.package import PackageError, build, chosen

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> package.Package:
    return build(PROJECT, tmp_path_factory.mktemp("package") / "app.zip")


def an_app(root: Path, *more: str, ignore: str = ".*\nlocal/\n*.md\n") -> Path:
    """A folder that looks like an app, with more files in it."""
    for name in ("function_app.py", "host.json", "shared/errors.py", *more):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".funcignore").write_text(ignore)
    return root


def test_the_package_is_the_app_and_nothing_else(built: package.Package) -> None:
    """No tests, stand-ins, templates, pages or settings files; every module of the app."""
    tops = {name.partition("/")[0] for name in built.files}
    assert tops == {"function_app.py", "host.json", "requirements.txt", "config.yaml", "shared"}
    below = {name for name in built.files if name.startswith("shared/")}
    modules, page = (PROJECT / "shared").rglob("*.py"), (PROJECT / "shared" / "static").rglob("*.*")
    assert below == {str(path.relative_to(PROJECT)) for path in [*modules, *page]}


def test_the_package_installs_what_was_tested(built: package.Package) -> None:
    """Its requirements.txt is the lock: every direct and indirect dependency, pinned to the version
    of the tests and hashed.
    """
    with zipfile.ZipFile(built.path) as archive:
        installed = archive.read("requirements.txt").decode()
    pins = set(re.findall(r"^([\w.-]+(?:\[[\w,-]+\])?==\S+)", installed, re.MULTILINE))
    tested = set(re.findall(r"^([\w.-]+(?:\[[\w,-]+\])?==\S+)", (PROJECT / "requirements-dev.lock").read_text(), re.MULTILINE))
    direct = set(re.findall(r"^([\w.-]+==\S+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE))
    assert pins <= tested
    # A dependency of a dependency may ask for extras of one that is asked for without.
    assert {pin.lower() for pin in direct} <= {re.sub(r"\[.*\]", "", pin) for pin in pins}
    for entry in re.split(r"\n(?=\w)", installed[installed.index("\n", installed.index("make lock")) + 1 :].strip()):
        assert re.fullmatch(
            r"[\w.-]+(\[[\w,-]+\])?==\S+( ; [^\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?|    # [^\n]*\n?)+", entry
        ), entry
    assert "://" not in installed
    assert "--index-url" not in installed


def test_the_lock_serves_every_python_that_the_app_runs_on(built: package.Package) -> None:
    """azure-functions is another package from 3.13 on; each line says for which."""
    with zipfile.ZipFile(built.path) as archive:
        lines = re.findall(r"^azure-functions==(\d)\S+ ; (.+) \\$", archive.read("requirements.txt").decode(), re.MULTILINE)
    assert lines == [("1", "python_full_version < '3.13'"), ("2", "python_full_version >= '3.13'")]


def test_without_its_lock_there_is_no_package(tmp_path: Path) -> None:
    """Nothing is deployed whose dependencies would be chosen by whatever is newest that day."""
    with pytest.raises(PackageError, match="make lock"):
        build(an_app(tmp_path, "requirements.txt"), tmp_path / "out" / "app.zip")


def test_the_package_holds_no_secret(built: package.Package) -> None:
    """Nothing in it looks like a key, a token or a connection string with one."""
    secret = re.compile(
        rb"AccountKey=[A-Za-z0-9+/=]{20}|sk-[A-Za-z0-9_-]{16}|eyJ[A-Za-z0-9_-]{20}|-----BEGIN|SharedAccessSignature="
    )
    with zipfile.ZipFile(built.path) as archive:
        assert [name for name in archive.namelist() if secret.search(archive.read(name))] == []


def test_the_package_is_small(built: package.Package) -> None:
    """What it requires is installed by Azure: the package itself stays below a megabyte."""
    assert built.size < 1024 * 1024


def test_the_same_files_make_the_same_package(tmp_path: Path) -> None:
    """Neither the time nor the order of the files on the disk matters."""
    first = build(an_app(tmp_path / "a", "shared/a.py"), tmp_path / "a.zip")
    root = an_app(tmp_path / "b")
    (root / "shared" / "a.py").write_text("shared/a.py")
    os.utime(root / "host.json", (1e9, 1e9))
    assert build(root, tmp_path / "b.zip").sha256 == first.sha256


@pytest.mark.parametrize("name", ["production.pem", "secrets.json", "shared/key.txt", "notes/todo.py"])
def test_a_forgotten_file_is_not_deployed(tmp_path: Path, name: str) -> None:
    """A file that is neither the app's nor ignored stops the build, and is named."""
    with pytest.raises(PackageError, match=name.partition("/")[0]):
        build(an_app(tmp_path, name), tmp_path / "out" / "app.zip")


def test_ignored_files_stay_behind(tmp_path: Path) -> None:
    """Names and folders at any depth, as .gitignore means them; the last pattern that fits
    decides.
    """
    root = an_app(
        tmp_path, "local/a.py", ".env", "README.md", "shared/notes.md", "keep.md", ignore=".*\nlocal/\n*.md\n!keep.md\n"
    )
    assert sorted(chosen(root)) == ["function_app.py", "host.json", "keep.md", "shared/errors.py"]


def test_a_pattern_that_is_not_understood_is_an_error(tmp_path: Path) -> None:
    """Better no package than one that was chosen by other rules than Azure's tools have."""
    with pytest.raises(PackageError, match="docs/private"):
        build(an_app(tmp_path, ignore="docs/private\n"), tmp_path / "app.zip")


def test_the_command_says_what_it_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Size and digest, and the exit code of a success."""
    assert package.main([str(tmp_path / "app.zip")]) == 0
    assert re.search(r"app\.zip: \d+ files, \d+ KiB, sha256 [0-9a-f]{16}\n", capsys.readouterr().out)


def test_the_command_says_what_keeps_orchestrations(tmp_path: Path) -> None:
    """`--durable scheduler` reaches host.json, and nothing else is understood there."""
    assert package.main(["--durable", "scheduler", str(tmp_path / "app.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "app.zip") as archive:
        assert b"azureManaged" in archive.read("host.json")
    with pytest.raises(SystemExit):
        package.main(["--durable", "netherite", str(tmp_path / "app.zip")])


@pytest.mark.parametrize(
    ("absent", "in_ci", "code"),
    [((), True, 0), (("3.12",), False, 0), (("3.12",), True, 1), (package_check.PYTHONS, False, 1)],
    ids=["all", "one missing", "one missing in CI", "none"],
)
def test_ci_has_to_have_every_python(
    absent: tuple[str, ...], in_ci: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere it is said which were not checked, and one is enough."""
    assert package_check.verdict(absent, in_ci=in_ci) == code
    assert ("NOT CHECKED" in capsys.readouterr().out) is bool(absent)


def test_the_package_imports_on_its_own(built: package.Package, tmp_path: Path) -> None:
    """In a process that can find the packaged files and installed packages, but not this
    checkout.
    """
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(tmp_path)
    program = (
        "import sys, function_app; "
        "print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)), sep='\\n')"
    )
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AZURE", "GATEWAY", "COVERAGE"))
    }
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    files = result.stdout.splitlines()
    own = [Path(name) for name in files if Path(name).is_relative_to(PROJECT)]
    assert [path for path in own if not path.is_relative_to(Path(sys.prefix))] == []
    assert any(Path(name).is_relative_to(tmp_path) for name in files)


def test_the_package_imports_only_what_it_requires() -> None:
    """Third-party modules that the app imports by name all come from a line of
    requirements.txt.
    """
    provided = {
        "azure.functions": "azure-functions",
        "azure.durable_functions": "azure-functions-durable",
        "azure.storage.blob": "azure-storage-blob",
        "azure.identity": "azure-identity",
        "azurefunctions.extensions": "azurefunctions-extensions-base",
        "jwt": "PyJWT",
        "cryptography": "cryptography",
        "aiohttp": "aiohttp",
        "httptools": "httptools",
        "azure.core": "azure-storage-blob",  # which requires azure-core, as does azure-identity
        "httpx": "httpx",
        "msgspec": "msgspec",
        "yaml": "PyYAML",
        "PIL": "Pillow",
        "av": "av",
        "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry": "opentelemetry-sdk",  # which requires the API
        "azure.monitor.opentelemetry.exporter": "azure-monitor-opentelemetry-exporter",
    }
    required = set(re.findall(r"^([\w-]+)==", (PROJECT / "requirements.txt").read_text(), re.MULTILINE))
    named: set[str] = set()
    for path in [PROJECT / "function_app.py", *(PROJECT / "shared").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named.add(node.module)
    others = {name for name in named if name.partition(".")[0] not in {*sys.stdlib_module_names, "shared"}}
    assert others
    for name in others:
        known = [module for module in provided if name == module or name.startswith(f"{module}.")]
        assert known, name
        assert provided[known[0]] in required


def test_triggers_have_annotations_that_the_worker_takes() -> None:
    """The worker refuses the whole app over one parameter whose annotation is neither a plain type
    nor an output, such as dict[str, str].
    """
    for node in ast.walk(ast.parse((PROJECT / "function_app.py").read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for parameter in node.args.args:
                annotation = parameter.annotation and eval(ast.unparse(parameter.annotation), vars(function_app))
                assert isinstance(annotation, type) or get_origin(annotation) is func.Out, f"{node.name}: {parameter.arg}"
