"""A simulated Azure OpenAI with Sora 2 deployments: the operations, quotas, errors and expiry of
the videos API.

`python -m local.simulator --port 0 --data DIR --speed 10` serves it on loopback and prints
`{"url": …}` when it is ready. Azure's dialect is at /openai/v1/videos, the one of other servers
at /v1/videos.
Some words in a prompt decide how its job goes: "forbidden" is refused at once, "disturbing" and
"unlucky" fail, "endless" never ends. Tests steer it under /_sim/.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from local.simulator import film
from local.simulator.admission import DEPLOYMENTS, Admission, SoraDeployment
from local.simulator.answers import (
    ACCESS_DENIED,
    BAD_KEY,
    NOT_FOUND,
    RESOURCE_NOT_FOUND,
    TOO_MANY_HEADERS,
    Answer,
    Refused,
    fastapi_error,
    invalid_value,
    json_answer,
    openai_error,
    send,
)
from local.simulator.control import Asked, control_routes
from local.simulator.faults import Cut, Faults, spoil
from local.simulator.jobs import Job, Jobs
from local.simulator.requests import LARGEST_BODY, Order, read_create, read_remix
from shared.clock import Clock

Act = Callable[[web.Request], Awaitable[Answer]]

AZURE, OTHER = "/openai/v1", "/v1"
MOST_CUSTOM_HEADERS = 10
REMEMBERED_REQUESTS = 10_000
_VARIANTS = {
    "video": (film.VIDEO, "video/mp4"),
    "thumbnail": (film.THUMBNAIL, "image/webp"),
    "spritesheet": (film.SPRITESHEET, "image/jpeg"),
}


class SimulatedServer:
    """The service; its jobs and films stay in `data`.

    speed: how many times faster than life jobs render and quotas recover. creates_per_minute and
    max_running are per deployment; None lifts them. api_key: the one that is accepted; without it,
    any. one_film: draw one film of each size and length, and sign every job's copy of it. `faults`,
    `jobs`, `requests` and `content_bytes` (films are padded up to that many bytes) are what tests
    script and look at.
    """

    def __init__(
        self,
        data: Path,
        clock: Clock,
        speed: float = 1.0,
        *,
        creates_per_minute: int | None = 2,
        max_running: int | None = 2,
        api_key: str | None = None,
        deployments: Mapping[str, SoraDeployment] = DEPLOYMENTS,
        one_film: bool = False,
    ) -> None:
        self._clock = clock
        self._one_film = one_film
        self._api_key = api_key
        self._studio = film.Studio(data / "films")
        self.jobs = Jobs(data / "sora.sqlite")
        self._admission = Admission(self.jobs, deployments, speed, creates_per_minute, max_running)
        self.faults = Faults()
        self.requests: deque[Asked] = deque(maxlen=REMEMBERED_REQUESTS)
        self.content_bytes: int | None = None

    def application(self) -> web.Application:
        """The service over HTTP. It closes the job store when it is cleaned up."""
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_envelope_for_strangers])
        for base in (AZURE, OTHER):
            self._route(app, "POST", f"{base}/videos", "create", self._create)
            self._route(app, "GET", f"{base}/videos", "list", self._list)
            self._route(app, "GET", f"{base}/videos/{{video_id}}", "get", self._get)
            self._route(app, "DELETE", f"{base}/videos/{{video_id}}", "delete", self._delete)
            self._route(app, "GET", f"{base}/videos/{{video_id}}/content", "content", self._content)
            self._route(app, "POST", f"{base}/videos/{{video_id}}/remix", "remix", self._remix)
        app.add_routes(control_routes(self))
        app.on_response_prepare.append(_identify)
        app.on_cleanup.append(self._close)
        return app

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now().timestamp()

    def reset(self) -> None:
        """Forget every job, film, fault and request."""
        self.jobs.clear()
        self._studio.discard_all()
        self.faults.clear()
        self.requests.clear()
        self.content_bytes = None

    async def _close(self, _: web.Application) -> None:
        self.jobs.close()

    def _route(self, app: web.Application, method: str, path: str, operation: str, act: Act) -> None:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, operation, act)

        app.router.add_route(method, path, serve)

    async def _serve(self, request: web.Request, operation: str, act: Act) -> web.StreamResponse:
        asked = Asked.about(request, operation, self.now())
        self.requests.append(asked)
        try:
            answer = self._turned_away(request) or await self._answer(request, operation, act)
        except Cut as cut:
            asked.job = cut.job_id or asked.job
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # goes nowhere: the connection is gone
        asked.status = answer.status
        asked.job = answer.job_id or asked.job
        return await send(request, answer, self._clock)

    def _turned_away(self, request: web.Request) -> Answer | None:
        """What the gateway in front of the service refuses before the service sees it."""
        azure = _speaks_azure(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = (request.headers.get("api-key", "") if azure else "") or bearer
        if not key or (self._api_key is not None and not compare_digest(key.encode(), self._api_key.encode())):
            return ACCESS_DENIED if azure else BAD_KEY
        if azure and request.query.get("api-version", "v1") not in ("v1", "preview"):
            return RESOURCE_NOT_FOUND
        if azure and sum(name.lower().startswith("x-") for name in request.headers) > MOST_CUSTOM_HEADERS:
            return TOO_MANY_HEADERS
        return None

    async def _answer(self, request: web.Request, operation: str, act: Act) -> Answer:
        async def honestly() -> Answer:
            try:
                return await act(request)
            except Refused as refusal:
                return refusal.answer

        fault = self.faults.take(operation, request.match_info.get("video_id"))
        return await (honestly() if fault is None else spoil(fault, honestly, self._clock))

    async def _create(self, request: web.Request) -> Answer:
        return self._accept(await read_create(request, model_required=_speaks_azure(request)))

    async def _remix(self, request: web.Request) -> Answer:
        source = self._available(request, "remixed")
        prompt = await read_remix(request)
        reference = self.jobs.reference(source.id)
        return self._accept(Order(source.deployment, prompt, source.seconds, source.size, reference), source.id)

    def _accept(self, order: Order, remixed_from: str | None = None) -> Answer:
        return self._video(self._admission.accept(order, self.now(), remixed_from))

    async def _get(self, request: web.Request) -> Answer:
        return self._video(self._job(request))

    async def _list(self, request: web.Request) -> Answer:
        limit, order, after = (request.query.get(name, "") for name in ("limit", "order", "after"))
        if limit and not (limit.isascii() and limit.isdigit() and int(limit) <= 100):
            raise Refused(invalid_value("limit", "Invalid 'limit': expected an integer from 0 to 100."))
        if order not in ("", "asc", "desc"):
            raise Refused(invalid_value("order", "Invalid 'order': expected 'asc' or 'desc'."))
        if after and self.jobs.find(after) is None:
            raise Refused(_unknown_video(after))
        size = int(limit or 20)
        jobs = self.jobs.page(limit=size + 1, newest_first=order != "asc", after=after or None)
        page = [job.video(self.now()) for job in jobs[:size]]
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
        width, height = map(int, job.size.split("x"))
        scene = film.Scene(job.prompt, (width, height), job.seconds, self.jobs.reference(job.id))
        folder = await self._studio.film(f"{job.size}-{job.seconds}" if self._one_film else job.id, scene)
        name, content_type = _VARIANTS[variant]
        body, padding = await asyncio.to_thread((folder / name).read_bytes), 0
        if variant == "video" and self._one_film:
            body = film.signed(body, job.id)
        if variant == "video" and self.content_bytes is not None:
            body, padding = film.pad_with_free_box(body, self.content_bytes)
        return Answer(200, body, content_type, padding=padding, job_id=job.id)

    async def _delete(self, request: web.Request) -> Answer:
        job = self._job(request)
        if job.running(self.now()):
            raise Refused(openai_error(409, "Only completed or failed videos can be deleted."))
        self.jobs.delete(job.id, self.now())
        await asyncio.to_thread(self._studio.discard, job.id)
        return json_answer(200, {"id": job.id, "object": "video.deleted", "deleted": True}, job_id=job.id)

    def _job(self, request: web.Request) -> Job:
        video_id = request.match_info["video_id"]
        job = self.jobs.find(video_id)
        if job is None:
            raise Refused(_unknown_video(video_id))
        return job

    def _available(self, request: web.Request, purpose: str) -> Job:
        """The job, if it has a film. Which status the real service gives to an unfinished one is
        not documented.
        """
        job = self._job(request)
        if job.status(self.now()) != "completed":
            raise Refused(openai_error(400, f"Only completed videos can be {purpose}."))
        if job.expired(self.now()):
            raise Refused(_unknown_video(job.id))
        return job

    def _video(self, job: Job) -> Answer:
        return json_answer(200, job.video(self.now()), job_id=job.id)


def _unknown_video(video_id: str) -> Answer:
    return openai_error(404, f"Video with id '{video_id}' not found.")


def _speaks_azure(request: web.Request) -> bool:
    return request.path.startswith(f"{AZURE}/")


async def _identify(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["apim-request-id"] = str(uuid4())


@web.middleware
async def _envelope_for_strangers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What is said where no route leads: E4 and E5, E17 for a project's address, and the service's
    own for other servers.
    """
    try:
        return await handler(request)
    except web.HTTPNotFound:
        answer = NOT_FOUND if _speaks_azure(request) else RESOURCE_NOT_FOUND
        if request.path.startswith("/api/projects/"):
            answer = ACCESS_DENIED
        elif request.path.startswith(f"{OTHER}/"):
            answer = openai_error(404, f"Invalid URL ({request.method} {request.path})")
    except web.HTTPMethodNotAllowed:
        answer = fastapi_error(405, "Method Not Allowed")
    except web.HTTPRequestEntityTooLarge:
        answer = openai_error(413, "The body of your request is too large.")
    return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
