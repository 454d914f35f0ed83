"""Checks what callers send, before anything is spent or sent on. The result is a complete, valid
request, or an error.
"""

import binascii
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, cast, get_args

import msgspec

from shared.config.catalog import Catalog, Model
from shared.dialects.parameters import Parameter
from shared.errors import InvalidRequest, TooLarge
from shared.media.reference_image import LARGEST, Fit
from shared.media.remote_image import LONGEST_URL
from shared.media.video import EVERY_VIDEO, Status, Video, VideoFilter, is_id

Fields = Mapping[str, Any]

LONGEST_PROMPT = 32_000  # characters, as in the OpenAI specification
LONGEST_USER = 512
_LONGEST_PARAMETERS = 24_000  # characters of JSON: they are stored in one column
_PIECE = 256 * 1024  # characters of base64 decoded in one call; each four are three bytes
_MOST_GUARDRAILS, _LONGEST_NAME = 32, 128
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512  # the limits of OpenAI's own `metadata`

CREATE_FIELDS = (
    *("prompt", "model", "seconds", "size", "input_reference", "reference_fit"),
    *("user", "metadata", "guardrails", "callback_url"),
)
_NUMBERS = ("n", "num_outputs_per_prompt")  # names for the number of videos, which is always 1
_OTHER_WORDS = {  # names of Sora 1 and of other gateways
    "n_seconds": "seconds",
    "duration": "seconds",
    "width": "size",
    "height": "size",
    "resolution": "size",
    "image": "input_reference",
    "inpaint_items": "input_reference",
}


class CreateRequest(msgspec.Struct, frozen=True):
    """A valid request for one video. `source` is the video that a remix is made from, and
    `recreated` whether that remix is made anew instead of from the source's job.

    `image` holds the reference image's bytes or its https:// address, which `ReferenceImages`
    fetches and checks later; `fit` is how it gets the video's size. `metadata` is JSON text.
    `parameters` are those that the model's kind of server takes beside OpenAI's. `guardrails` are
    the names of those to run beside the ones that are always on. `callback_url` is not checked yet.
    """

    prompt: str
    model: Model
    seconds: int
    size: str
    image: bytes | str | None
    user: str | None
    metadata: str | None
    source: Video | None = None
    recreated: bool = False
    fit: Fit = "exact"
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    guardrails: tuple[str, ...] = ()
    callback_url: str | None = None

    @property
    def words(self) -> str:
        """The caller's own words, for guardrails: the prompt, and parameters that are free text,
        such as a negative prompt.
        """
        known = self.model.capability.parameters
        texts = [value for name, value in self.parameters.items() if isinstance(value, str) and not known[name].choices]
        return "\n\n".join((self.prompt, *texts))

    @property
    def price(self) -> int:
        """The full price in micro-dollars."""
        return self.model.capability.price(self.seconds, self.size, self.parameters)


def parse_create(fields: Fields, catalog: Catalog) -> CreateRequest:
    """Check a create request, except the pixels of its image: decoding is too expensive for a
    request that the account may refuse. A file part is `bytes` in `fields`.

    Raises InvalidRequest or TooLarge.
    """
    fields = _with_extra_body(fields)
    model = catalog.find(_text(fields, "model"))
    fields = _of_one_video(model.dialect.translated(fields))
    _refuse_withheld(fields, model)
    refuse_unknown(fields, (*CREATE_FIELDS, *model.capability.parameters))
    return _request(fields, model)


def _with_extra_body(fields: Fields) -> Fields:
    """The fields with those of an `extra_body`, which LiteLLM's clients may send as a field."""
    extra = fields.get("extra_body")
    if extra is None:
        return fields
    told = Parameter("object").read("extra_body", extra)
    fields = {name: value for name, value in fields.items() if name != "extra_body"}
    for name in fields.keys() & told.keys():
        raise InvalidRequest(f"`{name[:64]}` is given twice.", code="duplicate_parameter", param=name[:64])
    return {**fields, **told}


def _of_one_video(fields: Fields) -> Fields:
    """The fields without a number of videos. Raises InvalidRequest if that is not 1."""
    for name in _NUMBERS:
        if fields.get(name) is not None and Parameter("integer").read(name, fields[name]) != 1:
            told = "A create makes one video: send a create for each."
            raise InvalidRequest(told, code="not_supported", param=name)
    return {name: value for name, value in fields.items() if name not in _NUMBERS}


