"""Google's OpenAI layer for Veo, at /v1beta/openai/videos, as its documentation has it (mid-2026).

Nobody of this project has spoken to it: there is no list, no delete and no content route, and a
completed job tells where its film is. The envelope of errors is that of Google's other APIs.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hmac import compare_digest
from typing import Any
from uuid import uuid4

from aiohttp import web

from local.simulator.answers import Answer, Refused, json_answer
from local.simulator.bodies import FORM, form_fields, json_fields
from local.simulator.dialects.dialect import Dialect, Route, ServedModel, Terms, bearer
from local.simulator.dialects.engine import picture
from local.simulator.jobs import Failure, Job
from local.simulator.workshop import Order, Workshop

MODELS = {
    name: ServedModel(name)
    for name in ("veo-3.1-generate-preview", "veo-3.1-fast-generate-preview", "veo-3.1-lite-generate-preview")
}
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED", 429: "RESOURCE_EXHAUSTED"}
_SECONDS = ("4", "6", "8")
_SHORT_SIDES = {"720p": 720, "1080p": 1080, "4k": 2160}
_RATIOS = ("16:9", "9:16")
_FIELDS = ("seconds", "size", "duration_seconds", "resolution", "aspect_ratio", "negative_prompt", "seed")


class Gemini(Dialect):
    """ "disturbing" jobs fail by moderation, "unlucky" ones by accident."""

    base = "/v1beta/openai"

    def __init__(self, workshop: Workshop, terms: Terms) -> None:
        super().__init__(workshop, replace(terms, models=terms.models or MODELS))

    def routes(self) -> Iterator[Route]:
        videos = f"{self.base}/videos"
        yield Route("POST", videos, "create", self._create)
        yield Route("GET", f"{videos}/{{video_id}}", "get", self._get)
        yield Route("GET", f"{self.base}/models", "models", self._models)
        yield Route("GET", "/v1beta/files/{video_id}:download", "content", self._download)

    def turned_away(self, request: web.Request) -> Answer | None:
        key, wanted = request.headers.get("x-goog-api-key", "") or bearer(request), self.terms.api_key
        if not key:
            return self._error(401, "Request is missing required authentication credential.")
        if wanted is not None and not compare_digest(key.encode(), wanted.encode()):
            return self._error(400, "API key not valid. Please pass a valid API key.")
        return None

    def stranger(self, request: web.Request, status: int) -> Answer:
        return self._error(status, f"{request.method} {request.path} is not known.")

    def told(self, job: Job) -> dict[str, object]:
        status = {"completed": "completed", "failed": "failed"}.get(job.status(self.workshop.now()), "processing")
        told: dict[str, object] = {
            "id": job.id,
            "object": "video",
            "model": job.model,
            "created_at": int(job.created_at),
            "status": status,
        }
        if status == "completed":
            address = f"{job.parameters['origin']}/v1beta/files/{job.id}:download?alt=media"
            return {**told, "video": {"url": address}}
        if status == "failed":
            return {**told, "error": {"code": int(job.failure_code or 13), "message": job.failure_message}}
        return told

    async def _models(self, _: web.Request) -> Answer:
        listed = [{"id": f"models/{name}", "object": "model", "owned_by": "google"} for name in self.terms.models]
        return json_answer(200, {"object": "list", "data": listed})

    async def _create(self, request: web.Request) -> Answer:
        given = await self._fields(request)
        model = self.terms.models.get(str(given.get("model")))
        if model is None or model.retired:
            raise Refused(self._error(404, f"models/{given.get('model')} is not found, or is not supported for videos."))
        if not given.get("prompt"):
            raise Refused(self._error(400, "prompt is required."))
        order = self._order(model.model, given, await self._reference(given))
        self._require_capacity()
        return self._video(self._accept(order, {**_told(given), "origin": str(request.url.origin())}))

    async def _fields(self, request: web.Request) -> dict[str, Any]:
        try:
            return await (form_fields(request) if request.content_type == FORM else json_fields(request))
        except (ValueError, TypeError, RecursionError) as error:
            raise Refused(self._error(400, "Invalid payload received.")) from error

    def _order(self, model: str, given: Mapping[str, Any], reference: bytes | None) -> Order:
        seconds = str(given.get("duration_seconds") or given.get("seconds") or "8")
        resolution, ratio = str(given.get("resolution", "720p")).lower(), str(given.get("aspect_ratio", "16:9"))
        for name, value, allowed in (
            ("duration_seconds", seconds, _SECONDS),
            ("resolution", resolution, _SHORT_SIDES),
            ("aspect_ratio", ratio, _RATIOS),
        ):
            if value not in allowed:
                raise Refused(self._error(400, f"{name} is one of {', '.join(allowed)}."))
        short = _SHORT_SIDES[resolution]
        sides = (short * 16 // 9, short) if ratio == "16:9" else (short, short * 16 // 9)
        return Order(model, model, given["prompt"], int(seconds), f"{sides[0]}x{sides[1]}", reference)

    async def _reference(self, given: Mapping[str, Any]) -> bytes | None:
        try:
            return await asyncio.to_thread(picture, given.get("input_reference"))
        except ValueError as error:
            raise Refused(self._error(400, "The image cannot be read.")) from error

    def _require_capacity(self) -> None:
        now, workshop = self.workshop.now(), self.workshop
        recent = sum(job.created_at > now - 60 / workshop.speed for job in workshop.jobs.accepted())
        running, terms = len(workshop.jobs.running(now)), self.terms
        many = terms.creates_per_minute is not None and recent >= terms.creates_per_minute
        if many or (terms.max_running is not None and running >= terms.max_running):
            raise Refused(self._error(429, "You exceeded your current quota."))

    def _accept(self, order: Order, parameters: Mapping[str, Any]) -> Job:
        job_id, now = f"video-{uuid4().hex}", self.workshop.now()
        code, message = _failure(order.prompt) or (None, None)
        takes = self.workshop.takes(job_id, order)
        whole = (order.deployment, order.model, order.prompt, order.seconds, order.size)
        job = Job(job_id, *whole, now, now, takes, code, message, parameters=parameters)
        self.workshop.jobs.add(job, order.reference)
        return job

    async def _get(self, request: web.Request) -> Answer:
        return self._video(self._job(request))

    async def _download(self, request: web.Request) -> Answer:
        job = self._job(request)
        if job.status(self.workshop.now()) != "completed":
            raise Refused(self._error(404, "The file does not exist."))
        body, padding = await self.workshop.film(job)
        return Answer(200, body, "video/mp4", padding=padding, job_id=job.id)

    def _job(self, request: web.Request) -> Job:
        job = self.workshop.jobs.find(request.match_info["video_id"])
        if job is None:
            raise Refused(self._error(404, "Requested entity was not found."))
        return job

    def _video(self, job: Job) -> Answer:
        return json_answer(200, self.told(job), job_id=job.id)

    def _error(self, status: int, message: str) -> Answer:
        return json_answer(status, {"error": {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}})


def _told(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in _FIELDS if name in given}


def _failure(prompt: str) -> Failure | None:
    words = prompt.lower()
    if "disturbing" in words:
        return "3", "The prompt could not be submitted: it violates the usage guidelines."
    return ("13", "Video generation failed due to an internal server issue.") if "unlucky" in words else None
