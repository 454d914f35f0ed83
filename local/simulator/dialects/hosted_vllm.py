"""vLLM-Omni, at /v1/videos: forms alone, and failed jobs that are told as HTTP errors.

From the package `vllm-omni` 0.30.0, `entrypoints/openai/api_server.py`, `protocol/videos.py` and
`video/generation/helpers.py`; errors as vLLM's own handlers put them.
"""

import asyncio
import json
import re
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from hmac import compare_digest
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from aiohttp import web

from local.simulator.answers import Answer, Refused, json_answer
from local.simulator.bodies import FORMS, File, form_fields, is_image
from local.simulator.dialects.dialect import Route, bearer
from local.simulator.dialects.engine import ORDERS, Engine, even, filled_in, picture
from local.simulator.dialects.values import Kind, WrongValue, one_of, read, within
from local.simulator.jobs import Failure, Job
from local.simulator.workshop import Order

_DEFAULT_SIZE = "832x480"
_DEFAULT_FPS = 24.0
_QUALITIES = ("lossless", "high")
_PATTERNS = {"seconds": r"[1-9]\d*", "size": r"\d+x\d+"}
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("model", "seconds", "size", "user", "aspect_ratio", "quality", "negative_prompt", "control_type"), str),
    **dict.fromkeys(("width", "height", "num_frames", "short_edge", "num_outputs_per_prompt"), int),
    **dict.fromkeys(("num_inference_steps", "seed", "frame_interpolation_exp"), int),
    **dict.fromkeys(("fps", "start_time_seconds", "guidance_scale", "guidance_scale_2", "boundary_ratio"), float),
    **dict.fromkeys(("flow_shift", "true_cfg_scale", "sound_duration", "frame_interpolation_scale"), float),
    **dict.fromkeys(("generate_sound", "enable_frame_interpolation", "return_stage_metrics"), bool),
    **dict.fromkeys(("image_reference", "video_reference", "audio_reference", "lora", "extra_params"), str),
}
_ANY = 2.0**63
# The form itself knows these bounds, the model of the request the others: they fail in two ways.
_FORM_BOUNDS = {
    **dict.fromkeys(("fps", "short_edge", "frame_interpolation_exp"), (1, _ANY)),
    "num_outputs_per_prompt": (1, 10),
    "start_time_seconds": (0, _ANY),
    **dict.fromkeys(("sound_duration", "frame_interpolation_scale"), (sys.float_info.min, _ANY)),
}
_MODEL_BOUNDS = {
    **dict.fromkeys(("width", "height", "num_frames"), (1, _ANY)),
    "num_inference_steps": (1, 200),
    **dict.fromkeys(("guidance_scale", "guidance_scale_2", "true_cfg_scale"), (0, 20)),
    "boundary_ratio": (0, 1),
    "seed": (-_ANY, _ANY),
}
_JSON = {"image_reference": object, "video_reference": object, "audio_reference": object, "lora": dict, "extra_params": dict}
_REFERENCES = {
    "image_reference": ("image_url", "file_id"),
    "video_reference": ("video_url", "file_id"),
    "audio_reference": ("audio_url",),
}


