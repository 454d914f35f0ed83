"""`python -m infra.tools.smoke URL [--video]`: whether a deployed gateway works. Needs nothing but
Python.

Waits until it answers, asks whether it reaches its storage, and, with the master key in
GATEWAY_MASTER_KEY, lists its models. `--video` makes one short video (and pays for it), waits for
it, checks its first bytes and deletes it, where the gateway has a deployment that is neither closed
nor retired, wherever its account is.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from infra.tools.azure import Stop, ended

_PROMPT = "A paper boat drifts across a puddle after the rain, seen from above."
_START = 600.0  # seconds: a role that was just assigned takes up to ten minutes to work
_VIDEO = 1800.0
_PAUSE = 10.0
_MORE_TRIES = 6  # an update restarts instances for half a minute after az has said that it is done


class SmokeError(Stop):
    """What the gateway did not do; the message says what to look at."""


@dataclass(frozen=True)
class Client:
    """Requests with the master key. `sleep` and `clock`, in seconds, can be given by tests."""

    url: str
    key: str | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def ask(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of the answer; 0 where there is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}{path}", data, headers or {}, method=method)
        if data:
            request.add_header("content-type", "application/json")
        if self.key:
            # Not sent on to where a redirect leads.
            request.add_unredirected_header("authorization", f"Bearer {self.key}")
        try:
            with _opened(request) as response:
                return response.status, response.read()
        except (HTTPException, OSError) as error:
            return 0, str(error).encode()

    def insist(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """The same, asked again where an instance that restarts gave no answer, or a bad one."""
        status, answer = self.ask(method, path, body, headers=headers)
        for _ in range(_MORE_TRIES):
            if 0 < status < HTTPStatus.INTERNAL_SERVER_ERROR:
                break
            self.sleep(_PAUSE)
            status, answer = self.ask(method, path, body, headers=headers)
        return status, answer

    def expect(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        """The JSON of an answer that must be 200. Raises SmokeError."""
        status, answer = self.insist(method, path, body, headers=headers)
        if status != HTTPStatus.OK:
            raise SmokeError(f"{method} {path} answered {status or 'nothing'}: {answer[:500].decode(errors='replace')}")
        return json.loads(answer)


def _opened(request: urllib.request.Request) -> Any:
    """The response, whatever its status. Raises OSError where there is none."""
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        return error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and print each. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.tools.smoke", description="Whether a deployed gateway works.")
    parser.add_argument("url")
    parser.add_argument("--video", action="store_true", help="make one video, if a deployment can; wait for it, delete it")
    given = parser.parse_args(arguments)
    client = Client(given.url, os.environ.get("GATEWAY_MASTER_KEY"))
    return ended(lambda: check(client, video=given.video))


def check(client: Client, *, video: bool) -> None:
    """Raises SmokeError at the first thing that is not as it should be."""
    _wait_for(client, "/health/liveliness", "The app runs")
    _wait_for(client, "/health/readiness", "It reaches its storage")
    if client.key is None:
        print("GATEWAY_MASTER_KEY is not set: nothing more can be checked.")
        return
    models = [each["id"] for each in client.expect("GET", "/v1/models")["data"]]
    print(f"It serves {', '.join(models)}.")
    if video:
        model = _usable_model(client, datetime.now(UTC).date())
        if model is None:
            print("No video was made: every deployment is closed or retired.")
        else:
            _make_video(client, model)


def _wait_for(client: Client, path: str, meaning: str) -> None:
    until = client.clock() + _START
    while True:
        status, answer = client.ask("GET", path)
        if status == HTTPStatus.OK:
            print(f"{meaning}.")
            return
        if client.clock() >= until:
            raise SmokeError(
                f"{path} answers {status or 'nothing'} after {_START:.0f} s: {answer[:500].decode(errors='replace')}"
            )
        client.sleep(_PAUSE)


def _usable_model(client: Client, today: date) -> str | None:
    """The first model with a deployment that the gateway has not closed and that its vendor has not
    retired.
    """
    closed = client.expect("GET", "/health/readiness").get("closed", {})
    for entry in client.expect("GET", "/model/info")["data"]:
        name, deployment = entry["model_name"], entry["model_info"]
        retires = deployment["retires"]
        if deployment["id"] not in closed.get(name, {}) and (retires is None or date.fromisoformat(retires) > today):
            return str(name)
    return None


def _make_video(client: Client, model: str) -> None:
    once = {"idempotency-key": f"smoke-{uuid.uuid4()}"}  # asked twice, it is made and paid for once
    video = client.expect("POST", "/v1/videos", {"model": model, "prompt": _PROMPT}, headers=once)
    name, until = video["id"], client.clock() + _VIDEO
    while video["status"] not in ("completed", "failed"):
        if client.clock() >= until:
            raise SmokeError(f"{name} is still {video['status']} after {_VIDEO:.0f} s.")
        client.sleep(_PAUSE)
        video = client.expect("GET", f"/v1/videos/{name}")
    if video["status"] == "failed":
        raise SmokeError(f"{name} failed: {video['error']}")
    status, data = client.insist("GET", f"/v1/videos/{name}/content")
    if status != HTTPStatus.OK or data[4:8] != b"ftyp":
        raise SmokeError(f"{name} is completed, but its content is not an MP4 (status {status}).")
    print(f"{name}: {video['seconds']} s of video in {len(data)} bytes.")
    client.expect("DELETE", f"/v1/videos/{name}")


if __name__ == "__main__":
    sys.exit(main())
