"""How the app and its upstream are set up for a crash story, and what may come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from shared.accounts.account import Account
from tests.fakes.issuer import AUDIENCE, TENANT
from tests.fakes.receivers import SETTINGS
from tests.trials.crash.clock import HURRY

UPSTREAM_KEY = "the-key-of-the-upstream"
MASTER_KEY = "sk-the-key-of-the-operator"
REQUESTS, EVENTS = "VIDEO_REQUESTS_QUEUE", "VIDEO_EVENTS_QUEUE"
POLL_SECONDS, RECONCILE_SECONDS = 3.0, 40.0  # of the matrix's time: 0.15 s and 2 s of ours
AT_THE_UPSTREAM = ("sora-2", "sora-2-pro")  # the deployments of the first model and of the one that takes its place

Wakes = Literal["sent", "lost", "doubled", "late"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The settings of a story's run, and the ends that are right.

    dialect        which kind of server the upstream is
    ends           how a video may end: `completed`, or the code of its error
    prices         dollars a second, one model for each; the second is the first one's fallback
    max_running    jobs at once; told to the app, and the upstream's limit
    pace           creates a minute; likewise
    busy           how many creates the upstream refuses as too many although they are not
    remade         how many of a video's jobs the upstream may lose
    unclear        how many creates end without anybody knowing whether they were accepted
    retired        the first model's deployment answers every create with 410
    knobs          settings of the section `gateway:`
    general        settings of the section `general_settings:`
    account        settings of the key
    identities     who may send a token of an issuer of the stage: the entries of `entra.accounts`
    words          words that a guardrail blocks
    listens        the first answers of a logging provider that is told, as statuses; None for no
                   provider
    sinks          the logging providers; a topic of Event Grid is where the first one is
    requests       whether messages of a queue start videos
    wakes          what becomes of the events that wake who waits: sent, lost, doubled or late
    hurry          how many times faster than life
    later          how far ahead of the app's clock the sweep's clock is
    """

    dialect: str = "azure"
    ends: tuple[str, ...] = ("completed",)
    prices: tuple[float, ...] = (0.1,)
    max_running: int = 2
    pace: int = 100
    busy: int = 0
    remade: int = 0
    unclear: int = 0
    retired: bool = False
    knobs: dict[str, Any] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    identities: tuple[dict[str, Any], ...] = ()
    words: tuple[str, ...] = ()
    listens: tuple[int, ...] | None = None
    sinks: tuple[str, ...] = ("datadog",)
    requests: bool = False
    wakes: Wakes = "sent"
    hurry: float = HURRY
    later: timedelta = timedelta(minutes=15)  # more than the sweep's patience with anything unfinished


def app_settings(
    terms: Terms, storage: str, upstream: str, folder: Path, models: Sequence[str], *, receiver: str, issuer: str
) -> dict[str, str]:
    """All that the app is told; its configuration file, with models of these names, is written to
    `folder`. `receiver` is the address of the logging provider, `issuer` that of who signs tokens.
    """
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(_configuration(terms, models, upstream, issuer)))
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
        "GATEWAY_MASTER_KEY": MASTER_KEY,
        "GATEWAY_CONFIG": str(path),
        "TASK_HUB": "Crash",
        "DD_API_KEY": SETTINGS["DD_API_KEY"],
        "DD_BASE_URL": receiver,
        "EVENT_GRID_TOPIC_ENDPOINT": f"{receiver}/api/events",
        EVENTS: f"events-{folder.name}",
        **({REQUESTS: f"requests-{folder.name}"} if terms.requests else {}),
    }


def _configuration(terms: Terms, models: Sequence[str], upstream: str, issuer: str) -> dict[str, Any]:
    place = {"api_base": upstream, "api_key": UPSTREAM_KEY}
    entries = [
        {
            "model_name": name,
            "params": {
                "model": f"{terms.dialect}/{deployment}",
                "max_running": terms.max_running,
                "creates_per_minute": terms.pace,
                **place,
            },
            "model_info": {"id": f"at-{name}", "sizes": ["720x1280"], "output_cost_per_video_per_second": price},
        }
        for name, deployment, price in zip(models, AT_THE_UPSTREAM, terms.prices, strict=False)
    ]
    knobs: dict[str, Any] = {"poll_seconds": POLL_SECONDS, "reconcile_seconds": RECONCILE_SECONDS, **terms.knobs}
    if len(models) > 1:
        knobs["fallbacks"] = {models[0]: [models[1]]}
    sinks = {} if terms.listens is None else {"callbacks": [*terms.sinks]}
    rules = [
        {"guardrail_name": "words", "params": {"guardrail": "keywords", "default_on": True, "blocked_words": [*terms.words]}}
    ]
    entra = {"tenant": TENANT, "audience": AUDIENCE, "authority": issuer, "accounts": [*terms.identities]}
    return {
        "model_list": entries,
        "gateway": knobs,
        "general_settings": {**terms.general, **({"entra": entra} if terms.identities else {})},
        "litellm_settings": sinks,
        "guardrails": rules if terms.words else [],
    }
