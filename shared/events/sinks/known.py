"""Makes the configured providers. Only their modules are imported, so that the app starts fast."""

from typing import TYPE_CHECKING

from shared.config.sinks import SinkSettings
from shared.events.post import Post
from shared.events.sinks.sink import Format, Sink
from shared.storage.queues import Queues

if TYPE_CHECKING:
    from shared.events.carriers import Carrier


def open_sink(settings: SinkSettings, post: Post, queues: Queues) -> Sink:
    """The destination that the settings of one provider describe."""
    return Sink(settings, _format(settings), _carrier(settings.name, post, queues), post.clock)


def _carrier(name: str, post: Post, queues: Queues) -> "Carrier":
    """How letters get there: most hold a key already; Azure's receivers want the app's identity."""
    match name:
        case "azure_queue":
            from shared.events.carriers import QueuePost

            return QueuePost(queues)
        case "event_grid":
            from shared.events.carriers import IdentityPost
            from shared.events.sinks.cloud_events import SCOPE

            return IdentityPost(post, queues.token, SCOPE)
        case _:
            return post


def _format(settings: SinkSettings) -> Format:
    values = settings.values
    match settings.name:
        case "datadog":
            from shared.events.sinks.datadog import Datadog

            return Datadog(values)
        case "datadog_llm_observability":
            from shared.events.sinks.datadog_llm_observability import DatadogLlmObservability

            return DatadogLlmObservability(values)
        case "langsmith":
            from shared.events.sinks.langsmith import LangSmith

            return LangSmith(values)
        case "helicone":
            from shared.events.sinks.helicone import Helicone

            return Helicone(values)
        case "langfuse":
            from shared.events.sinks.langfuse import Langfuse

            return Langfuse(values)
        case "azure_queue":
            from shared.events.sinks.cloud_events import AzureQueue

            return AzureQueue(values)
        case "event_grid":
            from shared.events.sinks.cloud_events import EventGrid

            return EventGrid(values)
        case "webhook":
            from shared.events.sinks.webhook import Webhook

            return Webhook(values)
        case _:
            from shared.events.sinks.otel import OpenTelemetry

            return OpenTelemetry(values)
