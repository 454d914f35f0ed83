"""How the app connects to other services: one HTTP client, and the app's identity."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
    from azure.identity.aio import DefaultAzureCredential

_CONNECTIONS = 100
# Seconds between two forced renewals. While the identity lacks a role, every call is refused, and
# new tokens do not change that.
_RENEW_AGAIN = 30.0
_UPSTREAM_TIMEOUT = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": 30.0}


class Connections:
    """The shared clients, made on first use, on the event loop that uses them."""

    def __init__(self, client_id: str | None) -> None:
        self._client_id = client_id
        self._http: httpx.AsyncClient | None = None
        self._credential: DefaultAzureCredential | None = None
        # Not the credential of the storage clients: a renewal replaces this one, since only a new
        # credential is certain to fetch a new token.
        self._token_source: DefaultAzureCredential | None = None
        self._former_source: DefaultAzureCredential | None = None
        self._renewed_at = 0.0

    def http(self) -> "httpx.AsyncClient":
        """The HTTP client that the whole app shares, made at its first use."""
        if self._http is None:
            from http.cookiejar import CookieJar, DefaultCookiePolicy

            import httpx

            limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=20)
            # Redirects are followed in `client`, without credentials. The machine's proxies and
            # .netrc are ignored.
            # No cookie is kept: webhooks are sent to IP addresses, and what one tenant's receiver
            # sets would go to another's at the same one.
            no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            timeout = httpx.Timeout(**_UPSTREAM_TIMEOUT)
            self._http = httpx.AsyncClient(limits=limits, timeout=timeout, cookies=no_cookies, trust_env=False)
        return self._http

    def credential(self) -> "DefaultAzureCredential":
        """The identity for clients that fetch their tokens themselves, made at its first use."""
        if self._credential is None:
            from azure.identity.aio import DefaultAzureCredential

            self._credential = DefaultAzureCredential(managed_identity_client_id=self._client_id)
        return self._credential

    async def token(self, scope: str, *, renew: bool = False) -> str:
        """A bearer token for the scope. The library caches it and renews it before it expires;
        `renew` fetches a new one at once. Raises AzureError.
        """
        from azure.identity.aio import DefaultAzureCredential

        now = asyncio.get_running_loop().time()
        if self._token_source is None or (renew and now - self._renewed_at > _RENEW_AGAIN):
            # The previous source may still be in use by other calls; the one before that is not.
            if self._former_source is not None:
                await self._former_source.close()
            self._former_source, self._renewed_at = self._token_source, now
            self._token_source = DefaultAzureCredential(managed_identity_client_id=self._client_id)
        return (await self._token_source.get_token(scope)).token

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        for credential in (self._credential, self._token_source, self._former_source):
            if credential is not None:
                await credential.close()