def _refuse_withheld(fields: Fields, model: Model) -> None:
    """Raises InvalidRequest for a parameter that the server takes and the gateway does not send."""
    withheld = [name for name in model.dialect.withheld if name not in model.capability.parameters]
    for name in fields:
        if name in withheld:
            raise InvalidRequest(
                f"The gateway does not pass `{name}` on, which may name a file or an address of the server. "
                "One reference image can be sent as `input_reference`; anything else has to be allowed by the operator.",
                code="not_supported",
                param=name,
            )


def _request(fields: Fields, model: Model) -> CreateRequest:
    reference = fields.get("input_reference")
    parameters = _parameters(fields, model)
    return CreateRequest(
        prompt=_prompt(fields),
        model=model,
        seconds=_seconds(_length(fields, parameters, model), model),
        size=_size(fields.get("size"), model),
        image=None if reference is None else _image(reference),
        user=_text(fields, "user", longest=LONGEST_USER),
        metadata=_metadata(fields.get("metadata")),
        fit=_fit(fields, "cover" if model.capability.resizes else "exact"),
        parameters=parameters,
        guardrails=_guardrails(fields.get("guardrails")),
        callback_url=_text(fields, "callback_url", longest=LONGEST_URL),
    )


def _parameters(fields: Fields, model: Model) -> dict[str, Any]:
    """The parameters beside OpenAI's, checked. Raises InvalidRequest."""
    known = model.capability.parameters
    asked = {name: known[name].read(name, value) for name, value in fields.items() if name in known and value is not None}
    if len(json.dumps(asked)) > _LONGEST_PARAMETERS:
        longest = max(asked, key=lambda name: len(json.dumps(asked[name])))
        raise InvalidRequest(f"The parameters have more than {_LONGEST_PARAMETERS} characters together.", param=longest)
    return asked


def _length(fields: Fields, parameters: Mapping[str, Any], model: Model) -> object:
    """The seconds asked for. A number of frames is a length too, which the server obeys, so the two
    must agree. Raises InvalidRequest.
    """
    told, frames, fps = fields.get("seconds"), parameters.get("num_frames"), parameters.get("fps", model.capability.fps)
    if frames is None or fps is None:
        return told
    seconds = ceil(frames / fps)
    if told is not None and str(told) != str(seconds):
        raise InvalidRequest(
            f"`num_frames` {frames} at {fps:g} frames a second are {seconds} seconds: leave `seconds` out.", param="num_frames"
        )
    return seconds


def parse_remix(fields: Fields, source: Video, catalog: Catalog, *, recreate: bool = True) -> CreateRequest:
    """Check a remix of a completed video: `prompt` describes the change; a parameter that is absent
    or null keeps the source's value.

    An upstream remixes by a prompt alone. With another length, another size or an image, the video
    is made anew, if the operator allows it (`recreate`). Raises InvalidRequest or TooLarge.
    """
    if "model" in fields:
        raise InvalidRequest(
            "A remix keeps the `model` of its source: make a new video.", code="unknown_parameter", param="model"
        )
    refuse_unknown(fields, tuple(name for name in CREATE_FIELDS if name != "model"))
    model = _maker(source, catalog)
    kept = {"seconds": source.seconds, "size": source.size}
    request = _request({**kept, **{name: value for name, value in fields.items() if value is not None}}, model)
    request = msgspec.structs.replace(request, source=source)
    changed = next((name for name in _RECREATES if getattr(request, name) != kept.get(name)), None)
    if changed is None and not model.capability.remix:
        raise _cannot_remix(model, catalog)
    if changed is not None and not recreate:
        raise _only_kept("input_reference" if changed == "image" else changed)
    return request if changed is None else msgspec.structs.replace(request, recreated=True, parameters=_asked(source, model))


_RECREATES = ("seconds", "size", "image")  # parameters that no upstream's remix takes


def _asked(source: Video, model: Model) -> dict[str, Any]:
    """The source's parameters beside OpenAI's that its model still takes. A number of frames is
    left out, since the remix has a length in seconds.
    """
    return {name: value for name, value in source.asked.items() if name in model.capability.parameters and name != "num_frames"}


def _only_kept(name: str) -> InvalidRequest:
    told = f"A remix keeps the `{name}` of its source: leave it out, or make a new video."
    return InvalidRequest(told, code="remix_not_supported", param=name)


def _cannot_remix(model: Model, catalog: Catalog) -> InvalidRequest:
    able = ", ".join(each.name for each in catalog.models if each.capability.remix)
    return InvalidRequest(
        f"The model '{model.name}' cannot remix. Models that can: {able or 'none here'}.",
        code="not_supported",
        param="video_id",
    )


