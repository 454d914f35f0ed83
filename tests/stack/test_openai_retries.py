"""The official client's own retries against the real stack: after a refusal, and after an answer
that was lost. The gateway's clock goes on by what the client would wait; nobody waits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx2
import openai
import pytest
from openai._models import FinalRequestOptions

from shared.clock import SystemClock
from tests.fakes.stack import Served, serving, wait_for_end

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

_LONGEST = 600.7  # seconds: the client's own time-out, and the moment until its next try


@dataclass
class SkippedClock(SystemClock):
    """The real time, and what was skipped."""

    skipped: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return super().now() + self.skipped

    def skip(self, seconds: float) -> None:
        self.skipped += timedelta(seconds=seconds)


@dataclass
class Wire(httpx2.BaseTransport):
    """The way to the gateway. The first `lost` answers do not come, and the client gives up."""

    clock: SkippedClock
    lost: int = 0
    said: list[tuple[int, str | None]] = field(default_factory=list)
    inner: httpx2.HTTPTransport = field(default_factory=httpx2.HTTPTransport)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.inner.handle_request(request)
        body = answer.read()
        self.said.append((answer.status_code, httpx2.Response(200, content=body).json().get("id")))
        if self.lost:
            self.lost -= 1
            self.clock.skip(_LONGEST)
            raise httpx2.ReadTimeout("no answer", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


class Patient(openai.OpenAI):
    """The official client, whose pauses between retries pass on the gateway's clock, and last until
    the video `awaited` has come to its end.
    """

    clock: SkippedClock
    gateway: Served
    awaited: str | None = None

    def _sleep_for_retry(
        self, *, retries_taken: int, max_retries: int, options: FinalRequestOptions, response: httpx2.Response | None
    ) -> None:
        headers = None if response is None else response.headers
        self.clock.skip(self._calculate_retry_timeout(max_retries - retries_taken, options, headers))
        if self.awaited is not None:
            with self.gateway.client(self.api_key) as plain:
                wait_for_end(plain, self.awaited)


@pytest.fixture(scope="module")
def clock() -> SkippedClock:
    return SkippedClock()


@pytest.fixture(scope="module")
def gateway(azurite: str, tmp_path_factory: pytest.TempPathFactory, clock: SkippedClock) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack"), clock=clock) as served:
        yield served


def client(gateway: Served, wire: Wire, **limits: int) -> Patient:
    made = Patient(api_key=gateway.new_key(**limits), base_url=f"{gateway.url}/v1", http_client=httpx2.Client(transport=wire))
    made.clock, made.gateway = wire.clock, gateway
    return made


def test_a_create_that_was_refused_gets_a_video_of_its_own(gateway: Served, clock: SkippedClock) -> None:
    """Two equal creates at one at a time: the client itself asks again, and is not given the
    other's.
    """
    wire = Wire(clock)
    with client(gateway, wire, max_parallel_requests=1) as official:
        first = official.videos.create(prompt="An unlucky cat, twice", seconds="4")
        official.awaited = first.id
        second = official.videos.create(prompt="An unlucky cat, twice", seconds="4")
    assert [status for status, _ in wire.said] == [200, 429, 200]
    assert second.id != first.id


def test_a_create_whose_answer_was_lost_for_ten_minutes_is_made_once(gateway: Served, clock: SkippedClock) -> None:
    """The client waits for 600 s and asks again: it gets the video that it could not hear of."""
    wire = Wire(clock, lost=2)
    with client(gateway, wire) as official:
        made = official.videos.create(prompt="An unlucky cat that is not heard", seconds="4")
    assert [status for status, _ in wire.said] == [200, 200, 200]
    assert {video_id for _, video_id in wire.said} == {made.id}