class HostedVllm(Engine):
    """ "unlucky" jobs fail in the engine, "disturbing" ones at its guardrail."""

    served = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"

    def routes(self) -> Iterator[Route]:
        one = "/v1/videos/{video_id}"
        yield Route("POST", "/v1/videos", "create", self._create)
        yield Route("POST", "/v1/videos/sync", "create", self._create_sync)
        yield Route("GET", "/v1/videos", "list", self._list)
        yield Route("GET", one, "get", self._get)
        yield Route("DELETE", one, "delete", self._delete)
        yield Route("GET", f"{one}/content", "content", self._content)
        yield Route("GET", "/health", "health", self._health)

    def turned_away(self, request: web.Request) -> Answer | None:
        wanted = self.terms.api_key
        if wanted is None or not request.path.startswith("/v1") or compare_digest(bearer(request).encode(), wanted.encode()):
            return None
        return json_answer(401, {"error": "Unauthorized"})

    def error(self, status: int, message: str, *, kind: str | None = None, param: str | None = None) -> Answer:
        kind = kind or HTTPStatus(status).phrase
        return json_answer(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def told(self, job: Job) -> dict[str, object]:
        now, given = self.workshop.now(), job.parameters
        status = job.status(now)
        completed, ended = status == "completed", not job.running(now)
        failure = {"code": int(job.failure_code or 0), "message": job.failure_message} if status == "failed" else None
        return {
            "model": job.model,
            "prompt": job.prompt,
            "id": job.id,
            "object": "video",
            "status": status,
            "size": given.get("size"),
            "progress": 100 if completed else 0,
            "seconds": given.get("seconds", "4"),
            "quality": given.get("quality", "default"),
            "completed_at": int(job.ends_at) if ended else None,
            "created_at": int(job.created_at),
            "remixed_from_video_id": None,
            "error": failure,
            "media_type": "video/mp4",
            "expires_at": None,
            "file_name": f"{job.id}.mp4" if completed else None,
            "inference_time_s": job.ends_at - job.created_at if ended else None,
            **_frames(given),
            "metrics": None,
            "stage_durations": {},
            "peak_memory_mb": 0.0,
            "action": None,
        }

    async def _create(self, request: web.Request) -> Answer:
        return self.accepted(await self._accept(request))

    async def _create_sync(self, request: web.Request) -> Answer:
        """It answers when the film is there."""
        job = await self._accept(request)
        await self.workshop.clock.sleep(job.ends_at - self.workshop.now())
        if job.failure_code:
            raise Refused(self.error(int(job.failure_code), f"Video generation failed: {job.failure_message}"))
        body, padding = await self.workshop.film(job, index_first=False)
        took = f"{job.ends_at - job.created_at:.3f}"
        headers = {"x-request-id": job.id, "x-model": job.model, "x-inference-time-s": took}
        return Answer(200, body, "video/mp4", headers, job.id, padding)

    async def _accept(self, request: web.Request) -> Job:
        given = filled_in(await form_fields(request)) if request.content_type in FORMS else {}
        values = self._values(given)
        if values.get("model", self.model) != self.model:
            message = f"Model mismatch: request specifies '{values['model']}' but server is running '{self.model}'."
            raise Refused(self.error(400, message))
        for name, told in _references(values):
            await asyncio.to_thread(self._require_media, name, told)
        try:
            reference = await asyncio.to_thread(picture, given.get("input_reference"))
        except ValueError as error:
            raise Refused(self.error(400, "Invalid input reference: not an image or a video.")) from error
        seconds = max(1, round(_frames(values)["duration_s"] or 4))
        order = Order(self.model, self.model, given["prompt"], seconds, _film_size(values), reference)
        return self.render(f"video_gen_{uuid4().hex}", order, values, _failure(order.prompt))

    def _values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the form says. Raises Refused."""
        try:
            values = _read(given)
            within(values, _FORM_BOUNDS)
        except WrongValue as error:
            kind = "missing" if error.missing else "value_error"
            message = f"1 validation error:\n  {{'type': '{kind}', 'loc': 'body.{error.name}', 'msg': '{error.message}'}}"
            raise Refused(self.error(400, message, param=f"body.{error.name}")) from error
        self._require_json(values)
        if "input_reference" in given and {"image_reference", "video_reference"} & values.keys():
            raise Refused(self.error(400, "Provide only one of input_reference, image_reference, or video_reference."))
        try:
            within(values, _MODEL_BOUNDS)
            one_of(values, "quality", _QUALITIES)
            _require_references(values)
        except WrongValue as error:
            message = f"1 validation error for VideoGenerationRequest\n{error.name}\n  {error.message}"
            raise Refused(self.error(400, message, kind="BadRequestError")) from error
        return values

    def _require_json(self, values: Mapping[str, Any]) -> None:
        for name, kind in _JSON.items():
            try:
                if name in values and not isinstance(json.loads(values[name]), kind):
                    raise Refused(self.error(400, f"Invalid JSON in form field: expected {kind.__name__}."))
            except ValueError as error:
                raise Refused(self.error(400, "Invalid JSON in form field.")) from error

    def _require_media(self, name: str, told: Mapping[str, str]) -> None:
        """Raises Refused for a reference that the server would not fetch. It fetches addresses of
        images, videos and sounds; here they are believed.
        """
        kind = name.partition("_")[0]
        if "file_id" in told:
            raise Refused(self.error(400, f"Invalid {name}: file_id is not supported yet."))
        (url,) = told.values()
        if not url.startswith(("http://", "https://", f"data:{kind}")):
            raise Refused(self.error(400, f"Invalid {name}.{kind}_url: must be an http(s) URL or data URL."))
        if url.startswith("data:image") and not _is_image(url):
            raise Refused(self.error(400, f"Invalid {name}.{kind}_url: provided content is not a valid image."))

    async def _list(self, request: web.Request) -> Answer:
        limit, order = request.query.get("limit"), request.query.get("order", "desc")
        if order not in ORDERS:
            raise Refused(self.error(400, "1 validation error", param="query.order"))
        if limit is not None and not (limit.isdecimal() and int(limit) <= 100):
            raise Refused(self.error(400, "1 validation error", param="query.limit"))
        return self.page(request.query.get("after"), None if limit is None else int(limit), order)

    async def _get(self, request: web.Request) -> Answer:
        job = self.job(request)
        failed = job.status(self.workshop.now()) == "failed"
        return json_answer(int(job.failure_code or 500) if failed else 200, self.told(job), job_id=job.id)

    async def _content(self, request: web.Request) -> Answer:
        job = self.job(request)
        status = job.status(self.workshop.now())
        if status == "failed":
            raise Refused(self.error(422, "Video generation failed. Check job status for error details."))
        if status != "completed":
            raise Refused(self.error(404, "Generation is still in-progress"))
        body, padding = await self.workshop.film(job, index_first=False)
        return Answer(200, body, "video/mp4", padding=padding, job_id=job.id)

    async def _delete(self, request: web.Request) -> Answer:
        job = self.job(request)
        self.workshop.jobs.delete(job.id, self.workshop.now())
        if job.running(self.workshop.now()):
            self.workshop.stop(job, self.terms.max_running)
        await self.workshop.discard(job)
        return json_answer(200, {"id": job.id, "deleted": True, "object": "video.deleted"}, job_id=job.id)

    async def _health(self, _: web.Request) -> Answer:
        return Answer(200, content_type="text/plain")


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given.get("prompt"), str):
        raise WrongValue("prompt", "Field required", missing=True)
    values = {name: read(name, given[name], kind) for name, kind in _KINDS.items() if name in given}
    if not isinstance(given.get("input_reference", File("", "", b"")), File):
        raise WrongValue("input_reference", "Value error, Expected UploadFile")
    for name, form in _PATTERNS.items():
        if name in values and not re.fullmatch(form, values[name], re.ASCII):
            raise WrongValue(name, f"String should match pattern '^{form}$'")
    return values


def _references(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The references of a form, each with the name of its part. An empty one says nothing."""
    for name in _REFERENCES.keys() & values.keys():
        told = json.loads(values[name])
        yield from ((name, each) for each in (told if isinstance(told, list) else [] if told is None else [told]))


def _require_references(values: Mapping[str, Any]) -> None:
    """Each names one address or one file, and nothing else. Raises WrongValue."""
    for name, told in _references(values):
        known = isinstance(told, dict) and len(told) == 1 and told.keys() <= set(_REFERENCES[name])
        if not known or not all(isinstance(each, str) for each in told.values()):
            raise WrongValue(name, f"Input should be an object with one of {', '.join(_REFERENCES[name])}")


def _is_image(url: str) -> bool:
    """Whether a data URL holds one."""
    try:
        return is_image(b64decode(url.partition(",")[2]))
    except ValueError:
        return False


def _frames(given: Mapping[str, Any]) -> dict[str, Any]:
    """How long the film will be: `seconds` say it, else the number of frames."""
    fps, frames = given.get("fps", _DEFAULT_FPS), given.get("num_frames")
    seconds = float(given["seconds"]) if "seconds" in given else None
    if frames is None and seconds is not None:
        frames = int(seconds * fps)
    return {"fps": fps, "num_frames": frames, "duration_s": seconds or (frames / fps if frames else None)}


def _film_size(given: Mapping[str, Any]) -> str:
    """The size that counts: `size` before width and height."""
    if "width" in given and "height" in given:
        return even(given.get("size", f"{given['width']}x{given['height']}"))
    return even(given.get("size", _DEFAULT_SIZE))


def _failure(prompt: str) -> Failure | None:
    words = prompt.lower()
    if "disturbing" in words:
        return "400", "Guardrail blocked prompt: Blocked by the content safety filter."
    if "unlucky" in words:
        return "500", "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return None