def _maker(source: Video, catalog: Catalog) -> Model:
    """The model that made a video. Raises InvalidRequest if it is no longer configured, or makes no
    videos of the source's length and size any more.
    """
    model = catalog.home(source.deployment)
    if model is None:
        raise InvalidRequest(
            "The model that made this video is no longer configured.", code="model_not_found", param="video_id"
        )
    if not model.capability.makes(source.size) or source.seconds not in model.capability.seconds:
        raise InvalidRequest(
            f"The model '{model.name}' no longer makes videos of {source.seconds} seconds in {source.size}.",
            code="remix_not_supported",
            param="video_id",
        )
    return model


def with_history(request: CreateRequest, prompts: Sequence[str]) -> CreateRequest:
    """The request of a remix that is made anew, with all prompts that led to it: those of its
    sources, oldest first, and its own. Raises InvalidRequest if they are too long together.
    """
    prompt = "\n\n".join((*prompts, request.prompt))
    if len(prompt) > LONGEST_PROMPT:
        raise InvalidRequest(
            f"`prompt` and the prompts of the video's sources have more than {LONGEST_PROMPT} characters.", param="prompt"
        )
    return msgspec.structs.replace(request, prompt=prompt)


class ListRequest(msgspec.Struct, frozen=True):
    """One page of a list: at most `limit` videos that match `wanted`, after the video `after` in
    the given order.
    """

    limit: int = 20
    after: str | None = None
    newest_first: bool = True
    wanted: VideoFilter = EVERY_VIDEO


MOST_LISTED = 100  # videos of a page
LIST_PARAMETERS = ("limit", "after", "order", "status", "model", "user")
_METADATA_FILTER = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
# Clients of Azure and of LiteLLM add these to every request. They have no effect here.
_IGNORED_PARAMETERS = ("api-version", "custom_llm_provider")


