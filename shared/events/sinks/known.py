"""Opens the configured providers. Only their modules are imported."""

from shared.config.sinks import SinkSettings
from shared.events.post import Post
from shared.events.sinks.sink import Format, Sink


def open_sink(settings: SinkSettings, post: Post) -> Sink:
    return Sink(settings, _format(settings), post)


def _format(settings: SinkSettings) -> Format:
    from shared.events.sinks.datadog import Datadog

    formats = {"datadog": Datadog}
    return formats[settings.name](settings.values)
