"""SGLang's diffusion server, at /v1/videos: JSON and forms, prompts that are never told, and films
that stay on its disk.

From the package `sglang` 0.5.23, `multimodal_gen/runtime/entrypoints/openai/video_api.py`,
`protocol.py`, `stores.py` and `utils.py`.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web

from local.simulator.answers import Answer, Refused, fastapi_error, json_answer
from local.simulator.bodies import FORM, File, form_fields, json_fields
from local.simulator.dialects.dialect import Route
from local.simulator.dialects.engine import ORDERS, Engine, even, filled_in, picture
from local.simulator.dialects.values import Kind, WrongValue, read
from local.simulator.jobs import Failure, Job
from local.simulator.workshop import Order

_DEFAULT_SIDES = (1280, 720)
_SEED = 42
_FPS, _SECONDS = 24, 4
_MOST_OUTPUTS = 10
_QUALITIES = ("maximum", "high", "medium", "low", "default")
_SOURCES = re.compile(r"(?i:https?://)|data:(image|video)|.*\.(avi|gif|m4v|mkv|mov|mp4|mpeg|mpg|webm)\Z", re.DOTALL)
_POSITIVE = ("width", "height", "num_frames", "num_inference_steps")
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("model", "task_type", "size", "generator_device", "negative_prompt", "reference_url"), str),
    **dict.fromkeys(("video_url", "video_path", "output_quality", "output_path", "perf_dump_path"), str),
    **dict.fromkeys(("n", "num_outputs_per_prompt", "seconds", "fps", "num_frames", "width", "height"), int),
    **dict.fromkeys(("seed", "num_inference_steps", "max_sequence_length", "frame_interpolation_exp"), int),
    **dict.fromkeys(("upscaling_scale", "output_compression"), int),
    **dict.fromkeys(("guidance_scale", "guidance_scale_2", "true_cfg_scale", "flow_shift"), float),
    **dict.fromkeys(("frame_interpolation_scale",), float),
    **dict.fromkeys(("enhance_prompt", "enable_teacache", "enable_frame_interpolation", "enable_upscaling"), bool),
}


class SGLang(Engine):
    """Any job with "unlucky" or "disturbing" in its prompt fails in the scheduler. Films are in the
    `cloud`, or on its disk.
    """

    served = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"

    def routes(self) -> Iterator[Route]:
        one = "/v1/videos/{video_id}"
        yield Route("POST", "/v1/videos", "create", self._create)
        yield Route("GET", "/v1/videos", "list", self._list)
        yield Route("GET", one, "get", self._get)
        yield Route("DELETE", one, "delete", self._delete)
        yield Route("GET", f"{one}/content", "content", self._content)
        yield Route("GET", "/bucket/{video_id}.mp4", "content", self._in_the_cloud)
        yield Route("GET", "/health", "health", self._health)

    def error(self, status: int, message: str) -> Answer:
        return fastapi_error(status, message)

    def told(self, job: Job) -> dict[str, object]:
        now, given = self.workshop.now(), job.parameters
        status = job.status(now)
        completed = status == "completed"
        path = f"/sgl-workspace/sglang/outputs/{job.id}.mp4"
        address = f"{given['origin']}/bucket/{job.id}.mp4" if self.terms.cloud else None
        here = None if status == "failed" or (completed and self.terms.cloud) else path
        return {
            "id": job.id,
            "object": "video",
            "model": given.get("model") or self.model,
            "status": status,
            "progress": 100 if completed else min(99, int(100 * job.done(now))),
            "created_at": int(job.created_at),
            "size": given["told_size"],
            "seconds": given["told_seconds"],
            "quality": "standard",
            "url": address if completed else None,
            "urls": [address] * given["outputs"] if completed else None,
            "remixed_from_video_id": None,
            "completed_at": int(job.ends_at) if completed else None,
            "expires_at": None,
            "error": {"message": job.failure_message} if status == "failed" else None,
            "file_path": here,
            "file_paths": [here] * given["outputs"] if completed else None,
            "num_outputs": given["outputs"] if completed else None,
            "peak_memory_mb": None,
            "inference_time_s": job.ends_at - job.starts_at if completed else None,
            "revised_prompt": None,
            "action": None,
            "lidar": None,
        }

    async def _create(self, request: web.Request) -> Answer:
        read_body = self._form if request.content_type == FORM else self._json
        values, reference = await read_body(request)
        fps = values.get("fps", _FPS)
        values.setdefault("num_frames", fps * (values.get("seconds") or _SECONDS))
        self._require_sense(values)
        seconds, size = round(values["num_frames"] / fps), "{}x{}".format(*self._sides(values))
        outputs = max(1, min(values.get("num_outputs_per_prompt", values.get("n") or 1), _MOST_OUTPUTS))
        told = {"told_size": size, "told_seconds": str(seconds), "origin": str(request.url.origin()), "outputs": outputs}
        order = Order(self.model, self.model, values.pop("prompt"), max(1, seconds), even(size), reference)
        return self.accepted(self.render(str(uuid4()), order, {"seed": _SEED, **values, **told}, _failure(order.prompt)))

    def _require_sense(self, values: Mapping[str, Any]) -> None:
        """Raises Refused."""
        for name in _POSITIVE:
            if values.get(name, 1) <= 0:
                raise Refused(self.error(400, f"{name} must be positive"))
        quality = values.get("output_quality", "default")
        if quality not in _QUALITIES and "output_compression" not in values:
            raise Refused(self.error(400, f"Invalid output_quality {quality!r}. Expected one of: {list(_QUALITIES)}"))
        if not _SOURCES.match(values.get("reference_url", "https://")):
            raise Refused(self.error(400, "Failed to process image source: Unsupported image url format"))
        seed = values.get("seed", _SEED)
        if seed < 0:
            raise Refused(self.error(400, f"seed must be a non-negative int or list of ints, got {seed!r}"))

    async def _form(self, request: web.Request) -> tuple[dict[str, Any], bytes | None]:
        """Raises Refused: 422 where a value has the wrong type, before anything else is looked
        at.
        """
        given = filled_in(await form_fields(request))
        try:
            values = _read(given)
        except WrongValue as error:
            problem = {"type": "value_error", "loc": ["body", error.name], "msg": error.message, "input": given[error.name]}
            raise Refused(json_answer(422, {"detail": [problem]})) from error
        if not given.get("prompt"):
            raise Refused(self.error(400, "prompt is required"))
        for name in ("extra_body", "extra_params"):
            values = {**self._extra(given.get(name), f"{name} is not valid JSON"), **values}
        reference = given.get("input_reference")
        if reference is not None and not isinstance(reference, File):
            problem = {"type": "value_error", "loc": ["body", "input_reference"], "msg": "Expected UploadFile, received: str"}
            raise Refused(json_answer(422, {"detail": [problem]}))
        try:
            return {**values, "prompt": given["prompt"]}, await asyncio.to_thread(picture, reference)
        except ValueError as error:
            raise Refused(self.error(400, "Failed to process image source: not an image")) from error

    def _extra(self, told: object, wrong: str) -> dict[str, Any]:
        """More parameters, as an object or as JSON in a text. Raises Refused."""
        try:
            extra = json.loads(told) if isinstance(told, str) else told
        except ValueError as error:
            raise Refused(self.error(400, wrong)) from error
        return extra if isinstance(extra, dict) else {}

    async def _json(self, request: web.Request) -> tuple[dict[str, Any], None]:
        """Raises Refused. A body that cannot be read is one that says nothing."""
        try:
            given = await json_fields(request)
        except (ValueError, TypeError, RecursionError):
            given = {}
        for name in ("extra_body", "extra_json", "extra_params"):
            given = {**self._extra(given.pop(name, None), "Invalid request body"), **given}
        try:
            return {**_read(given), "prompt": read("prompt", given.get("prompt"), str)}, None
        except WrongValue as error:
            message = f"1 validation error for VideoGenerationsRequest\n{error.name}\n  {error.message}"
            raise Refused(self.error(400, f"Invalid request body: {message}")) from error

    def _sides(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """The size that counts: width and height before `size`. Raises Refused."""
        width, height = _DEFAULT_SIDES
        if values.get("size"):
            sides = values["size"].lower().replace(" ", "").split("x")
            if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
                raise Refused(self.error(400, "size must be formatted as positive WIDTHxHEIGHT"))
            width, height = map(int, sides)
        return values.get("width", width), values.get("height", height)

    async def _list(self, request: web.Request) -> Answer:
        limit, order = request.query.get("limit", "20"), request.query.get("order", "desc")
        wrong = "order" if order not in ORDERS else "limit" if not (limit.isdecimal() and 1 <= int(limit) <= 100) else None
        if wrong:
            raise Refused(json_answer(422, {"detail": [{"loc": ["query", wrong], "msg": "Input should be valid"}]}))
        return self.page(request.query.get("after"), int(limit), order)

    async def _get(self, request: web.Request) -> Answer:
        return self.video(self.job(request))

    async def _content(self, request: web.Request) -> Answer:
        job, variant = self.job(request), request.query.get("variant", "0")
        status = job.status(self.workshop.now())
        known = variant.isdecimal() and int(variant) < job.parameters["outputs"]
        if status == "completed" and self.terms.cloud and known:
            address = self.told(job)["url"]
            message = f"Video has been uploaded to cloud storage. Please use the cloud URL: {address}"
            raise Refused(self.error(400, message))
        if status not in ("completed", "failed"):
            raise Refused(self.error(404, "Generation is still in-progress"))
        if status == "failed" or self.terms.cloud or not known:
            raise Refused(self.error(404, f"Video variant {variant} not found"))
        return await self._film(job)

    async def _in_the_cloud(self, request: web.Request) -> Answer:
        """The bucket: anybody who knows the name may read."""
        job = self.job(request)
        if not self.terms.cloud or job.status(self.workshop.now()) != "completed":
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
        return await self._film(job)

    async def _film(self, job: Job) -> Answer:
        body, padding = await self.workshop.film(job, index_first=False)
        return Answer(200, body, "video/mp4", padding=padding, job_id=job.id)

    async def _delete(self, request: web.Request) -> Answer:
        """It is told no longer; the engine goes on with it, and its film stays on the disk."""
        job = self.job(request)
        self.workshop.jobs.delete(job.id, self.workshop.now())
        return json_answer(200, {**self.told(job), "status": "deleted"}, job_id=job.id)

    async def _health(self, _: web.Request) -> Answer:
        return json_answer(200, {"status": "ok"})


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises WrongValue."""
    return {name: read(name, given[name], kind) for name, kind in _KINDS.items() if name in given}


def _failure(prompt: str) -> Failure | None:
    if not any(word in prompt.lower() for word in ("unlucky", "disturbing")):
        return None
    return "failed", "Model generation failed. Error from scheduler: CUDA out of memory."
