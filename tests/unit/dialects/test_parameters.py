"""Parameters beside OpenAI's: their types and bounds, in JSON and in forms."""

from typing import Any

import pytest

from shared.dialects.known import DIALECTS
from shared.dialects.parameters import Parameter, as_text
from shared.errors import InvalidRequest


@pytest.mark.parametrize(
    ("parameter", "value", "told"),
    [
        (Parameter("integer", 1, 200), 40, 40),
        (Parameter("integer", 1, 200), "40", 40),
        (Parameter("integer"), 4.0, 4),
        (Parameter("integer"), str(2**62), 2**62),
        (Parameter("number", 0, 20), "7.5", 7.5),
        (Parameter("number", 0, 20), 0, 0),
        (Parameter("boolean"), "true", True),
        (Parameter("boolean"), False, False),
        (Parameter("text", most=5), "blurr", "blurr"),
        (Parameter("text", choices=("high", "low")), "low", "low"),
        (Parameter("object"), '{"name": "a"}', {"name": "a"}),
    ],
)
def test_a_value_is_read_from_json_and_from_a_form(parameter: Parameter, value: Any, told: Any) -> None:
    """A form has text alone; what is sent on is text again, which reads the same."""
    assert parameter.read("p", value) == told
    assert parameter.read("p", as_text(told)) == told


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        (Parameter("integer"), True, "invalid_type"),
        (Parameter("integer"), 4.5, "invalid_type"),
        (Parameter("integer"), "x", "invalid_type"),
        (Parameter("number"), "NaN", "invalid_type"),
        (Parameter("number"), float("inf"), "invalid_type"),
        (Parameter("boolean"), 1, "invalid_type"),
        (Parameter("text"), 7, "invalid_type"),
        (Parameter("text"), "\ud800", "invalid_type"),
        (Parameter("object"), "[1]", "invalid_type"),
        (Parameter("object"), "[" * 100_000, "invalid_type"),
        (Parameter("object"), '{"prompt": "\\ud800"}', "invalid_type"),
        (Parameter("object"), '{"a": NaN}', "invalid_type"),
        (Parameter("integer", 1, 200), 0, "invalid_value"),
        (Parameter("integer", 1, 200), "201", "invalid_value"),
        (Parameter("text", most=5), "blurry", "invalid_value"),
        (Parameter("text", choices=("high", "low")), "medium", "invalid_value"),
        (Parameter("object"), {"a": "x" * 9_000}, "invalid_value"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(parameter: Parameter, value: Any, code: str) -> None:
    """With what it may be."""
    with pytest.raises(InvalidRequest) as refused:
        parameter.read("p", value)
    assert (refused.value.code, refused.value.param) == (code, "p")


def test_no_parameter_names_a_file_or_an_address() -> None:
    """Nothing that a caller sends chooses a path or a host of the server's."""
    names = {name for dialect in DIALECTS.values() for name in dialect.parameters}
    assert [name for name in names if any(word in name for word in ("path", "url", "lora", "kwargs", "extra"))] == []
