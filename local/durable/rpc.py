"""The HTTP endpoints under `/durabletask/` that the client SDK calls, and the binding that tells it
where they are.

Every body is empty or JSON: the SDK decodes them all.
"""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from local.durable.hub import TaskHub
from local.durable.protocol import FINAL, AlreadyExists, ClientError, InstanceFinished, NotFinished, UnknownInstance
from local.durable.status import Query, Show

PREFIX = "/durabletask"
WEBHOOKS = "/runtime/webhooks/durabletask"
Handler = Callable[[web.Request], Awaitable[web.Response]]


def client_binding(task_hub: str, origin: str) -> str:
    """The value of a `durableClient` argument for a hub served at `origin` (`http://127.0.0.1:4000`).

    The SDK calls only `rpcBaseUrl`; the rest goes into check-status responses.
    """
    instances = f"{origin}{WEBHOOKS}/instances/INSTANCEID"
    orchestrators = f"{origin}{WEBHOOKS}/orchestrators/{{functionName}}[/{{instanceId}}]"
    where = f"taskHub={task_hub}&connection=Storage&code=local"
    binding = {
        "taskHubName": task_hub,
        "creationUrls": {
            "createNewInstancePostUri": f"{orchestrators}?code=local",
            "createAndWaitOnNewInstancePostUri": (
                f"{orchestrators}?timeout={{timeoutInSeconds}}&pollingInterval={{intervalInSeconds}}&code=local"
            ),
        },
        "managementUrls": {
            "id": "INSTANCEID",
            "statusQueryGetUri": f"{instances}?{where}",
            "sendEventPostUri": f"{instances}/raiseEvent/{{eventName}}?{where}",
            "terminatePostUri": f"{instances}/terminate?reason={{text}}&{where}",
            "rewindPostUri": f"{instances}/rewind?reason={{text}}&{where}",
            "purgeHistoryDeleteUri": f"{instances}?{where}",
            "restartPostUri": f"{instances}/restart?{where}",
            "suspendPostUri": f"{instances}/suspend?reason={{text}}&{where}",
            "resumePostUri": f"{instances}/resume?reason={{text}}&{where}",
        },
        "baseUrl": f"{origin}{WEBHOOKS}",
        "requiredQueryStringParameters": "code=local",
        "rpcBaseUrl": f"{origin}{PREFIX}/",
    }
    return json.dumps(binding)


def routes(hub: TaskHub) -> list[web.RouteDef]:
    """One route per call of the client SDK. Rewinding and signals to entities answer 501: the
    gateway has no use for them.
    """
    endpoints = Endpoints(hub)
    table: list[tuple[str, str, Handler]] = [
        ("POST", "/orchestrators/{function}", endpoints.start),
        ("POST", "/orchestrators/{function}/{id}", endpoints.start),
        ("GET", "/instances/", endpoints.query),
        ("DELETE", "/instances/", endpoints.purge_by),
        ("GET", "/instances/{id}", endpoints.status),
        ("DELETE", "/instances/{id}", endpoints.purge),
        ("POST", "/instances/{id}/raiseEvent/{event}", endpoints.raise_event),
        ("POST", "/instances/{id}/terminate", endpoints.terminate),
        ("POST", "/instances/{id}/suspend", endpoints.suspend),
        ("POST", "/instances/{id}/resume", endpoints.resume),
        ("POST", "/instances/{id}/restart", endpoints.restart),
        ("POST", "/instances/{id}/rewind", unsupported),
        ("GET", "/entities/{rest:.*}", no_entity),
        ("*", "/entities/{rest:.*}", unsupported),
    ]
    return [web.route(method, f"{PREFIX}{path}", _declining(handler)) for method, path, handler in table]


