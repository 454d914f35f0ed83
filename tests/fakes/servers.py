"""Scripted upstreams that differ from OpenAI's dialect as the real servers do."""

from typing import Any
from uuid import uuid4

import httpx

from shared.dialects.dialect import Dialect
from shared.dialects.known import GEMINI, HOSTED_VLLM, OPENAI, SGLANG
from tests.fakes.upstream import ScriptedUpstream, content


class ServerWithDialect(ScriptedUpstream):
    """A server that forgets its jobs when it is restarted."""

    dialect: Dialect

    def restart(self) -> None:
        self.jobs.clear()

    def _honest(self, operation: str, request: httpx.Request) -> httpx.Response:
        if operation == "file":
            return content(self.film)
        if operation == "list" or (operation == "create" and request.url.path.endswith("/videos")):
            return super()._honest(operation, request)
        job = self.jobs.get(request.url.path.split("/videos/")[1].split("/")[0])
        if operation == "create":  # a remix
            return httpx.Response(404, json={"detail": "Not Found"})
        if job is None:
            return httpx.Response(404, json={"detail": "Video not found"})
        return {"get": self._told, "delete": self._delete, "content": self._content}[operation](job, request)

    def _told(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=job)

    def _delete(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        del self.jobs[job["id"]]
        return httpx.Response(200, json={"id": job["id"], "object": "video.deleted", "deleted": True})

    def _content(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        return content(self.film)


class SilentServer(ServerWithDialect):
    """OpenAI's dialect, by a server that tells no prompt."""

    dialect = OPENAI

    def _accept(self, request: httpx.Request) -> dict[str, Any]:
        job = super()._accept(request)
        del job["prompt"]
        return job


class VllmServer(ServerWithDialect):
    """vLLM-Omni: DELETE stops a job; a failed one is an HTTP error with an integer code."""

    dialect = HOSTED_VLLM

    def _accept(self, request: httpx.Request) -> dict[str, Any]:
        job = super()._accept(request)
        del self.jobs[job["id"]]
        job |= {"id": f"video_gen_{uuid4().hex}", "fps": 24.0, "num_frames": 96, "inference_time_s": None}
        self.jobs[job["id"]] = job
        return job

    def _told(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        return httpx.Response(job["error"]["code"] if job["status"] == "failed" else 200, json=job)

    def _content(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        if job["status"] == "completed":
            return content(self.film)  # whatever the variant
        return httpx.Response(422 if job["status"] == "failed" else 404, json={"detail": "Generation is still in-progress"})


class SGLangServer(ServerWithDialect):
    """SGLang: it never tells a prompt, and DELETE only forgets the job."""

    dialect = SGLANG

    def _accept(self, request: httpx.Request) -> dict[str, Any]:
        job = super()._accept(request)
        del self.jobs[job["id"]]
        job = {name: value for name, value in job.items() if name != "prompt"} | {"id": str(uuid4())}
        job |= {"file_path": f"/root/outputs/{job['id']}.mp4", "url": None}
        self.jobs[job["id"]] = job
        return job

    def _delete(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        del self.jobs[job["id"]]
        return httpx.Response(200, json={**job, "status": "deleted"})

    def _content(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        if job["url"]:
            told = f"Video has been uploaded to cloud storage. Please use the cloud URL: {job['url']}"
            return httpx.Response(400, json={"detail": told})
        if job["status"] != "completed" or "variant" in request.url.params:
            return httpx.Response(404, json={"detail": "Video variant not found"})
        return content(self.film)


class GeminiServer(ServerWithDialect):
    """Google's layer, as documented: no list, no deletion, and a film at an address of its own."""

    dialect = GEMINI

    def _accept(self, request: httpx.Request) -> dict[str, Any]:
        job = super()._accept(request)
        job["status"] = "processing"
        return job

    def _told(self, job: dict[str, Any], request: httpx.Request) -> httpx.Response:
        address = f"{request.url.copy_with(path='/v1beta/files/a:download')}?alt=media"
        return httpx.Response(200, json={**job, "video": {"url": address}} if job["status"] == "completed" else job)
