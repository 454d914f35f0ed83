"""A client of an app that dies under it: it asks again, or gives up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.trials.crash.lab import App
from tests.trials.crash.result import Result
from tests.trials.crash.terms import MASTER_KEY

PATIENCE = 90.0  # seconds until everything must be over
_LOOK_AGAIN = 0.05


class GaveUp(Exception):
    """The connection broke under a create, and this client does not try again."""


@dataclass
class Whereabouts:
    """Where the app is served at the moment, if it is."""

    app: App | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)

    async def here(self) -> App:
        """Wait for an app that is up."""
        await self.up.wait()
        assert self.app is not None
        return self.app


@dataclass
class Client:
    """One with a key; what goes wrong for it is noted in `result`. Only a `patient` one repeats a
    create.

    `tag` tells its prompts from all others. `answered` are the videos it was promised, `deleted`
    those that it no longer wants, `prompts` what it has asked for.
    """

    http: httpx.AsyncClient
    secret: str
    model: str
    tag: str
    where: Whereabouts
    patient: bool
    result: Result
    answered: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    async def create(self, **fields: Any) -> str:
        """The id of a new video. Raises GaveUp."""
        body = {"model": self.model, "prompt": self._prompt(), "seconds": "4", **fields}
        return await self._created(await self._post("/v1/videos", body))

    async def refused(self, code: str, **fields: Any) -> None:
        """A create of the official client that is refused. Raises GaveUp."""
        body = {"model": self.model, "prompt": self._prompt(), "seconds": "4", **fields}
        answer = await self._post("/v1/videos", body, {"x-stainless-retry-count": "0"})
        told = None if answer.is_success else answer.json()["error"]["code"]
        self.result.expect(told == code, f"the create was answered {answer.status_code} {told}, not {code}")

    async def remix(self, source: str) -> str:
        return await self._created(await self._post(f"/v1/videos/{source}/remix", {"prompt": self._prompt()}))

    async def delete(self, video_id: str) -> None:
        answer = await self.ask("DELETE", f"/v1/videos/{video_id}")
        # The second try of one that worked finds nothing.
        self.result.expect(answer.status_code in (200, 404), f"DELETE was answered {answer.status_code}")
        self.deleted.append(video_id)

    async def thumbnail(self, video_id: str) -> bytes:
        answer = await self.ask("GET", f"/v1/videos/{video_id}/content?variant=thumbnail")
        self.result.expect(answer.status_code == 302, f"the thumbnail was answered {answer.status_code}")
        return (await self.http.get(answer.headers["location"])).content

    async def reaches(self, video_id: str, *statuses: str) -> None:
        async def there() -> bool:
            return (await self.ask("GET", f"/v1/videos/{video_id}")).json()["status"] in statuses

        await until(there)

    async def operate(self, action: str, body: Mapping[str, Any], *, again: tuple[int, ...] = ()) -> None:
        """What the operator does with a key; a second try, after the first one died, may be
        answered `again` too.
        """
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        answer, tries = await self._ask("POST", f"/key/{action}", json=body, headers=headers)
        expected = (200,) if tries == 1 else (200, *again)
        self.result.expect(answer.status_code in expected, f"key/{action} was answered {answer.status_code}: {answer.text}")

    async def ask(self, method: str, path: str, *, once: bool = False, **request: Any) -> httpx.Response:
        """Ask, and ask again when the app dies under the request. Raises GaveUp where it is asked
        only `once`.
        """
        return (await self._ask(method, path, once=once, **request))[0]

    async def _ask(self, method: str, path: str, *, once: bool = False, **request: Any) -> tuple[httpx.Response, int]:
        headers = {"authorization": f"Bearer {self.secret}", **request.pop("headers", {})}
        async with asyncio.timeout(PATIENCE):
            tries = 0
            while True:
                app = await self.where.here()
                tries += 1
                try:
                    return await self.http.request(method, f"{app.url}{path}", headers=headers, **request), tries
                except httpx.TransportError as error:
                    await app.ended  # nothing else breaks a connection here
                    await asyncio.sleep(0)  # and its supervisor hears of it first
                    if once:
                        raise GaveUp from error

    async def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Response:
        identity = headers or {"idempotency-key": f"once-{self.tag}-{len(self.prompts)}"}
        return await self.ask("POST", path, json=body, headers=identity, once=not self.patient)

    async def _created(self, answer: httpx.Response) -> str:
        if answer.status_code != 200:
            self.result.wrong.append(f"the create was answered {answer.status_code}: {answer.text}")
            raise GaveUp
        self.answered.append(str(answer.json()["id"]))
        return self.answered[-1]

    def _prompt(self) -> str:
        self.prompts.append(f"A cat {self.tag} {len(self.prompts)}")
        return self.prompts[-1]


async def until(there: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that happens in another process. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not await there():  # noqa: ASYNC110 - as said above
            await asyncio.sleep(_LOOK_AGAIN)
