"""What model_info says of sizes, lengths, parameters and prices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config.catalog import Model
from shared.config.settings import load
from shared.dialects.known import GEMINI, HOSTED_VLLM
from shared.dialects.parameters import Parameter
from shared.errors import ConfigurationError

WAN = "hosted_vllm/Wan-AI/Wan2.2-T2V-A14B-Diffusers"
Configured = Callable[..., Model]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """The one model of a configuration with this `model_info`."""

    def model(info: dict[str, Any], name: str = WAN, **params: Any) -> Model:
        entry = {"model_name": "films", "params": {"model": name, "api_base": "http://gpu:8000", **params}, "model_info": info}
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"model_list": [entry]}))
        settings = load({"GATEWAY_CONFIG": str(file), "AzureWebJobsStorage": "UseDevelopmentStorage=true"})
        return settings.catalog.models[0]

    return model


FREE = {"output_cost_per_second": 0}


def test_a_server_of_ones_own_needs_little_said(configured: Configured) -> None:
    """Its name may hold slashes; it takes any size and length, one job at a time."""
    model = configured(FREE)
    (deployment,) = model.deployments
    assert (deployment.dialect, deployment.model) == (HOSTED_VLLM, "Wan-AI/Wan2.2-T2V-A14B-Diffusers")
    assert (deployment.max_running, deployment.delete_after_saving, deployment.remakes_lost_jobs) == (1, True, True)
    able = model.capability
    assert able.makes("832x480")
    assert not any(map(able.makes, ("8x8", "99999x64", "832", "0832x480")))
    assert (able.sizes[0], able.usual_seconds, list(able.seconds)[-1], able.remix) == ("1280x720", 4, 60, False)


def test_the_dialect_may_be_said_beside_the_name(configured: Configured) -> None:
    """A file for LiteLLM calls such a server `openai/`."""
    (deployment,) = configured(FREE, "openai/Wan-AI/Wan2.2", dialect="hosted_vllm", on_lost_job="fail").deployments
    assert (deployment.dialect, deployment.model, deployment.remakes_lost_jobs) == (HOSTED_VLLM, "Wan-AI/Wan2.2", False)


def test_google_has_an_address_of_its_own(configured: Configured) -> None:
    """Only the key has to be said."""
    model = configured({"sizes": ["1280x720"], **FREE}, "gemini/veo-3.1-generate-preview", api_base=None, api_key="k")
    (deployment,) = model.deployments
    assert (deployment.dialect, deployment.base_url) == (GEMINI, "https://generativelanguage.googleapis.com/v1beta/openai")
    assert list(model.capability.seconds) == [4, 6, 8]


@pytest.mark.parametrize(
    ("model", "prices"),
    [
        ("veo-3.1-generate-preview", {"1280x720": 3_200_000, "1080x1920": 3_200_000, "3840x2160": 4_800_000}),
        ("veo-3.1-fast-generate-preview", {"720x1280": 800_000, "1920x1080": 960_000, "2160x3840": 2_400_000}),
        ("veo-3.1-lite-generate-preview", {"1280x720": 400_000, "1920x1080": 640_000}),
    ],
)
def test_googles_models_are_known_with_their_prices(configured: Configured, model: str, prices: dict[str, int]) -> None:
    """Of 8 seconds, by size; Lite makes no 4K."""
    able = configured({}, f"gemini/{model}", api_base=None, api_key="k").capability
    assert {size: able.price(8, size) for size in prices} == prices
    assert able.makes("3840x2160") is ("3840x2160" in prices or "2160x3840" in prices)


def test_sizes_and_lengths_are_lists_or_ranges(configured: Configured) -> None:
    """The first of a list is the default."""
    able = configured({"sizes": ["832x480", "480x832"], "seconds": {"min": 2, "max": 5}, **FREE}).capability
    assert (able.makes("480x832"), able.makes("1280x720")) == (True, False)
    assert (4 in able.seconds, 6 in able.seconds, able.usual_seconds) == (True, False, 4)
    assert configured({"seconds": [8, 4], **FREE}).capability.usual_seconds == 8


def test_a_size_has_one_spelling(configured: Configured) -> None:
    """A server may read other digits as these, and the price would be that of any other size."""
    able = configured({"sizes": "any", "seconds": [4], **FREE}).capability
    assert (able.makes("1280x720"), able.makes("１280x720"), able.makes("1٢80x720")) == (True, False, False)


def test_parameters_are_narrowed_widened_and_taken_away(configured: Configured) -> None:
    """By name; a new one says its type."""
    told = {"num_inference_steps": {"max": 50}, "lora": {"type": "object"}, "seed": False}
    parameters = configured({"parameters": told, **FREE}).capability.parameters
    assert parameters["num_inference_steps"] == Parameter("integer", 1, 50)
    assert parameters["lora"].kind == "object"
    assert "seed" not in parameters


@pytest.mark.parametrize(
    ("info", "asked", "price"),
    [
        ({"output_cost_per_second": 0.01}, {}, 40_000),
        ({"output_cost_per_video_per_second": {"1280x720": 0.03, "any": 0.01}}, {}, 120_000),
        ({"output_cost_per_second": 0.01}, {"fps": 48}, 80_000),
        ({"output_cost_per_second": 0.01}, {"fps": 12}, 40_000),
        ({"output_cost_per_video": 0.25}, {"fps": 48}, 250_000),
        ({"output_cost_per_gpu_second": 0.001}, {"fps": 48}, 1_800_000),
        ({"output_cost_per_gpu_second": 0.001, "max_gpu_seconds": 120}, {}, 120_000),
    ],
)
def test_a_price_counts_what_the_caller_asks_for(
    configured: Configured, info: dict[str, Any], asked: dict[str, Any], price: int
) -> None:
    """Of 4 seconds at 1280x720, at 24 frames a second unless it says otherwise."""
    assert configured(info).capability.price(4, "1280x720", asked) == price


@pytest.mark.parametrize(
    ("info", "reserved", "settled"),
    [
        ({"output_cost_per_second": 0.01}, 40_000, 30_000),
        ({"output_cost_per_video": 0.25}, 250_000, 250_000),
        ({"output_cost_per_gpu_second": 0.001}, 1_800_000, 50_000),
        ({"output_cost_per_gpu_second": 0.001, "max_gpu_seconds": 20}, 20_000, 20_000),
    ],
)
def test_a_video_is_settled_by_what_it_was_and_never_above(
    configured: Configured, info: dict[str, Any], reserved: int, settled: int
) -> None:
    """Three seconds came of four, and the server worked for fifty."""
    able = configured(info).capability
    assert able.settled(reserved, 4, 3.0, 50.0) == settled
    assert able.settled(reserved, 4, 400.0, 10**9) == reserved


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        ({}, "no price"),
        ({"output_cost_per_video_per_second": {"832x480": 0.1}}, "1280x720"),
        ({"output_cost_per_video": -1}, "0 or more"),
        ({"seconds": {"min": 5, "max": 2}, **FREE}, "seconds"),
        ({"sizes": ["huge"], **FREE}, "any"),
        ({"parameters": {"strength": {"max": 1}}, **FREE}, "type"),
        ({"parameters": {"seed": {"maximum": 1}}, **FREE}, "max"),
    ],
)
def test_a_mistake_is_named(configured: Configured, info: dict[str, Any], complaint: str) -> None:
    """At the start, in the operator's words."""
    with pytest.raises(ConfigurationError, match=complaint):
        configured(info)
