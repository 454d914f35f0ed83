"""Finds the client of a deployment, by the deployment itself or by a video's record."""

import msgspec

from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment
from shared.media.video import RunningJob
from shared.telemetry.telemetry import Telemetry
from shared.upstream.client import Upstream
from shared.upstream.identity import Connections
from shared.upstream.tracing import Trace


class Upstreams(msgspec.Struct, frozen=True):
    """The clients of all configured deployments. A client holds no state, so each call makes a new
    one. `traced` is whether upstreams are told the trace of a call.
    """

    catalog: Catalog
    connections: Connections
    clock: Clock
    telemetry: Telemetry
    traced: bool

    def at(self, deployment: Deployment) -> Upstream:
        """The client of a deployment."""
        trace = Trace(deployment, self.telemetry, told=self.traced)
        return Upstream(deployment, self.connections.http, self.connections.token, self.clock, trace=trace)

    def of(self, video: RunningJob) -> Upstream | None:
        """The client of the deployment that has the video's job; None if it is no longer
        configured. The deployment comes from the video's record, never from a request.
        """
        deployment = self.catalog.deployment(video.deployment)
        return None if deployment is None else self.at(deployment)
