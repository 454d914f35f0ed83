"""OpenAI's own dialect, at /v1/videos: the operations, the quotas, the errors and the expiry."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hmac import compare_digest
from typing import ClassVar
from uuid import uuid4

from aiohttp import web

from local.simulator import film
from local.simulator.answers import Answer, Refused, fastapi_error, json_answer, openai_error
from local.simulator.dialects.dialect import Dialect, Route, ServedModel, Terms, bearer
from local.simulator.dialects.documented import BAD_KEY, invalid_value
from local.simulator.dialects.orders import LARGE_SIZES, read_create, read_remix
from local.simulator.dialects.quotas import Quotas
from local.simulator.jobs import Failure, Job
from local.simulator.workshop import Order, Workshop

LIFETIME = 24 * 60 * 60  # seconds of clock time, counted from creation
MODELS = {"sora-2": ServedModel("sora-2"), "sora-2-pro": ServedModel("sora-2-pro")}

MODERATED: Failure = ("moderation_blocked", "Your request was blocked by our moderation system.")  # E11
# The texts of these two were never captured (E20 and the like).
UNSUPPORTED_SIZE: Failure = ("invalid_size", "The requested size is not supported by this model.")
BROKEN: Failure = ("internal_error", "The video could not be generated.")

_VARIANTS = {
    "video": (film.VIDEO, "video/mp4"),
    "thumbnail": (film.THUMBNAIL, "image/webp"),
    "spritesheet": (film.SPRITESHEET, "image/jpeg"),
}


class OpenAI(Dialect):
    """Some words in a prompt decide how its job goes: "forbidden" is refused at once, "disturbing"
    and "unlucky" fail.
    """

    model_required: ClassVar[bool] = False

    def __init__(self, workshop: Workshop, terms: Terms) -> None:
        terms = replace(terms, models=terms.models or MODELS)
        super().__init__(workshop, terms)
        self._quotas = Quotas(workshop, terms)

    def routes(self) -> Iterator[Route]:
        videos = f"{self.base}/videos"
        one = f"{videos}/{{video_id}}"
        yield Route("POST", videos, "create", self._create)
        yield Route("GET", videos, "list", self._list)
        yield Route("GET", one, "get", self._get)
        yield Route("DELETE", one, "delete", self._delete)
        yield Route("GET", f"{one}/content", "content", self._content)
        yield Route("POST", f"{one}/remix", "remix", self._remix)

    def turned_away(self, request: web.Request) -> Answer | None:
        return None if self.accepts(bearer(request)) else BAD_KEY

    def accepts(self, key: str) -> bool:
        """Whether it is a key, and the right one."""
        wanted = self.terms.api_key
        return bool(key) and (wanted is None or compare_digest(key.encode(), wanted.encode()))

    def stranger(self, request: web.Request, status: int) -> Answer:
        if status == 404:
            return openai_error(404, f"Invalid URL ({request.method} {request.path})")
        if status == 413:
            return openai_error(413, "The body of your request is too large.")
        return fastapi_error(405, "Method Not Allowed")

    def headers(self) -> Mapping[str, str]:
        return {"x-request-id": f"req_{uuid4().hex}"}

    def told(self, job: Job) -> dict[str, object]:
        """The video object, with all the keys that the specification requires."""
        now = self.workshop.now()
        status = job.status(now)
        completed = status == "completed"
        failure = {"code": job.failure_code, "message": job.failure_message} if status == "failed" else None
        return {
            "id": job.id,
            "object": "video",
            "model": job.model,
            "status": status,
            "progress": 100 if completed else min(99, int(100 * job.done(now))),
            "created_at": int(job.created_at),
            "completed_at": int(job.ends_at) if completed else None,
            "expires_at": int(job.created_at) + LIFETIME if completed else None,
            "prompt": job.prompt,
            "size": job.size,
            "seconds": str(job.seconds),
            "remixed_from_video_id": job.remixed_from,
            "error": failure,
        }

    async def _create(self, request: web.Request) -> Answer:
        return self._accept(await read_create(request, model_required=self.model_required))

    async def _remix(self, request: web.Request) -> Answer:
        source = self._available(request, "remixed")
        prompt = await read_remix(request)
        reference = self.workshop.jobs.reference(source.id)
        deployment = source.deployment
        return self._accept(Order(deployment, deployment, prompt, source.seconds, source.size, reference), source.id)

    def _accept(self, order: Order, remixed_from: str | None = None) -> Answer:
        """Check the quotas and commit the job in one step: on one event loop, nothing runs in
        between. Raises Refused.
        """
        order = replace(order, model=self._quotas.model(order.deployment))
        self._quotas.require_capacity(order.deployment)
        now, job_id = self.workshop.now(), f"video_{uuid4().hex}"
        takes = self.workshop.takes(job_id, order)
        waits = (takes or 0.0) / 20
        code, message = _failure(order) or (None, None)
        job = Job(
            id=job_id,
            deployment=order.deployment,
            model=order.model,
            prompt=order.prompt,
            seconds=order.seconds,
            size=order.size,
            created_at=now,
            starts_at=now + waits,
            takes=None if takes is None else takes - waits,
            failure_code=code,
            failure_message=message,
            remixed_from=remixed_from,
        )
        self.workshop.jobs.add(job, order.reference)
        return self._video(job)

    async def _get(self, request: web.Request) -> Answer:
        return self._video(self._job(request))

    async def _list(self, request: web.Request) -> Answer:
        limit, order, after = (request.query.get(name, "") for name in ("limit", "order", "after"))
        if limit and not (limit.isascii() and limit.isdigit() and int(limit) <= 100):
            raise Refused(invalid_value("limit", "Invalid 'limit': expected an integer from 0 to 100."))
        if order not in ("", "asc", "desc"):
            raise Refused(invalid_value("order", "Invalid 'order': expected 'asc' or 'desc'."))
        jobs = self.workshop.jobs.known()
        if order != "asc":
            jobs.reverse()
        if after:
            ids = [job.id for job in jobs]
            if after not in ids:
                raise Refused(_unknown_video(after))
            jobs = jobs[ids.index(after) + 1 :]
        size = int(limit or 20)
        page = [self.told(job) for job in jobs[:size]]
        return json_answer(
            200,
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": len(jobs) > size,
            },
        )

    async def _content(self, request: web.Request) -> Answer:
        variant = request.query.get("variant", "video")
        if variant not in _VARIANTS:
            raise Refused(invalid_value("variant", "Supported values are: 'video', 'thumbnail', and 'spritesheet'."))
        job = self._available(request, "downloaded")
        name, content_type = _VARIANTS[variant]
        body, padding = await self.workshop.film(job, name)
        return Answer(200, body, content_type, padding=padding, job_id=job.id)

    async def _delete(self, request: web.Request) -> Answer:
        job = self._job(request)
        if job.running(self.workshop.now()):
            raise Refused(openai_error(409, "Only completed or failed videos can be deleted."))
        self.workshop.jobs.delete(job.id, self.workshop.now())
        await self.workshop.discard(job)
        return json_answer(200, {"id": job.id, "object": "video.deleted", "deleted": True}, job_id=job.id)

    def _job(self, request: web.Request) -> Job:
        video_id = request.match_info["video_id"]
        job = self.workshop.jobs.find(video_id)
        if job is None:
            raise Refused(_unknown_video(video_id))
        return job

    def _available(self, request: web.Request, purpose: str) -> Job:
        """The job, if it has a film. Which status the real service gives to an unfinished one is
        not documented.
        """
        job, now = self._job(request), self.workshop.now()
        if job.status(now) != "completed":
            raise Refused(openai_error(400, f"Only completed videos can be {purpose}."))
        if now >= int(job.created_at) + LIFETIME:
            raise Refused(_unknown_video(job.id))
        return job

    def _video(self, job: Job) -> Answer:
        return json_answer(200, self.told(job), job_id=job.id)


def _failure(order: Order) -> Failure | None:
    """How a job will fail, if it does. Words in the prompt decide, and what the model can do."""
    words = order.prompt.lower()
    if "disturbing" in words:
        return MODERATED
    if "unlucky" in words:
        return BROKEN
    return UNSUPPORTED_SIZE if order.model == "sora-2" and order.size in LARGE_SIZES else None


def _unknown_video(video_id: str) -> Answer:
    return openai_error(404, f"Video with id '{video_id}' not found.")
