"""The composition: settings in, everything that works together out. Nothing connects before it is
used.
"""

import asyncio
import logging
import weakref
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.keys import Keys
from shared.accounts.ledger import Ledger
from shared.capacity.job_claims import JobClaims
from shared.capacity.pool import Pool
from shared.capacity.render_times import RenderTimes
from shared.clock import Clock, SystemClock
from shared.config import settings
from shared.config.catalog import Catalog, Deployment
from shared.config.file import GatewayKnobs
from shared.config.settings import Settings, Storage
from shared.storage.blobs import Archive
from shared.storage.tables import Tables
from shared.upstream.client import Upstream
from shared.videos.lifecycle import Lifecycle
from shared.videos.rendering import Rendering
from shared.videos.submission import Submission

if TYPE_CHECKING:
    import httpx
    from azure.identity.aio import DefaultAzureCredential

_CONNECTIONS = 100
_POLLS_A_VIDEO = 24  # at the usual pace, two minutes: the first guess of how long a video takes
_RENEW_AGAIN = 30.0  # seconds: while a role is missing every call is refused, and a new token each time would not help
_UPSTREAM_TIMEOUT = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": 30.0}


class Connections:
    """The shared clients of the outside world: made on first use, on the loop that uses them."""

    def __init__(self, client_id: str | None) -> None:
        self._client_id = client_id
        self._http: httpx.AsyncClient | None = None
        self._credential: DefaultAzureCredential | None = None
        # Apart from the one that the storage clients hold, since only a new one is sure to ask for
        # a new token.
        self._token_source: DefaultAzureCredential | None = None
        self._former_source: DefaultAzureCredential | None = None
        self._renewed_at = 0.0

    def http(self) -> "httpx.AsyncClient":
        if self._http is None:
            import httpx

            limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=20)
            # Redirects are followed by hand, without credentials; proxies and .netrc of the machine
            # have no say.
            self._http = httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(**_UPSTREAM_TIMEOUT), trust_env=False)
        return self._http

    def credential(self) -> "DefaultAzureCredential":
        if self._credential is None:
            from azure.identity.aio import DefaultAzureCredential

            self._credential = DefaultAzureCredential(managed_identity_client_id=self._client_id)
        return self._credential

    async def token(self, scope: str, *, renew: bool = False) -> str:
        """A bearer token; the library keeps it, and renews it before it runs out. `renew` asks for
        one that is new.
        """
        from azure.identity.aio import DefaultAzureCredential

        now = asyncio.get_running_loop().time()
        if self._token_source is None or (renew and now - self._renewed_at > _RENEW_AGAIN):
            # The one before may still be in use by others; the one before that no longer is.
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


@dataclass(frozen=True)
class Gateway:
    """Everything a handler or an activity needs."""

    settings: Settings
    clock: Clock
    connections: Connections
    tables: Tables
    keys: Keys
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    claims: JobClaims
    archive: Archive
    submission: Submission
    rendering: Rendering
    lifecycle: Lifecycle

    async def close(self) -> None:
        """For tests and commands; a function app is never told that it ends."""
        await self.tables.close()
        await self.archive.close()
        await self.connections.close()


def build(
    given: Settings,
    clock: Clock | None = None,
    random: Random | None = None,
    connections: Any = None,
    tables: Tables | None = None,
) -> Gateway:
    """Put a gateway together; time, chance, connections and tables can be given by tests."""
    hush()
    clock, random = clock or SystemClock(), random or SystemRandom()
    links: Connections = connections or Connections(given.storage.client_id)
    tables = tables or Tables(given.storage, links.credential)
    ledger = Ledger(tables.gateway, clock, random)
    keys = Keys(tables.gateway, ledger, clock, random, given.master_key)
    budget = GatewayBudget(ledger, clock, given.max_budget, given.budget_duration)
    render_times = RenderTimes(tables.pools, clock, _POLLS_A_VIDEO * given.knobs.poll_seconds)
    pool = Pool(tables.pools, given.catalog, clock, random, render_times)
    claims = JobClaims(tables.pools, clock)
    archive = Archive(given.storage, links.credential, clock, given.knobs.url_seconds)

    def upstream(deployment: Deployment) -> Upstream:
        return Upstream(deployment, links.http, links.token, clock)

    submission = Submission(given.catalog, ledger, budget, pool, claims, archive, upstream, clock, given.knobs)
    rendering = Rendering(given.catalog, ledger, pool, archive, upstream, render_times, clock, random, given.knobs)
    lifecycle = Lifecycle(ledger, budget, pool, archive, rendering, clock, given.knobs)
    return Gateway(given, clock, links, tables, keys, ledger, budget, pool, claims, archive, submission, rendering, lifecycle)


def build_for_storage(storage: Storage) -> Gateway:
    """A gateway that can read what is stored and nothing else: no models, no operator's key."""
    return build(Settings(storage, None, GatewayKnobs(), Catalog(())))


def hush() -> None:
    """Keep out of the log what libraries write for every request, in whatever worker this is.

    At the level that Azure keeps, httpx logs the address of the upstream, which is to stay inside;
    the storage clients log a dozen lines for each request, which are paid for by the gigabyte.
    """
    for name in ("httpx", "azure"):
        logging.getLogger(name).setLevel(logging.WARNING)


# One gateway per event loop: async clients belong to the loop they were made on. A worker has one
# loop for its whole life.
_gateways: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gateway] = weakref.WeakKeyDictionary()


def current() -> Gateway:
    """The gateway of the running loop, from app settings. Raises ConfigurationError."""
    loop = asyncio.get_running_loop()
    if loop not in _gateways:
        _gateways[loop] = build(settings.load())
    return _gateways[loop]
