"""One run: a client's story, an app that dies where it is told to and is started again, and what is true when all is quiet."""

import asyncio
import hashlib
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import msgspec

from local.crash_points import Death
from local.crash_site import MASTER_KEY, UPSTREAM_KEY, App, Site
from local.crash_story import Result, Story, app_settings
from local.left_over import left_over
from local.sora_faults import parse_fault
from shared import gateway as composition
from shared import settings
from shared.account import Account
from shared.gateway import Gateway
from shared.video import GATEWAY_OWNER, Video

_UNAIDED = 1.5  # seconds before the sweep looks for the first time, and then between its looks
_PATIENCE = 90.0  # seconds until everything must be quiet
_LOOK_AGAIN = 0.1


class GaveUp(Exception):
    """The connection broke under a create, and this client does not try again."""


class Run:
    """A story with a key and models of its own on a site. Seed 0 is the plain run: one death, and a client who tries again."""

    def __init__(self, site: Site, story: Story, death: Death | None, seed: int) -> None:
        site.runs += 1
        self.site, self.story, self.seed = site, story, seed
        self._folder = site.folder / f"run{site.runs}"
        self._folder.mkdir()
        self._random = Random(f"{story.name} {death} {seed}")
        self._deaths = [death] if death else []
        if seed and death and self._random.random() < 0.5:  # and once more, while it recovers
            self._deaths.append(Death(None, self._random.randint(1, 12)))
        self._patient = not story.orphaned and (seed == 0 or self._random.random() < 0.5)
        self._pause = self._random.uniform(0, 0.3) if seed else 0.0
        self._tag = secrets.token_hex(5)
        self._models = [f"model-{self._tag}", *([f"spare-{self._tag}"] if story.spare else [])]
        self._settings = app_settings(story, site, self._folder, self._models)
        self._app: App | None = None
        self._over = False
        self._up = asyncio.Event()
        self._answered: list[str] = []
        self._prompts: list[str] = []
        self.result = Result()

    async def run(self) -> Result:
        """The whole of it."""
        given = settings.load(self._settings)
        gateway = composition.build(given)
        self.site.sora.faults.clear()
        try:
            issued = await gateway.keys.issue(Account())
            self._owner, self._secret = issued.key_id, issued.secret
            self._spent_before = await self._gateway_spend(gateway)
            async with httpx.AsyncClient(timeout=30, trust_env=False) as self._http:
                await self._live(gateway)
                await self._check(gateway)
        finally:
            await gateway.close()
        passages = self._folder / "passages"
        self.result.points = passages.read_text().splitlines() if passages.exists() else []
        self._check_log()
        return self.result

    async def create(self, prompt: str = "A cat", **fields: Any) -> str:
        """The id of a new video. Raises GaveUp."""
        self._prompts.append(f"{prompt} {self._tag} {len(self._prompts)}")
        body = {"model": self._models[0], "prompt": self._prompts[-1], "seconds": "4", **fields}
        return await self._created("/v1/videos", body)

    async def remix(self, source: str) -> str:
        self._prompts.append(f"A dog {self._tag} {len(self._prompts)}")
        return await self._created(f"/v1/videos/{source}/remix", {"prompt": self._prompts[-1]})

    async def delete(self, video_id: str) -> None:
        answer = await self._send("DELETE", f"/v1/videos/{video_id}")
        # The second try of one that worked finds nothing.
        self._expect(answer.status_code in (200, 404), f"DELETE was answered {answer.status_code}")

    async def reaches(self, video_id: str, *statuses: str) -> None:
        async def there() -> bool:
            return (await self._send("GET", f"/v1/videos/{video_id}")).json()["status"] in statuses

        await _until(there)

    async def accepted(self) -> None:
        """Until the upstream has accepted a create of ours."""

        async def there() -> bool:
            return bool(self._jobs())

        await _until(there)

    async def asked(self, operation: str) -> None:
        """Until the upstream was asked for this, of a job of ours."""

        async def there() -> bool:
            jobs = self._jobs()
            return any(each.operation == operation and each.job in jobs for each in self.site.sora.requests)

        await _until(there)

    def fault(self, **fault: Any) -> None:
        """Arm a fault at the upstream."""
        self.site.sora.faults.add(parse_fault(msgspec.json.encode(fault)))

    async def _created(self, path: str, body: dict[str, Any]) -> str:
        headers = {"idempotency-key": f"once-{self._tag}-{len(self._prompts)}"}
        answer = await self._send("POST", path, json=body, headers=headers, once=not self._patient)
        self._expect(answer.status_code == 200, f"the create was answered {answer.status_code}: {answer.text}")
        video_id = str(answer.json()["id"])
        self._answered.append(video_id)
        return video_id

    async def _send(self, method: str, path: str, *, once: bool = False, **request: Any) -> httpx.Response:
        """Ask, and ask again when the app dies under the request. Raises GaveUp where it is asked only `once`."""
        headers = {"authorization": f"Bearer {self._secret}", **request.pop("headers", {})}
        async with asyncio.timeout(_PATIENCE):
            while True:
                await self._up.wait()
                app = self._app
                assert app is not None
                try:
                    return await self._http.request(method, f"{app.url}{path}", headers=headers, **request)
                except httpx.TransportError as error:
                    await app.ended  # nothing else breaks a connection here
                    await asyncio.sleep(0)  # and its supervisor hears of it first
                    if once:
                        raise GaveUp from error

    async def _live(self, gateway: Gateway) -> None:
        given = None
        if self.story.before is not None:
            death = Death("create_video: durable.start_new: before") if self.story.orphaned else None
            async with self._served([death] if death else [], forever=death is None):
                given = await self._tell(self.story.before(self))
        async with self._served(self._deaths, forever=True):
            await self._tell(self.story.act(self, given))
            await self._quiet(gateway)

    @asynccontextmanager
    async def _served(self, deaths: list[Death], *, forever: bool) -> AsyncIterator[None]:
        """With an app that is started again whenever it dies; killed at the end."""
        self._over = False
        supervisor = asyncio.create_task(self._supervise([*deaths, *([None] if forever else [])]))
        try:
            yield
        except TimeoutError:
            self.result.wrong.append(f"not at its end after {_PATIENCE:g} s")
        finally:
            self._over = True
            if self._app is not None:
                self._app.kill()
            await supervisor  # it may be starting one more, which must not be left behind

    async def _tell(self, story: Awaitable[Any]) -> Any:
        try:
            return await story
        except GaveUp:
            return None

    async def _supervise(self, deaths: Sequence[Death | None]) -> None:
        """Start the app, and start it again whenever it has died, until it is over."""
        self.result.died = 0
        for death in deaths:
            self._app = app = await self.site.launcher.start(self._folder, self._settings, death)
            if self._over:
                app.kill()
            elif app.url is not None:
                self._up.set()
            ended = await app.ended
            self._up.clear()
            if self._over:
                return
            self.result.died += 1
            self._expect(ended == -signal.SIGKILL, f"the app ended with {ended}")
            await asyncio.sleep(self._pause)

    async def _quiet(self, gateway: Gateway) -> None:
        """Until nothing is left to do, with the sweep's help."""
        loop = asyncio.get_running_loop()
        deadline, next_sweep = loop.time() + _PATIENCE, loop.time() + _UNAIDED
        while await self._busy(gateway):
            if loop.time() > deadline:
                return
            if loop.time() > next_sweep and self._app is not None and self._up.is_set():
                self._app.sweep()
                next_sweep = loop.time() + _UNAIDED
            await asyncio.sleep(_LOOK_AGAIN)

    async def _busy(self, gateway: Gateway) -> bool:
        async for _ in self._left_over(gateway):
            return True
        return False

    async def _check(self, gateway: Gateway) -> None:
        """What must be true of what was answered, what was made, and what is left."""
        self.result.wrong += [f"left over: {each}" async for each in self._left_over(gateway)]
        videos = {video.id: video async for video in gateway.ledger.videos(self._owner)}
        self.result.wrong += [f"{each} was answered 200 and is lost" for each in self._answered if each not in videos]
        self.result.completed = sum(video.status == "completed" for video in videos.values())
        self.result.failed = sum(video.status == "failed" for video in videos.values())
        for video in videos.values():
            await self._check_video(gateway, video)
        made = {job.prompt for job in self.site.sora.jobs.accepted() if job.prompt in self._prompts}
        unknown = made - {video.prompt for video in videos.values()}
        self._expect(not unknown, f"{len(unknown)} jobs upstream belong to no video")
        account = await gateway.ledger.account(self._owner)
        spent = sum(video.cost for video in videos.values() if video.status == "completed")
        self._expect(account is not None and account.spend == spent, f"spend is {account and account.spend}, not {spent}")
        if gateway.settings.max_budget is not None:
            counted = await self._gateway_spend(gateway) - self._spent_before
            self._expect(counted == spent, f"the gateway's spend grew by {counted}, not {spent}")

    async def _check_video(self, gateway: Gateway, video: Video) -> None:
        end = video.status if video.status == "completed" else video.error_code
        self._expect(end in self.story.ends, f"{video.id} ended as {end}: {video.error_message}")
        jobs = [job for job in self.site.sora.jobs.accepted() if job.prompt == video.prompt]
        self.result.most_creates = max(self.result.most_creates, len(jobs))
        self._expect(len(jobs) <= 1, f"{video.id} has {len(jobs)} jobs upstream")
        stored = await gateway.archive.length(video)
        if video.deleted or video.status == "failed":
            self._expect(stored is None, f"{video.id} is {'deleted' if video.deleted else 'failed'} and has bytes")
            return
        content = await self._http.get(await gateway.archive.url(video))
        headers = {"api-key": UPSTREAM_KEY}
        made = await self._http.get(f"{self.site.upstream}/openai/v1/videos/{video.upstream_id}/content", headers=headers)
        same = hashlib.sha256(content.content).digest() == hashlib.sha256(made.content).digest()
        self._expect(same and stored == video.bytes == len(made.content), f"{video.id} has not the bytes that were made")

    def _left_over(self, gateway: Gateway) -> AsyncIterator[str]:
        return left_over(gateway, self._models, [self._owner])

    async def _gateway_spend(self, gateway: Gateway) -> int:
        account = await gateway.ledger.account(GATEWAY_OWNER)
        return account.spend if account else 0

    def _jobs(self) -> list[str]:
        return [job.id for job in self.site.sora.jobs.accepted() if job.prompt in self._prompts]

    def _check_log(self) -> None:
        log = self._folder / "app.log"
        text = log.read_text() if log.exists() else ""
        for word in (UPSTREAM_KEY, MASTER_KEY, self._secret, self.site.upstream, self._tag + " 0"):
            self._expect(word not in text, f"the log holds {word!r}")
        self._expect("Traceback" not in text, f"the log holds a traceback: {text[text.find('Traceback') :][:2000]}")

    def _expect(self, so: bool, otherwise: str) -> None:
        if not so:
            self.result.wrong.append(otherwise)


async def _until(there: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await there():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(_LOOK_AGAIN)
