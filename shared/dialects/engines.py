"""What inference servers have in common: their parameters, and the size as two numbers."""

from collections.abc import Mapping
from typing import Any

from shared.dialects.parameters import Parameter
from shared.errors import InvalidRequest

LONGEST_NEGATIVE_PROMPT = 8_000  # characters
LARGEST_INTEGER = 2**63 - 1

DIFFUSION: Mapping[str, Parameter] = {
    "negative_prompt": Parameter("text", most=LONGEST_NEGATIVE_PROMPT),
    "seed": Parameter("integer", 0, LARGEST_INTEGER),
    "num_frames": Parameter("integer", 1, 100_000),
    "num_inference_steps": Parameter("integer", 1, 200),
    "guidance_scale": Parameter("number", 0, 20),
    "guidance_scale_2": Parameter("number", 0, 20),
    "true_cfg_scale": Parameter("number", 0, 20),
    "flow_shift": Parameter("number", 0, 100),
    "enable_frame_interpolation": Parameter("boolean"),
    "frame_interpolation_exp": Parameter("integer", 1, 4),
    "frame_interpolation_scale": Parameter("number", 0.1, 4),
}


def with_size(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `width` and `height` replaced by `size`. Raises InvalidRequest."""
    told = {name: value for name, value in fields.items() if name not in ("width", "height")}
    sides = [fields.get("width"), fields.get("height")]
    if sides == [None, None]:
        return told
    if None in sides or told.get("size") is not None:
        raise InvalidRequest("Send `width` and `height` together and without `size`, or `size` alone.", param="size")
    return told | {"size": "x".join(map(str, sides))}
