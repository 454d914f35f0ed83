"""The composition root: makes every collaborator from the settings. Nothing connects before it is
used.
"""

import asyncio
import logging
import weakref
from datetime import timedelta
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

import msgspec

from shared.accounts.commits import Commits
from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.keys import Keys
from shared.accounts.ledger import Ledger
from shared.accounts.spend_lines import SpendLines
from shared.capacity.equal_asks import EqualAsks
from shared.capacity.job_claims import JobClaims
from shared.capacity.pool import Pool
from shared.capacity.render_times import RenderTimes
from shared.clock import Clock, SystemClock
from shared.config import settings
from shared.config.catalog import Catalog
from shared.config.file import GatewayKnobs
from shared.config.settings import Settings, Storage
from shared.config.version import SERVER
from shared.events.alerts import Alerts
from shared.events.couriers import Couriers
from shared.events.deliveries import Deliveries
from shared.events.destination import Destinations
from shared.events.journal import Journal
from shared.events.post import Post
from shared.events.webhooks.addresses import Addresses
from shared.events.webhooks.endpoints import Endpoints
from shared.events.webhooks.history import History
from shared.events.webhooks.webhooks import Webhooks
from shared.media.reference_image import ReferenceImages
from shared.media.remote_image import RemoteImages
from shared.storage.blobs import Archive
from shared.storage.queues import Queues
from shared.storage.tables import Tables
from shared.storage.video_store import VideoStore
from shared.telemetry.telemetry import SILENT, Telemetry
from shared.upstream.identity import Connections
from shared.upstream.upstreams import Upstreams
from shared.videos.copies import Copies
from shared.videos.fallback import Fallback
from shared.videos.following import Following
from shared.videos.heartbeats import Heartbeats
from shared.videos.images import Images
from shared.videos.lifecycle import Lifecycle
from shared.videos.orchestration import DurableOrchestrations
from shared.videos.places import Places
from shared.videos.reconciliation import Reconciliation
from shared.videos.rendering import Rendering
from shared.videos.steps import Steps
from shared.videos.submission import Submission
from shared.videos.tracing import Tracing

if TYPE_CHECKING:
    from shared.callers.identities import Identities
    from shared.guardrails.screening import Screening

logger = logging.getLogger("gateway")
_POLLS_A_VIDEO = 24  # the first estimate of how long a video takes: two minutes with the default `poll_seconds`


class Gateway(msgspec.Struct, frozen=True):
    """All collaborators, for handlers and activities."""

    settings: Settings
    clock: Clock
    connections: Connections
    tables: Tables
    keys: Keys
    commits: Commits
    videos: VideoStore
    lines: SpendLines
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    claims: JobClaims
    equal_asks: EqualAsks
    archive: Archive
    upstreams: Upstreams
    copies: Copies
    submission: Submission
    rendering: Rendering
    images: Images
    lifecycle: Lifecycle
    journal: Journal
    alerts: Alerts
    webhooks: Webhooks
    queues: Queues
    following: Following
    places: Places
    tracing: Tracing
    identities: "Identities | None"

    @property
    def telemetry(self) -> Telemetry:
        return self.tracing.telemetry

    @property
    def couriers(self) -> Couriers:
        return self.journal.couriers

    @property
    def heartbeats(self) -> Heartbeats:
        return Heartbeats(self.tables.pools, self.clock)

    @property
    def steps(self) -> Steps:
        """The steps that the engine's activities call."""
        return Steps(self.submission, self.rendering, self.lifecycle, self.heartbeats, self.clock, self.tracing)

    def go_through(self, engine: DurableOrchestrations) -> None:
        """Wake videos and summon couriers through this durable client from now on."""
        self.pool.wake_ups.go_through(engine)
        self.couriers.go_through(engine)

    async def close(self) -> None:
        """Close all connections. For tests and commands: a function app is never told that
        it ends.
        """
        await self.tables.close()
        await self.archive.close()
        await self.connections.close()
        await asyncio.to_thread(self.telemetry.close)


def build(
    given: Settings,
    clock: Clock | None = None,
    random: Random | None = None,
    connections: Any = None,
    tables: Tables | None = None,
) -> Gateway:
    """Make a gateway. Tests may give it their own clock, random, connections and tables."""
    hush()
    logger.addFilter(_add_server)
    links: Connections = connections or Connections(given.storage.client_id)
    tables = tables or Tables(given.storage, links.credential)
    return _assembled(given, clock or SystemClock(), random or SystemRandom(), links, tables)


