"""Checks the section `guardrails` of config.yaml; gives its entries their addresses and keys."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from shared.config.file import LOOPBACK, first, read_key
from shared.config.guardrail import ADDRESS_NAMES, KEY_NAMES, Guardrail, GuardrailParams
from shared.errors import ConfigurationError, InvalidRequest


def read_guardrails(entries: Sequence[Guardrail], env: Mapping[str, str]) -> tuple[Guardrail, ...]:
    """The entries with their addresses and keys. Raises ConfigurationError."""
    names = [entry.guardrail_name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"Two guardrails are called {name!r}: give each its own guardrail_name.")
    return tuple(msgspec.structs.replace(entry, params=_read_params(entry, env)) for entry in entries)


def check_asked(asked: Iterable[str], guardrails: Sequence[Guardrail]) -> None:
    """Raises InvalidRequest for a guardrail that a request names and nobody has configured."""
    known = [each.guardrail_name for each in guardrails]
    for name in asked:
        if name not in known:
            raise InvalidRequest(
                f"There is no guardrail '{name}'. There are: {', '.join(known) or 'none here'}.", param="guardrails"
            )


def _read_params(entry: Guardrail, env: Mapping[str, str]) -> GuardrailParams:
    params, name = entry.params, entry.guardrail_name
    modes = [params.mode] if isinstance(params.mode, str) else params.mode
    if "pre_call" not in modes:
        raise ConfigurationError(f"The guardrail {name!r}: mode must be pre_call; prompts and images are screened here.")
    if params.is_local:
        if not params.blocked_words and not params.patterns:
            raise ConfigurationError(f"The guardrail {name!r} looks for nothing: give it blocked_words or patterns.")
        return params
    if not params.categories:
        raise ConfigurationError(f"The guardrail {name!r} looks for nothing: leave categories out, or name some.")
    key = read_key(params.api_key, env, KEY_NAMES, f"The guardrail {name!r}")
    return msgspec.structs.replace(params, api_base=_read_address(entry, env), api_key=key)


def _read_address(entry: Guardrail, env: Mapping[str, str]) -> str:
    told = entry.params.api_base or first(env, ADDRESS_NAMES)
    if not told:
        raise ConfigurationError(f"The guardrail {entry.guardrail_name!r} has no address: set {ADDRESS_NAMES[0]} or api_base.")
    parts = urlsplit(told.strip())
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not safe or not parts.hostname or parts.username or parts.password or parts.query:
        raise ConfigurationError(
            f"The guardrail {entry.guardrail_name!r}: api_base must be an https:// URL without credentials or a query."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
