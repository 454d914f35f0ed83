"""What a newcomer runs into: each mistake is one line that says what to do, and exit code 1."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import configure
from local.__main__ import main
from shared.errors import ConfigurationError

CHECKOUT = Path(__file__).parents[2]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command fails with."""
    assert main(list(arguments)) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1, told
    return told[0]


def config(folder: Path, content: str | bytes) -> str:
    file = folder / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage and an upstream that nobody asks, so that a command starts neither."""
    monkeypatch.setenv("AzureWebJobsStorage", "UseDevelopmentStorage=true")
    monkeypatch.setenv("AZURE_OPENAI_API_BASE", "http://127.0.0.1:1")


def test_data_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").touch()
    assert "--data" in complaint(capsys, "run", "--port", "0", "--data", str(tmp_path / "data"))


def test_an_out_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is found out before anything is started."""
    (tmp_path / "out").touch()
    told = complaint(capsys, "demo", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data"))
    assert "--out" in told
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_not_utf_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", config(tmp_path, b"# caf\xe9"))
    told = complaint(capsys, "run", "--port", "0", "--data", str(tmp_path / "data"))
    assert told == "mine.yaml cannot be read as a text file in UTF-8."


def test_a_damaged_file_of_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "durable.sqlite").write_bytes(b"no database" * 1000)
    told = complaint(capsys, "run", "--port", "0", "--data", str(tmp_path))
    assert "durable.sqlite is damaged" in told
    assert "move it away" in told


@pytest.mark.parametrize(
    "content",
    [
        "model_list: [\napi_key: sk-secret: x",
        "api_key: *sk-secret",
        "model_list:\n- {api_key: sk-secret",
        "a: sk-secret\n\tb: 1",
    ],
)
def test_a_configuration_that_is_no_yaml_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    """The file has a name and the mistake a line; the line may hold a key."""
    with pytest.raises(ConfigurationError, match=r"mine\.yaml, line \d+ is not valid YAML") as told:
        configure.read({"GATEWAY_CONFIG": config(tmp_path, content)})
    assert "secret" not in str(told.value)


def test_a_mistake_in_a_configuration_is_told_with_the_files_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", config(tmp_path, "gateway: {pol_seconds: 1}"))
    told = complaint(capsys, "run", "--port", "0", "--data", str(tmp_path / "data"))
    assert told.startswith("mine.yaml: ")


def own(base: str | None) -> dict[str, Any]:
    return {"model_name": "m", "params": {"model": "azure/sora-2", **({"api_base": base} if base else {})}}


@pytest.mark.parametrize(
    ("models", "set_", "simulated"),
    [
        ([own("https://mine.openai.azure.com")], {}, False),
        ([own("os.environ/AZURE_OPENAI_API_BASE")], {}, True),
        ([own(None)], {}, True),
        ([own(None)], {"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com"}, False),
        ([own("https://mine.openai.azure.com"), own(None)], {}, True),
        ([], {}, True),
    ],
)
def test_the_simulator_takes_only_the_place_of_an_address_that_is_not_given(
    tmp_path: Path, models: list[Any], set_: dict[str, str], simulated: bool
) -> None:
    """A literal `api_base` is one that is given, and so is any name of the app setting."""
    source = configure.read({"GATEWAY_CONFIG": config(tmp_path, json.dumps({"model_list": models, "gateway": {}}))})
    assert bool(source.simulated(set_, None)) is simulated
    assert source.simulated(set_, "azure/sora-2") == ({} if set_ else {"azure": ["sora-2"]})


def test_each_kind_of_server_has_its_own_simulator(tmp_path: Path) -> None:
    """With the names that its models have there, which may hold slashes."""
    params = [{"model": "hosted_vllm/Wan-AI/Wan2.2"}, {"model": "sglang/wan"}, {"model": "x/y", "dialect": "sglang"}]
    listed = [{"model_name": "m", "params": each} for each in params]
    source = configure.read({"GATEWAY_CONFIG": config(tmp_path, json.dumps({"model_list": listed}))})
    assert source.simulated({}, None) == {"hosted_vllm": ["Wan-AI/Wan2.2"], "sglang": ["wan", "y"]}
    google = configure.Source("c", {"model_list": [{"model_name": "m", "params": {"model": "gemini/veo"}}]})
    assert google.simulated({}, None) == {}  # its address is known
    assert google.simulated({}, "gemini/veo") == {"gemini": ["veo"]}
    assert source.simulated({"SGLANG_API_BASE": "http://gpu"}, None) == {"hosted_vllm": ["Wan-AI/Wan2.2"]}


def test_a_server_with_an_address_of_its_own_is_not_hurried() -> None:
    """Beside a simulated one too: polling is one for all, so it keeps to life's pace."""
    listed = [own("https://mine.openai.azure.com"), own(None)]
    derived = configure.derive({"model_list": listed, "gateway": {"poll_seconds": 5}}, speed=10)
    mine, simulated = (entry["params"].get("creates_per_minute") for entry in derived["model_list"])
    assert (mine, simulated) == (None, 20)
    assert derived["gateway"]["poll_seconds"] == 5


def test_an_audit_of_a_folder_that_is_not_there_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AzureWebJobsStorage")
    assert "holds no data of a gateway" in complaint(capsys, "audit", "--data", str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_outside_the_virtual_environment_the_command_says_what_to_use() -> None:
    """Where the packages are not installed."""
    program = f"import runpy, sys; sys.path.insert(0, {str(CHECKOUT)!r}); sys.argv = ['local', 'audit']; "
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{program}runpy.run_module('local', run_name='__main__')"],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
    )
    assert found.returncode == 1
    assert "make audit" in found.stderr
    assert "Traceback" not in found.stderr