def _assembled(given: Settings, clock: Clock, random: Random, links: Connections, tables: Tables) -> Gateway:
    """Every collaborator, each made from those before it."""
    telemetry = _telemetry(given)
    commits = Commits(tables.gateway, clock, random)
    videos = VideoStore(tables.gateway, clock, random)
    lines = SpendLines(tables.gateway)
    post = Post(links.http, clock)
    endpoints, addresses = Endpoints(commits), Addresses(given.knobs.webhook_networks)
    webhooks = Webhooks(endpoints, History(endpoints), videos, addresses, post, clock, given.master_key or "")
    queues = Queues(given.storage, links.http, links.token)
    sinks = _sinks(given, post, queues)
    couriers = Couriers(Deliveries(tables.gateway, clock), {webhooks.name: webhooks, **sinks}, telemetry)
    journal = Journal(tables.gateway, couriers, given.knobs.log_prompts, telemetry)
    alerts = Alerts(journal, clock)
    ledger = Ledger(commits, videos, clock, journal.listened)
    keys = Keys(commits, clock, random, given.master_key)
    budget = GatewayBudget(commits, clock, given.max_budget, given.budget_duration)
    render_times = RenderTimes(tables.pools, clock, _POLLS_A_VIDEO * given.knobs.poll_seconds)
    pool = Pool(tables.pools, given.catalog, clock, random, render_times)
    claims = JobClaims(tables.pools, clock)
    longest = timedelta(seconds=given.knobs.deadline_seconds + given.knobs.reconcile_seconds)
    equal_asks = EqualAsks(tables.pools, videos, clock, random, longest)
    archive = Archive(given.storage, links.credential, clock, given.knobs.url_seconds)
    upstreams = Upstreams(given.catalog, links, clock, telemetry, given.knobs.trace_upstreams)
    fallback = Fallback(given.catalog, ledger, budget, pool)
    reconciliation = Reconciliation(given.catalog, claims, clock, given.knobs)
    submission = Submission(
        given.catalog, videos, pool, claims, equal_asks, archive, upstreams, clock, given.knobs, fallback, reconciliation
    )
    copies = Copies(tables.pools, upstreams, clock)
    rendering = Rendering(videos, pool, archive, upstreams, copies, render_times, clock, random, given.knobs, journal)
    images = Images(given.catalog, videos, pool, archive, upstreams, clock)
    references = ReferenceImages(RemoteImages(frozenset(given.knobs.reference_hosts), links.http))
    screening = _screening(given, links)
    lifecycle = Lifecycle(
        *(videos, lines, ledger, budget, pool, archive, references),
        *(screening, upstreams, copies, clock, given.knobs, journal, alerts),
    )
    return Gateway(
        *(given, clock, links, tables, keys, commits, videos, lines, ledger, budget),
        *(pool, claims, equal_asks, archive, upstreams, copies, submission, rendering, images, lifecycle),
        journal,
        alerts,
        webhooks,
        queues,
        Following(videos, clock),
        Places(given.knobs.waiting),
        Tracing(telemetry, videos),
        _identities(given, links, keys, clock),
    )


def _screening(given: Settings, links: Connections) -> "Screening | None":
    """The guardrails; without any, none of their modules is imported. Raises ConfigurationError."""
    if not given.guardrails:
        return None
    from shared.guardrails.screening import screening_of

    return screening_of(given.guardrails, links)


def _identities(given: Settings, links: Connections, keys: Keys, clock: Clock) -> "Identities | None":
    """The callers that send tokens; where none may, nothing is imported for them. Raises
    ConfigurationError.
    """
    if given.entra is None:
        return None
    from shared.callers.identities import Identities
    from shared.callers.mappings import read_grants
    from shared.callers.signing_keys import SigningKeys
    from shared.callers.tokens import Tokens

    grants = read_grants(given.entra, given.catalog, clock.now())
    return Identities(Tokens(given.entra, SigningKeys(given.entra, links.http, clock), clock), grants, keys, clock)


def _telemetry(given: Settings) -> Telemetry:
    """Where spans and metrics go. Without configuration nothing is imported for them."""
    if given.telemetry is None:
        return SILENT
    from shared.telemetry.open_telemetry import OpenTelemetry

    return OpenTelemetry(given.telemetry)


def _sinks(given: Settings, post: Post, queues: Queues) -> Destinations:
    """The logging providers, by name. If there are none, nothing is imported for them."""
    if not given.sinks:
        return {}
    from shared.events.sinks.known import open_sink

    return {each.name: open_sink(each, post, queues) for each in given.sinks}


def build_for_storage(storage: Storage) -> Gateway:
    """A gateway that can only read storage: it has no models and no operator's key."""
    return build(Settings(storage, None, GatewayKnobs(), Catalog(())))


def hush() -> None:
    """Silence what libraries log for every request.

    At the level that Azure keeps, httpx logs the upstream's address, which must stay inside, and
    the storage clients log a dozen lines per request, which are paid for by the gigabyte.
    """
    for name in ("httpx", "azure"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_server(record: logging.LogRecord) -> bool:
    """Add the field `server` to a record of the app's log, for handlers that send fields."""
    record.server = SERVER
    return True


# One gateway per event loop: async clients belong to the loop they were made on. A worker has one
# loop for its whole life.
_gateways: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gateway] = weakref.WeakKeyDictionary()


def use(gateway: Gateway) -> None:
    """Make this the gateway of the running loop, for stand-ins that replace a part of it."""
    _gateways[asyncio.get_running_loop()] = gateway


def current() -> Gateway:
    """The gateway of the running loop, from app settings. Raises ConfigurationError."""
    loop = asyncio.get_running_loop()
    if loop not in _gateways:
        _gateways[loop] = build(settings.load())
        logger.info("gateway started: server=%s", SERVER)
    return _gateways[loop]