class Endpoints:
    """The handlers; each reads its request, asks the hub and shapes the answer."""

    def __init__(self, hub: TaskHub) -> None:
        self._hub = hub

    async def start(self, request: web.Request) -> web.Response:
        """The body is the input's JSON text as a JSON string, or empty for no input."""
        body = await _json_body(request)
        value = None if body is None else json.loads(body)
        instance = await self._hub.start(
            request.match_info["function"],
            request.match_info.get("id"),
            value if isinstance(value, str) else body,
            request.query.get("version", ""),
        )
        return self._started(request, instance)

    async def status(self, request: web.Request) -> web.Response:
        """202 while under way, 200 once finished."""
        show = Show(
            input=_flag(request, "showInput", default=True),
            history=_flag(request, "showHistory"),
            history_output=_flag(request, "showHistoryOutput"),
        )
        found = await self._hub.status(request.match_info["id"], show)
        if found is None:
            return web.Response(status=404)
        if found["runtimeStatus"] in FINAL:
            return web.json_response(found)
        return web.json_response(found, status=202, headers={"Location": str(request.url), "Retry-After": "5"})

    async def query(self, request: web.Request) -> web.Response:
        """All that match, on one page: the SDK reads no second one."""
        return web.json_response(await self._hub.statuses(_query(request)), headers={"x-ms-continuation-token": ""})

    async def raise_event(self, request: web.Request) -> web.Response:
        """The body, unchanged, is the event's input."""
        body = await _json_body(request)
        await self._hub.raise_event(request.match_info["id"], request.match_info["event"], body)
        return web.Response(status=202)

    async def terminate(self, request: web.Request) -> web.Response:
        await self._hub.terminate(request.match_info["id"], request.query.get("reason", ""))
        return web.Response(status=202)

    async def suspend(self, request: web.Request) -> web.Response:
        await self._hub.suspend(request.match_info["id"], request.query.get("reason", ""))
        return web.Response(status=202)

    async def resume(self, request: web.Request) -> web.Response:
        await self._hub.resume(request.match_info["id"], request.query.get("reason", ""))
        return web.Response(status=202)

    async def restart(self, request: web.Request) -> web.Response:
        """Start again with the same input, by default as a new instance. The SDK knows 400, not
        404, for an unknown id.
        """
        instance = request.match_info["id"]
        found = await self._hub.status(instance)
        if found is None:
            why = f"No instance with ID '{instance}' was found. (Parameter 'instanceId')"
            return _failure(400, "InstanceId does not match a valid orchestration instance.", why)
        fresh = _flag(request, "restartWithNewInstanceId", default=True)
        try:
            started = await self._hub.start(found["name"], None if fresh else instance, found["input"])
        except AlreadyExists as refusal:
            return _failure(409, "A non-terminal instance with this instance ID already exists.", str(refusal))
        return self._started(request, started)

    async def purge(self, request: web.Request) -> web.Response:
        if not await self._hub.purge(request.match_info["id"]):
            return web.Response(status=404)
        return web.json_response({"instancesDeleted": 1})

    async def purge_by(self, request: web.Request) -> web.Response:
        if "createdTimeFrom" not in request.query:
            return web.json_response("Please provide value for 'createdTimeFrom' parameter.", status=400)
        deleted = await self._hub.purge_by(_query(request))
        return web.json_response({"instancesDeleted": deleted}) if deleted else web.Response(status=404)

    def _started(self, request: web.Request, instance: str) -> web.Response:
        links = json.loads(client_binding(self._hub.name, str(request.url.origin())))["managementUrls"]
        answer = {key: url.replace("INSTANCEID", instance) for key, url in links.items() if key != "rewindPostUri"}
        return web.json_response(answer, status=202, headers={"Location": answer["statusQueryGetUri"]})


async def no_entity(_: web.Request) -> web.Response:
    """404: the gateway has no entities."""
    return web.Response(status=404)


async def unsupported(request: web.Request) -> web.Response:
    """501: this stand-in does not support the call."""
    what = request.path.removeprefix(PREFIX)
    return web.json_response({"Message": f"The local stand-in does not support {request.method} {what}."}, status=501)


def _declining(handler: Handler) -> Handler:
    """Turn a `ClientError` into its status, with the body that the extension gives it."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except ClientError as refusal:
            match refusal:
                case UnknownInstance() | InstanceFinished():
                    return web.Response(status=refusal.status)
                case AlreadyExists():
                    return web.json_response({"Message": str(refusal)}, status=refusal.status)
                case NotFinished():
                    return web.json_response(str(refusal), status=refusal.status)
            return _failure(refusal.status, "Invalid JSON content", str(refusal))

    return answer


def _failure(status: int, message: str, why: str) -> web.Response:
    body = {"Message": message, "ExceptionMessage": why, "ExceptionType": "System.ArgumentException", "StackTrace": ""}
    return web.json_response(body, status=status)


async def _json_body(request: web.Request) -> str | None:
    """The body's text, None if empty. Raises `ClientError` if it is not JSON."""
    raw = await request.read()
    if not raw:
        return None
    try:
        text = raw.decode()
        json.loads(text)
    except ValueError as bad:
        shown = raw[:1].decode(errors="replace")
        raise ClientError(
            f"Unexpected character encountered while parsing value: {shown}. Path '', line 0, position 0."
        ) from bad
    return text


def _flag(request: web.Request, name: str, *, default: bool = False) -> bool:
    return request.query.get(name, str(default)).lower() == "true"


def _query(request: web.Request) -> Query:
    given = request.query
    return Query(
        created_from=given.get("createdTimeFrom", ""),
        created_to=given.get("createdTimeTo", "9999"),
        statuses=tuple(filter(None, given.get("runtimeStatus", "").split(","))),
        prefix=given.get("instanceIdPrefix", ""),
    )
