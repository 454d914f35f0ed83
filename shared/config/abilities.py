"""Turns an entry's `model_info` into what its model accepts and costs. Every mistake has a message
that names it.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from shared.config.capability import ANY_SIZE, Capability
from shared.config.catalog import KNOWN_MODELS, MICROS
from shared.config.file import Bounds, Lengths, ModelEntry
from shared.dialects.dialect import EVERY_VARIANT, Dialect
from shared.dialects.parameters import Parameter, Parameters
from shared.errors import ConfigurationError

_LONGEST_VIDEO = 3600  # seconds
_USUAL_SIZE = "1280x720"  # the default if any size is accepted


def read_capability(entry: ModelEntry, dialect: Dialect, longest_job: float) -> Capability:
    """The built-in capability of a known model, else that of the dialect, changed or completed by
    `model_info`. `longest_job` is how many seconds of a server's time one video can take. Raises
    ConfigurationError.
    """
    info = entry.model_info
    known = KNOWN_MODELS.get((info.base_model or entry.params.model).rpartition("/")[2])
    sizes, any_size = _read_sizes(entry, dialect, known)
    seconds = _read_seconds(entry, dialect, known)
    whole_video, gpu_second = info.output_cost_per_video, info.output_cost_per_gpu_second
    return Capability(
        sizes=sizes,
        seconds=seconds,
        prices={} if (whole_video, gpu_second) != (None, None) else _read_prices(entry, sizes, known, any_size=any_size),
        variants=tuple(each for each in EVERY_VARIANT if info.variants is None or each in info.variants),
        remix=dialect.remixes and info.remix,
        any_size=any_size,
        per_video=None if whole_video is None else _micros(entry, whole_video),
        per_gpu_second=None if gpu_second is None else _micros(entry, gpu_second),
        most_gpu_seconds=info.max_gpu_seconds or longest_job,
        parameters=_read_parameters(entry, dialect),
        fps=info.fps or dialect.fps,
        resizes=dialect.resizes if info.resizes_references is None else info.resizes_references,
    )


def _read_sizes(entry: ModelEntry, dialect: Dialect, known: Capability | None) -> tuple[tuple[str, ...], bool]:
    """The sizes, and whether any other one is accepted too."""
    told = entry.model_info.sizes
    if told == ANY_SIZE or (told is None and known is None and dialect.any_size):
        return (_USUAL_SIZE,), True
    sizes = tuple(told or ()) or (known.sizes if known else ())
    if not sizes:
        raise ConfigurationError(f"The model {entry.model_name!r} is not a known one: say model_info.sizes.")
    if any(not re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", size) for size in sizes):
        raise ConfigurationError(f"The model {entry.model_name!r}: model_info.sizes must look like 1280x720, or be 'any'.")
    return sizes, False


def _read_seconds(entry: ModelEntry, dialect: Dialect, known: Capability | None) -> Sequence[int]:
    told = entry.model_info.seconds
    if isinstance(told, Lengths):
        seconds: Sequence[int] = range(told.min, told.max + 1)
    else:
        seconds = tuple(told or ()) or (known.seconds if known else dialect.lengths or ())
    if not seconds:
        raise ConfigurationError(
            f"The model {entry.model_name!r} is not a known one: say model_info.seconds, a list or {{min, max}}."
        )
    if not 1 <= min(seconds) <= max(seconds) <= _LONGEST_VIDEO:
        raise ConfigurationError(f"The model {entry.model_name!r}: model_info.seconds must be from 1 to {_LONGEST_VIDEO}.")
    return seconds


def _read_prices(entry: ModelEntry, sizes: Sequence[str], known: Capability | None, *, any_size: bool) -> dict[str, int]:
    """Micro-dollars per second of video, by size."""
    info = entry.model_info
    told = info.output_cost_per_video_per_second
    told = info.output_cost_per_second if told is None else told
    wanted = [*sizes, ANY_SIZE] if any_size else [*sizes]
    if told is None and known and set(wanted) <= set(known.prices):
        return {size: known.prices[size] for size in wanted}
    if told is None:
        raise ConfigurationError(
            f"The model {entry.model_name!r} has no price: say model_info.output_cost_per_video_per_second, "
            "output_cost_per_video or output_cost_per_gpu_second."
        )
    dollars = told if isinstance(told, Mapping) else dict.fromkeys(wanted, told)
    missing = [size for size in wanted if size not in dollars and ANY_SIZE not in dollars]
    if missing:
        raise ConfigurationError(f"The model {entry.model_name!r} has no price for the size {missing[0]}.")
    return {
        size: _micros(entry, dollars.get(size, dollars.get(ANY_SIZE, 0.0))) for size in {**dict.fromkeys(wanted), **dollars}
    }


def _micros(entry: ModelEntry, dollars: float) -> int:
    if not 0 <= dollars < MICROS:
        raise ConfigurationError(f"The model {entry.model_name!r}: a cost must be 0 or more dollars.")
    return round(dollars * MICROS)


def _read_parameters(entry: ModelEntry, dialect: Dialect) -> Parameters:
    """The dialect's parameters, as `model_info.parameters` narrows or widens them."""
    told = {**dialect.parameters}
    for name, bounds in entry.model_info.parameters.items():
        if bounds is False:
            told.pop(name, None)
        elif isinstance(bounds, Bounds):
            told[name] = _changed(entry, name, told.get(name), bounds)
    return told


def _changed(entry: ModelEntry, name: str, known: Parameter | None, bounds: Bounds) -> Parameter:
    if known is None and bounds.type is None:
        raise ConfigurationError(f"The model {entry.model_name!r}: the parameter {name!r} is a new one: say its type.")
    parameter = known or Parameter("text")
    return msgspec.structs.replace(
        parameter,
        kind=bounds.type or parameter.kind,
        least=parameter.least if bounds.min is None else bounds.min,
        most=parameter.most if bounds.max is None else bounds.max,
        choices=parameter.choices if bounds.choices is None else tuple(bounds.choices),
    )
