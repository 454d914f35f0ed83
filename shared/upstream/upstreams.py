"""The client of a deployment, found by the deployment or by a video's record."""

from dataclasses import dataclass

from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment
from shared.media.video import Video
from shared.upstream.client import Upstream
from shared.upstream.identity import Connections


@dataclass(frozen=True)
class Upstreams:
    """Every upstream of the configuration. A client holds no state, so each call makes one."""

    catalog: Catalog
    connections: Connections
    clock: Clock

    def at(self, deployment: Deployment) -> Upstream:
        return Upstream(deployment, self.connections.http, self.connections.token, self.clock)

    def of(self, video: Video) -> Upstream | None:
        """The client of the deployment that has the video's job, or None where that is no longer
        configured. It follows from the record, never from the request.
        """
        deployment = self.catalog.deployment(video.deployment)
        return None if deployment is None else self.at(deployment)
