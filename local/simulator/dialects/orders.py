"""What clients ask in OpenAI's own dialect for: JSON and multipart bodies, validated as the service
would.
"""

import asyncio
import warnings
from io import BytesIO
from typing import Any

from aiohttp import web
from PIL import Image

from local.simulator.answers import Answer, Refused, openai_error
from local.simulator.bodies import FORM, File, form_fields, json_fields
from local.simulator.dialects.documented import (
    INPAINT_MISMATCH,
    blocked_input,
    invalid_type,
    invalid_value,
    missing_parameter,
)
from local.simulator.workshop import Order

SIZES = ("720x1280", "1280x720", "1024x1792", "1792x1024")
LARGE_SIZES = frozenset(SIZES[2:])
LONGEST_PROMPT = 32_000  # characters
DEFAULT_MODEL = "sora-2"
_SECONDS = ("4", "8", "12")
_IMAGE_TYPES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_JSON_NAMES = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array", dict: "an object"}


async def read_create(request: web.Request, *, model_required: bool) -> Order:
    """What is asked for; its `model` is still the deployment. Raises Refused with the answer that
    names the wrong field.
    """
    given = await _fields(request, ("model", "prompt", "seconds", "size", "input_reference"))
    if not model_required:
        given.setdefault("model", DEFAULT_MODEL)
    deployment = _text(given, "model")
    if not deployment:
        raise Refused(missing_parameter("model"))
    prompt = _prompt(given)
    seconds = given.get("seconds", "4")
    if not isinstance(seconds, str):
        raise Refused(invalid_type("seconds", "one of '4', '8', or '12'", _kind(seconds)))
    _require_one_of("seconds", seconds, _SECONDS)
    size = _text(given, "size", "720x1280")
    _require_one_of("size", size, SIZES)
    reference = await _reference(given, size)
    prompt = _admissible(prompt, with_image=reference is not None)
    return Order(deployment, deployment, prompt, int(seconds), size, reference)


async def read_remix(request: web.Request) -> str:
    """The new prompt. Raises Refused."""
    return _admissible(_prompt(await _fields(request, ("prompt",))), with_image=False)


async def _fields(request: web.Request, known: tuple[str, ...]) -> dict[str, Any]:
    given = await _body(request)
    for name in given:
        if name not in known:
            raise Refused(openai_error(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter"))
    return given


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        return await (form_fields(request) if request.content_type == FORM else json_fields(request))
    except (ValueError, RecursionError) as error:
        raise Refused(openai_error(400, "We could not parse the body of your request.")) from error
    except TypeError as error:
        raise Refused(openai_error(400, str(error))) from error


def _prompt(given: dict[str, Any]) -> str:
    prompt = _text(given, "prompt")
    if not prompt:
        raise Refused(missing_parameter("prompt"))
    if len(prompt) > LONGEST_PROMPT:
        raise Refused(invalid_value("prompt", f"Invalid 'prompt': the most is {LONGEST_PROMPT} characters."))
    return prompt


def _text(given: dict[str, Any], name: str, default: str = "") -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise Refused(invalid_type(name, "a string", _kind(value)))
    return value


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        listed = ", ".join(f"'{each}'" for each in allowed)
        raise Refused(invalid_value(name, f"Invalid value: '{value}'. Supported values are: {listed}."))


def _admissible(prompt: str, *, with_image: bool) -> str:
    """The stand-in for input moderation: one word is refused, and an image is blamed first."""
    if "forbidden" in prompt.lower():
        raise Refused(blocked_input("people-in-user-uploads" if with_image else "violence"))
    return prompt


async def _reference(given: dict[str, Any], size: str) -> bytes | None:
    file = given.get("input_reference")
    if file is None:
        return None
    if not isinstance(file, File):
        # A text part of a form lacks only its filename; JSON cannot carry a file at all.
        raise Refused(invalid_type("input_reference", "a file", _kind(file)))
    if file.content_type not in _IMAGE_TYPES:
        raise Refused(_wrong_image(f"unsupported mimetype ('{file.content_type}')"))
    width, height = map(int, size.split("x"))
    await asyncio.to_thread(_check_image, file, (width, height))
    return file.data


def _check_image(file: File, size: tuple[int, int]) -> None:
    try:
        # Pillow warns of very large pictures; here they are refused for their size anyway.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(file.data), formats=[_IMAGE_TYPES[file.content_type]])
        with image:
            if image.size != size:
                raise Refused(INPAINT_MISMATCH)
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(_wrong_image(f"the content is not {file.content_type}")) from error


def _wrong_image(why: str) -> Answer:
    supported = ", ".join(f"'{each}'" for each in _IMAGE_TYPES)
    return invalid_value("input_reference", f"Invalid file 'input_reference': {why}. Supported file formats are {supported}.")


def _kind(value: object) -> str:
    return "a file" if isinstance(value, File) else _JSON_NAMES[type(value)]
