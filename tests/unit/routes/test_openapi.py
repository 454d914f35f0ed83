"""The description of the API is what the API does."""

import json
import re
from typing import Any

import pytest

from shared.callers import key_settings
from shared.media.requests import CREATE_FIELDS
from shared.routes import openapi, paths
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

KINDS: dict[str, type | tuple[type, ...]] = {
    **{"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)},
    **{"integer": int, "number": (int, float)},
}


def document() -> dict[str, Any]:
    """As a client reads it."""
    found: dict[str, Any] = json.loads(json.dumps(paths._document()))
    return found


def fits(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether a value is as a schema says; as much of JSON Schema as the document uses."""
    if "$ref" in schema:
        return fits(value, whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole)
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    typed = not kinds or any(isinstance(value, KINDS[each]) for each in kinds)
    listed = value in schema.get("enum", [value]) and value == schema.get("const", value)
    some = "anyOf" not in schema or any(fits(value, each, whole) for each in schema["anyOf"])
    every = all(fits(value, each, whole) for each in schema.get("allOf", []))
    properties = schema.get("properties", {}) if isinstance(value, dict) else {}
    inner = all(fits(value[name], properties[name], whole) for name in properties if name in value)
    there = set(schema.get("required", ())) <= set(value) if isinstance(value, dict) else True
    items = all(fits(each, schema.get("items", {}), whole) for each in value) if isinstance(value, list) else True
    return typed and listed and some and every and inner and there and items


def test_every_route_is_described_and_nothing_else() -> None:
    """With a summary, and an id of its own."""
    routes = {f"{each.method} {each.path}" for each in paths.ENDPOINTS}
    assert routes == set(openapi._FACTS)
    operations = [each for methods in document()["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) == len(routes)
    assert all(each["summary"] for each in operations)


def test_fields_are_those_that_requests_are_checked_for() -> None:
    """Of creates and of keys."""
    whole = document()
    body = whole["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(CREATE_FIELDS)
    assert set(openapi.SETTINGS) == {*key_settings._PARSERS, "models", "duration"}


async def test_answers_are_as_described(world: World) -> None:
    """Of routes that answer with what is described in detail; a video has no other keys."""
    whole = document()
    video = (await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A cat"})).json
    assert set(whole["components"]["schemas"]["Video"]["properties"]) == set(video)
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/v1/videos", None),
        ("GET", "/v1/videos/{video_id}", None),
        ("GET", "/v1/videos/models", None),
        ("GET", "/v1/models", None),
        ("GET", "/model/info", None),
        ("GET", "/health", None),
        ("GET", "/spend/logs", None),
        ("GET", "/spend/tags", None),
        ("GET", "/spend/report", None),
        ("POST", "/spend/calculate", {}),
        ("POST", "/key/generate", {"max_budget": 1}),
        ("POST", "/key/health", {}),
        ("DELETE", "/v1/videos/{video_id}", None),
    ]
    for method, path, body in asked:
        reply = await world.send(method, path.strip("/").format(video_id=video["id"]), body=body)
        assert reply.status == 200, path
        described = whole["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
        assert fits(reply.json, described, whole), path
    assert not fits({**video, "status": "done"}, {"$ref": "#/components/schemas/Video"}, whole)


async def test_every_parameter_that_is_described_is_known(world: World) -> None:
    """None is refused as unknown; what is refused is described as an error."""
    whole = document()
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            query = {each["name"]: "x" for each in operation["parameters"] if each["in"] == "query"}
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            body = dict.fromkeys(content.get("schema", {}).get("properties", {}), -1) if content else None
            reply = await world.send(method.upper(), re.sub(r"{\w+}", "x", path.strip("/")), query=query, body=body)
            if reply.status != 200 and method != "head":
                assert fits(reply.json, whole["components"]["schemas"]["Error"], whole), path
                assert reply.code != "unknown_parameter", (path, reply.json)


async def test_the_page_needs_nothing_from_elsewhere(world: World) -> None:
    """No script, no style but its own, whose hash is in the policy; and no key."""
    reply = await world.send("GET", "docs", secret="")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert b"<script" not in reply.body
    assert re.findall(rb"(?:src|href)=\"([^\"]*)", reply.body) == [b"openapi.json"]
    for path in document()["paths"]:
        assert path.replace("&", "&amp;").encode() in reply.body
    told = await world.send("GET", "openapi.json", secret="")
    assert told.json["openapi"] == "3.1.0"
    assert told.json["servers"] == [{"url": "https://gateway.example"}], "as the caller reaches it"
