"""Azure OpenAI, at /openai/v1/videos: OpenAI's dialect behind API Management."""

from collections.abc import Mapping
from uuid import uuid4

from aiohttp import web

from local.simulator.answers import Answer
from local.simulator.dialects.dialect import bearer
from local.simulator.dialects.documented import ACCESS_DENIED, NOT_FOUND, RESOURCE_NOT_FOUND, TOO_MANY_HEADERS
from local.simulator.dialects.openai import OpenAI

MOST_CUSTOM_HEADERS = 10


class Azure(OpenAI):
    """It wants a model, takes keys in a header of its own, and counts headers."""

    base = "/openai/v1"
    model_required = True

    def turned_away(self, request: web.Request) -> Answer | None:
        if not self.accepts(request.headers.get("api-key", "") or bearer(request)):
            return ACCESS_DENIED
        if request.query.get("api-version", "v1") not in ("v1", "preview"):
            return RESOURCE_NOT_FOUND
        if sum(name.lower().startswith("x-") for name in request.headers) > MOST_CUSTOM_HEADERS:
            return TOO_MANY_HEADERS
        return None

    def stranger(self, request: web.Request, status: int) -> Answer:
        """E4 and E5, and E17 for a project's address."""
        if status != 404:
            return super().stranger(request, status)
        if request.path.startswith("/api/projects/"):
            return ACCESS_DENIED
        return NOT_FOUND if request.path.startswith(f"{self.base}/") else RESOURCE_NOT_FOUND

    def headers(self) -> Mapping[str, str]:
        return {"apim-request-id": str(uuid4())}
