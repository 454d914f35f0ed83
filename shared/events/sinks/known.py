"""Opens the configured providers. Only their modules are imported."""

from shared.config.sinks import SinkSettings
from shared.events.post import Post
from shared.events.sinks.sink import Format, Sink


def open_sink(settings: SinkSettings, post: Post) -> Sink:
    return Sink(settings, _format(settings), post)


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
        case "webhook":
            from shared.events.sinks.webhook import Webhook

            return Webhook(values)
        case _:
            from shared.events.sinks.otel import OpenTelemetry

            return OpenTelemetry(values)
