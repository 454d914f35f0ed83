"""How many requests a status sends to storage, counted where the Azure SDK logs them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared import gateway as composition
from shared.config import settings
from shared.routes import videos
from shared.routes.calls import Call, Request

_LOGGER = "azure.core.pipeline.policies.http_logging_policy"
_TIMES = 20


class Sent(logging.Handler):
    """Counts requests: the SDK's logging policy writes one record about each before it goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.requests += record.getMessage().startswith("Request URL:")


async def table_operations_per_status(given: Mapping[str, str], key: str, video_id: str) -> float:
    """The handler itself, in this process, on the app's own storage: the mean over a few calls in a
    row.
    """
    gateway = composition.build(settings.load(given))
    call = Call(gateway, Request("GET", {"authorization": f"Bearer {key}"}), None, "bench")
    try:
        await videos.get_video(call, video_id)  # the first call of a process also makes sure that the table exists
        with _counted() as sent:
            for _ in range(_TIMES):
                await videos.get_video(call, video_id)
    finally:
        await gateway.close()
    return sent.requests / _TIMES


@contextmanager
def _counted() -> Iterator[Sent]:
    logger, sent = logging.getLogger(_LOGGER), Sent()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(sent)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield sent
    finally:
        logger.removeHandler(sent)
        logger.setLevel(level)
        logger.propagate = propagate
