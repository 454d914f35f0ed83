"""Where a call goes, and as whom: a gateway, or Azure OpenAI itself.

A call's own arguments come first, then `VIDEO_GATEWAY_URL` and `VIDEO_GATEWAY_KEY`, then Azure's
variables. Without an Azure key, an Entra token is used: `AZURE_AD_TOKEN`, or the identity that
`azure-identity` finds (`pip install video-gateway[entra]`).
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from openai import AsyncOpenAI, OpenAI

from video_gateway.exceptions import AuthenticationError

DEFAULT_MODEL = "azure/sora-2"

_URL, _KEY = "VIDEO_GATEWAY_URL", "VIDEO_GATEWAY_KEY"
_AZURE_URLS = ("AZURE_OPENAI_API_BASE", "AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE")
_AZURE_KEYS = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_SCOPE = "https://cognitiveservices.azure.com/.default"
_RETRIES = 2  # the official client's own default


@dataclass(frozen=True)
class Place:
    """A server: its address up to `/v1`, the key, and whether it is Azure itself. `key` is None
    where a token of an identity is used.
    """

    base_url: str
    key: str | None
    azure: bool
    api_version: str | None = None

    @property
    def root(self) -> str:
        """The address without `/v1`, under which a gateway has its keys and models."""
        return self.base_url.removesuffix("/v1")

    @property
    def create_retries(self) -> int:
        """How often a create may be repeated. Azure knows no idempotency key and would make a
        second job; a gateway recognises the repetition.
        """
        return 0 if self.azure else _RETRIES

    def model(self, name: str | None) -> str | None:
        """The model's name as the server knows it: Azure has deployments, without a provider."""
        return (name or DEFAULT_MODEL).removeprefix("azure/") if self.azure else name


def find_place(
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    api_version: str | None = None,
    azure_ad_token: str | None = None,
    custom_llm_provider: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Place:
    """Where a call with these arguments goes.

    Raises AuthenticationError where a key is missing, and ValueError where the address is missing,
    is no URL, or is set twice and differently.
    """
    env = os.environ if environment is None else environment
    base = api_base or env.get(_URL)
    azure = custom_llm_provider == "azure" or (base is None and custom_llm_provider is None)
    base = base or _only(env, _AZURE_URLS)
    if base is None:
        raise ValueError(f"No server is configured: set {_URL}, or {_AZURE_URLS[0]}, or give api_base.")
    host = _host(base)
    azure = azure or host.endswith(_AZURE_HOSTS)
    version = api_version or (env.get("AZURE_API_VERSION") if azure else None)
    key = api_key or azure_ad_token or (_azure_key(env) if azure else env.get(_KEY))
    if not azure and not key:
        raise AuthenticationError(f"No key for the gateway at {host}: set {_KEY}, or give api_key.")
    return Place(_up_to_v1(base, azure=azure), key, azure, version)


def client_of(place: Place) -> OpenAI:
    """The official client for a place; one is kept for each."""
    return _client(place)


def async_client_of(place: Place) -> AsyncOpenAI:
    """A new asynchronous client: it belongs to the event loop that it is used on, so the caller
    closes it.
    """
    return AsyncOpenAI(base_url=place.base_url, api_key=place.key or _async_identity(), **_options(place))


@cache
def _client(place: Place) -> OpenAI:
    return OpenAI(base_url=place.base_url, api_key=place.key or _identity(), **_options(place))


def _options(place: Place) -> dict[str, Any]:
    query = {"api-version": place.api_version} if place.api_version else None
    return {"default_query": query, "max_retries": _RETRIES}


def _identity() -> Callable[[], str]:
    try:
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider
    except ImportError as error:
        raise _no_key() from error
    return get_bearer_token_provider(DefaultAzureCredential(), _SCOPE)


def _async_identity() -> Callable[[], Awaitable[str]]:
    try:
        from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider
    except ImportError as error:
        raise _no_key() from error
    return get_bearer_token_provider(DefaultAzureCredential(), _SCOPE)


def _no_key() -> AuthenticationError:
    return AuthenticationError(
        f"No key for Azure OpenAI: set {_AZURE_KEYS[0]}, or install video-gateway[entra] to use an Entra identity."
    )


def _azure_key(env: Mapping[str, str]) -> str | None:
    return next((env[name] for name in _AZURE_KEYS if env.get(name)), None) or env.get("AZURE_AD_TOKEN") or None


def _only(env: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The one value that these variables have. Raises ValueError where two of them differ."""
    told = {name: env[name] for name in names if env.get(name)}
    if len({_up_to_v1(value, azure=True) for value in told.values()}) > 1:
        raise ValueError(f"{' and '.join(told)} name different resources: keep one of them.")
    return next(iter(told.values()), None)


def _host(base: str) -> str:
    parts = urlsplit(base.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"The address {parts.path or base!r} must begin with https://.")
    return parts.hostname


def _up_to_v1(base: str, *, azure: bool) -> str:
    bare = re.sub(r"(/openai)?(/v1)?(/videos)?/*$", "", base.strip()) if azure else re.sub(r"(/v1)?/*$", "", base.strip())
    return f"{bare.rstrip('/')}{'/openai/v1' if azure else '/v1'}"
