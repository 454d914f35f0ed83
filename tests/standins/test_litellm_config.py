"""A LiteLLM configuration that is brought along: what is served, and what is said of the rest."""

from pathlib import Path

import pytest
import yaml

from local.__main__ import main
from shared.config.settings import load

GIVEN = """
model_list:
  - model_name: azure-sora-2
    litellm_params:
      model: azure/sora-2
      api_key: os.environ/AZURE_OPENAI_API_KEY
      api_base: os.environ/AZURE_OPENAI_API_BASE
      rpm: 10
    model_info: {mode: video_generation}
  - model_name: chat
    litellm_params: {model: azure/gpt-5, api_key: sk-secret-of-chat, api_base: https://chat.openai.azure.com}
    model_info: {mode: chat}
  - model_name: own
    litellm_params: {model: openai/wan, api_base: "https://gpu.example/v1", api_key: sk-secret-of-mine}
    model_info: {sizes: ["1280x720"], seconds: [5], output_cost_per_second: 0.01}
general_settings:
  master_key: sk-secret-of-the-operator
  database_url: postgres://secret
  alerting: ["slack"]
  datadog_api_key: secret-of-datadog
litellm_settings:
  success_callback: ["datadog", "prometheus"]
  num_retries: 3
"""


def test_what_makes_videos_is_served_and_the_rest_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration that is printed is one that the app reads; no secret is in it."""
    (tmp_path / "litellm.yaml").write_text(GIVEN)
    assert main(["from-litellm", str(tmp_path / "litellm.yaml")]) == 0
    told = capsys.readouterr().out
    assert "secret" not in told
    assert "# azure-sora-2: served" in told
    assert "# azure-sora-2: litellm_params.rpm: left out. Here: creates_per_minute" in told
    assert "# chat: left out." in told
    assert "# general_settings.database_url: left out. Here: nothing: Table Storage" in told
    assert "# litellm_settings.success_callback: prometheus left out. Here: datadog, " in told
    assert "# litellm_settings.num_retries: left out." in told
    assert "# general_settings.alerting: slack left out." in told
    (tmp_path / "config.yaml").write_text(told)
    base = {"AZURE_OPENAI_API_BASE": "https://a.openai.azure.com", "GATEWAY_MASTER_KEY": "sk-1234", "AzureWebJobsStorage": "x"}
    settings = load(
        {**base, "AZURE_OPENAI_API_KEY": "k", "DATADOG_API_KEY": "d", "GATEWAY_CONFIG": str(tmp_path / "config.yaml")}
    )
    assert [model.name for model in settings.catalog.models] == ["azure-sora-2", "own"]
    assert [(sink.name, sink.on_failure) for sink in settings.sinks] == [("datadog", False)]


@pytest.mark.parametrize("text", ["- a list", "general_settings: {}", "model_list: 7"])
def test_what_is_no_such_configuration_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit code 1."""
    (tmp_path / "litellm.yaml").write_text(text)
    assert main(["from-litellm", str(tmp_path / "litellm.yaml")]) == 1
    assert capsys.readouterr().err.startswith("This is no LiteLLM configuration")


def test_an_entry_that_makes_no_sense_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is."""
    document = {"model_list": ["sora", {"model_name": "a"}, {"model_name": "b", "litellm_params": {"model": 7}}]}
    (tmp_path / "litellm.yaml").write_text(yaml.safe_dump(document))
    assert main(["from-litellm", str(tmp_path / "litellm.yaml")]) == 0
    assert capsys.readouterr().out.count("left out") == 3