def parse_list(query: Mapping[str, str], catalog: Catalog) -> ListRequest:
    """Check the query of a list. Raises InvalidRequest, also for an unknown filter: to ignore it
    would list other videos than were asked for.
    """
    filters = {name: match[1] for name in query if (match := _METADATA_FILTER.fullmatch(name))}
    refuse_unknown_query({name: None for name in query if name not in filters}, LIST_PARAMETERS)
    limit = query.get("limit", "20")
    after = query.get("after") or None
    if after is not None and not is_id(after):
        raise InvalidRequest("`after` must be the id of a video.", param="after")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 9 and int(limit) <= MOST_LISTED):
        raise InvalidRequest(f"`limit` must be a whole number from 0 to {MOST_LISTED}.", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` must be 'asc' or 'desc'.", param="order")
    metadata = tuple((key, query[name]) for name, key in filters.items())
    return ListRequest(int(limit), after, order == "desc", _filter(query, metadata, catalog))


def _filter(query: Mapping[str, str], metadata: tuple[tuple[str, str], ...], catalog: Catalog) -> VideoFilter:
    """The filter of a list. A model that is no longer configured is still found by its name."""
    status = query.get("status")
    if status is not None and status not in get_args(Status):
        raise InvalidRequest(f"`status` must be one of {', '.join(get_args(Status))}.", param="status")
    model = query.get("model")
    known = catalog.spelled(model) if model else None
    return VideoFilter(cast("Status | None", status), known.name if known else model, query.get("user"), metadata)


def refuse_unknown(fields: Fields, known: tuple[str, ...]) -> None:
    """Raises InvalidRequest for the first unknown parameter, and suggests a known one."""
    for name in fields:
        if name in known:
            continue
        shown = name[:64]
        meant = _OTHER_WORDS.get(name) or next(iter(difflib.get_close_matches(shown, known, n=1)), None)
        hint = f" Did you mean '{meant}'?" if meant else f" Known parameters: {', '.join(known)}."
        raise InvalidRequest(f"Unknown parameter: '{shown}'.{hint}", code="unknown_parameter", param=shown)


def refuse_unknown_query(query: Fields, known: tuple[str, ...]) -> None:
    """The same for a query string, in which the parameters that some clients always add are
    allowed.
    """
    refuse_unknown({name: value for name, value in query.items() if name not in _IGNORED_PARAMETERS}, known)


def _text(fields: Fields, name: str, longest: int = 256) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.", code="invalid_type", param=name)
    if not value or len(value) > longest:
        raise InvalidRequest(f"`{name}` must have 1 to {longest} characters.", param=name)
    return value


def _prompt(fields: Fields) -> str:
    if fields.get("prompt") is None:
        raise InvalidRequest("Missing required parameter: 'prompt'.", code="missing_required_parameter", param="prompt")
    prompt = _text(fields, "prompt", longest=LONGEST_PROMPT) or ""
    if not prompt.strip():
        raise InvalidRequest("`prompt` must say something.", param="prompt")
    return prompt


def _seconds(value: object, model: Model) -> int:
    """The length in seconds, given as a number or as text: Azure takes text, callers send both."""
    allowed = model.capability.seconds
    if value is None:
        return model.capability.usual_seconds
    if isinstance(value, str) and value in map(str, allowed):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in allowed:
        return value
    raise InvalidRequest(f"`seconds` must be {_choices(allowed)} for the model '{model.name}'.", param="seconds")


def _choices(allowed: Sequence[int]) -> str:
    if isinstance(allowed, range) and allowed.step == 1:
        return f"a whole number from {allowed[0]} to {allowed[-1]}"
    return f"one of {_listed(allowed)}"


def _listed(choices: Iterable[object]) -> str:
    return ", ".join(f'"{each}"' for each in choices)


def _size(value: object, model: Model) -> str:
    able = model.capability
    if value is None:
        return able.sizes[0]
    if isinstance(value, str) and able.makes(value):
        return value
    choices = "WIDTHxHEIGHT, from 64 to 4096 pixels each," if able.any_size else f"one of {_listed(able.sizes)}"
    raise InvalidRequest(f"`size` must be {choices} for the model '{model.name}'.", param="size")


def _fit(fields: Fields, usual: Fit) -> Fit:
    value = fields.get("reference_fit")
    if value is None:
        return usual
    if value not in get_args(Fit):
        raise InvalidRequest(f"`reference_fit` must be one of {', '.join(get_args(Fit))}.", param="reference_fit")
    if fields.get("input_reference") is None:
        raise InvalidRequest("`reference_fit` is of an `input_reference`, and there is none.", param="reference_fit")
    return cast("Fit", value)


def _image(value: object) -> bytes | str:
    """The image of a file part, of a data URL, or the https:// address of one: as text, or as the
    object `{"image_url": …}`.

    Raises InvalidRequest or TooLarge.
    """
    url = value["image_url"] if isinstance(value, dict) and value.keys() == {"image_url"} else value
    if isinstance(url, bytes):  # a file, or a data URL that was decoded while it was received
        return _not_too_large(url)
    if isinstance(url, str) and url.startswith("https://"):
        return url
    return _not_too_large(_inline_image(url))


def _not_too_large(image: bytes) -> bytes:
    if len(image) > LARGEST:
        raise TooLarge(f"The reference image is larger than {LARGEST // 1024**2} MiB.", param="input_reference")
    return image


def _inline_image(url: object) -> bytes:
    """The bytes of a data URL."""
    if isinstance(url, str) and url.startswith("data:") and ";base64," in url[:128]:
        try:
            return _decoded(url.partition(";base64,")[2])
        except ValueError as error:
            raise InvalidRequest("The data URL of `input_reference` is not valid base64.", param="input_reference") from error
    raise InvalidRequest(
        "`input_reference` must be a file part, a data URL (data:image/png;base64,…) or an https:// address, "
        'or {"image_url": …} with one of the two.',
        code="invalid_type",
        param="input_reference",
    )


def _decoded(text: str) -> bytes:
    """The bytes of a base64 text. Raises ValueError.

    Decoded in pieces: the decoder blocks all other threads, for a third of a second with the
    largest image.
    """
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    if any("=" in piece for piece in pieces[:-1]):
        raise ValueError("padding comes last")
    return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces)


def _guardrails(value: object) -> tuple[str, ...]:
    """Names of guardrails: a list, or one name as a form may send it."""
    names = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(names, list) or len(names) > _MOST_GUARDRAILS or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(
            f"`guardrails` must be a list of at most {_MOST_GUARDRAILS} names.", code="invalid_type", param="guardrails"
        )
    return tuple(dict.fromkeys(name[:_LONGEST_NAME] for name in names))


def _metadata(value: object) -> str | None:
    """Up to 16 pairs of text, as JSON text. A form may send them as JSON text too."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise InvalidRequest("`metadata` is not valid JSON.", param="metadata") from error
    if value is None:
        return None
    good = (
        isinstance(value, dict)
        and len(value) <= _METADATA_PAIRS
        and all(
            isinstance(key, str) and len(key) <= _METADATA_KEY and isinstance(each, str) and len(each) <= _METADATA_VALUE
            for key, each in value.items()
        )
    )
    if not good:
        raise InvalidRequest(
            f"`metadata` must be an object of at most {_METADATA_PAIRS} pairs of text, keys up to {_METADATA_KEY} and "
            f"values up to {_METADATA_VALUE} characters.",
            param="metadata",
        )
    return json.dumps(value, ensure_ascii=False)
