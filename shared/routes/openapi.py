"""The gateway's routes as an OpenAPI 3.1 document, and as a page to read.

Paths and methods are derived from the table of routes, summaries from the handlers' docstrings,
fields, limits and choices from the code that checks requests. The contents of answers are written
here, and tests compare them with real answers.
"""

import base64
import hashlib
import html
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from shared.config.version import VERSION
from shared.events.webhooks.payload import EVENT_TYPES
from shared.media.reference_image import Fit
from shared.media.requests import CREATE_FIELDS, LIST_PARAMETERS, LONGEST_PROMPT, LONGEST_USER, MOST_LISTED
from shared.media.video import Status
from shared.routes.calls import Answer, Handler
from shared.routes.operator import LIST_KEYS_PARAMETERS
from shared.routes.spend import FILTERS, GROUPS, MOST_PAGES, MOST_ROWS
from shared.storage.blobs import MEDIA_TYPES

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_DOLLARS: Schema = {"type": "number", "minimum": 0}
_TIME: Schema = {"type": ["integer", "null"], "description": "unix seconds"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _choice(values: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(values)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Schema], required: Iterable[str] = (), *, closed: bool = False) -> Schema:
    closing = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": dict(properties), "required": list(required), **closing}


_FIELDS: Mapping[str, Schema] = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": LONGEST_PROMPT},
    "model": _or_null(_TEXT),
    "seconds": {"type": ["string", "integer", "null"], "description": "one of the model's lengths"},
    "size": {"type": ["string", "null"], "description": "WIDTHxHEIGHT, one of the model's sizes"},
    "input_reference": {
        "description": "an image: a file part, a data URL, or an https:// address on an allowed host",
        "anyOf": [_TEXT, _object({"image_url": _TEXT}, ["image_url"], closed=True), {"type": "null"}],
    },
    "reference_fit": _or_null(_choice(get_args(Fit))),
    "user": {"type": ["string", "null"], "maxLength": LONGEST_USER},
    "metadata": {"type": ["object", "null"], "additionalProperties": _TEXT},
    "callback_url": {"type": ["string", "null"], "description": "https://, told of the video's end"},
    "guardrails": {"type": ["array", "null"], "items": _TEXT, "description": "names of guardrails to run as well"},
}
_KINDS: Mapping[str, tuple[str, ...]] = {
    "string": ("webhook_url", "key_alias", "user_id", "team_id", "organization_id", "budget_duration", "duration"),
    "number": ("max_budget", "soft_budget"),
    "integer": ("rpm_limit", "tpm_limit", "max_parallel_requests", "max_seconds_per_video", "seconds_limit", "priority"),
    "array": ("tags", "models", "callback_hosts"),
    "object": ("metadata", "aliases", "permissions"),
    "boolean": ("blocked",),
}
SETTINGS: Mapping[str, Schema] = {name: {"type": [kind, "null"]} for kind, names in _KINDS.items() for name in names}

_CREATE = _object({name: _FIELDS.get(name, {}) for name in CREATE_FIELDS}, ["prompt"])
_REMIX = _object({name: schema for name, schema in _FIELDS.items() if name != "model"}, ["prompt"], closed=True)

_VIDEO = _object(
    {
        "id": _TEXT,
        "object": {"const": "video"},
        "model": _TEXT,
        "status": _choice(get_args(Status)),
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": _TIME,
        "completed_at": _TIME,
        "expires_at": _TIME,
        "prompt": _TEXT,
        "size": _TEXT,
        "seconds": _TEXT,
        "remixed_from_video_id": _or_null(_TEXT),
        "error": _or_null(
            _object({"code": _or_null(_TEXT), "message": _or_null(_TEXT), "upstream_request_id": _or_null(_TEXT)})
        ),
        "queue": _or_null(_object({"position": {"type": "integer"}, "estimated_start": _TIME})),
        "progress_estimated": {"type": "boolean"},
        "parameters": _or_null(_OBJECT),
        "upstream": _or_null(_OBJECT),
        "fallback_from": _or_null(_TEXT),
        "guardrails": _or_null(_list_of(_object({"guardrail": _TEXT, "result": _choice(("passed", "unavailable"))}))),
        "remix": _or_null({"const": "recreated"}),
        "usage": _object({"duration_seconds": {"type": "number"}}, ["duration_seconds"]),
        "user": _or_null(_TEXT),
        "metadata": _or_null(_OBJECT),
        "request_id": _or_null(_TEXT),
    },
    ["id", "object", "model", "status", "progress", "created_at", "seconds", "size"],
)
_ERROR = _object(
    {"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _TEXT, "provider_specific_fields": _OBJECT},
    ["message", "type", "param", "code"],
)
_MODEL = {"id": _TEXT, "object": {"const": "model"}, "created": _TIME, "owned_by": _TEXT, "mode": _TEXT}
_SCHEMAS: Mapping[str, Schema] = {
    "Video": _VIDEO,
    "Error": _object({"error": _ERROR}, ["error"]),
    "Model": _object(_MODEL, list(_MODEL)),
    "WebhookEndpoint": _object(
        {
            "id": _TEXT,
            "object": {"const": "webhook_endpoint"},
            "name": _TEXT,
            "url": _TEXT,
            "event_types": _list_of(_TEXT),
            "created_at": {"type": "integer"},
            "updated_at": {"type": "integer"},
            "signing_secret_hint": _TEXT,
            "disabled": _or_null(_TEXT),
        },
        ["id", "object", "name", "url", "event_types", "created_at"],
    ),
    "Key": _object({"key_id": _TEXT, "spend": _DOLLARS, "reserved": _DOLLARS, **SETTINGS}, ["key_id", "spend"]),
}
_KEY: Schema = {"type": "string", "description": "a key's secret, its token (SHA-256) or its id"}
_NAMED = {"key": _KEY}


def _page(items: Schema) -> Schema:
    return _object({"object": {"const": "list"}, "data": _list_of(items)}, ["object", "data"])


class _Facts(msgspec.Struct, frozen=True):
    """What the table of routes does not know of an endpoint: parameters of its query, its body and
    its answer. `media` are the types of an answer that is not JSON.
    """

    answer: Schema = msgspec.field(default_factory=lambda: _OBJECT)
    body: Schema | None = None
    query: Mapping[str, Schema] = msgspec.field(default_factory=dict)
    media: tuple[str, ...] = ()
    form: bool = False
    optional: bool = False
    open: bool = False


_LIST_QUERY: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": MOST_LISTED},
    "order": _choice(("asc", "desc")),
    "status": _choice(get_args(Status)),
}
_SPEND_QUERY = {name: {**_TEXT, "minLength": 1} for name in FILTERS}
_LIST_KEYS_QUERY: Mapping[str, Schema] = {
    **dict.fromkeys(LIST_KEYS_PARAMETERS, _TEXT),
    "status": _choice(("active", "expired", "revoked", "deleted")),
    "page": {"type": "integer", "minimum": 1, "maximum": MOST_PAGES},
    "size": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
    "return_full_object": _FLAG,
}
_NEW_KEY: Mapping[str, Schema] = {"key": {"type": "string", "description": "a secret of your own, sk-…"}}
_ISSUED: Schema = {"allOf": [_ref("Key"), _object({"key": _TEXT, "token": _TEXT, "webhook_secret": _TEXT}, ["key", "token"])]}
_ENDPOINT_FIELDS: Mapping[str, Schema] = {
    "name": {"type": "string", "minLength": 1, "maxLength": 256},
    "url": {"type": "string", "format": "uri"},
    "event_types": _list_of(_choice(EVENT_TYPES)),
}
_WITH_SECRET: Schema = {"allOf": [_ref("WebhookEndpoint"), _object({"signing_secret": _TEXT}, ["signing_secret"])]}
_REFUSED = _Facts(body=_OBJECT, optional=True)

_CONTENT = _Facts(
    query={"variant": _choice(MEDIA_TYPES), "delivery": _choice(("proxy", "redirect"))}, media=tuple(MEDIA_TYPES.values())
)
_STUDIO = _Facts(media=("text/html", "text/javascript", "text/css", "image/svg+xml"), open=True)
_FACTS: Mapping[str, _Facts] = {
    "POST videos": _Facts(_ref("Video"), _CREATE, form=True),
    "POST videos/generations": _Facts(_ref("Video"), _CREATE, form=True),
    "GET videos": _Facts(_page(_ref("Video")), query={name: _LIST_QUERY.get(name, _TEXT) for name in LIST_PARAMETERS}),
    "GET videos/models": _Facts(_page(_ref("Model"))),
    "GET videos/counts": _Facts(
        _object(
            {"object": {"const": "video.counts"}, **dict.fromkeys(get_args(Status), _COUNT), "has_more": _FLAG},
            get_args(Status),
        )
    ),
    "POST videos/edits": _REFUSED,
    "POST videos/extensions": _REFUSED,
    "POST videos/characters": _REFUSED,
    "GET videos/characters/{character_id}": _Facts(),
    "GET videos/{video_id}": _Facts(_ref("Video"), query={"wait": {"type": "number", "minimum": 0, "maximum": 999_999}}),
    "GET videos/{video_id}/events": _Facts(media=("text/event-stream",)),
    "GET videos/events": _Facts(media=("text/event-stream",)),
    "DELETE videos/{video_id}": _Facts(_object({"id": _TEXT, "object": {"const": "video.deleted"}, "deleted": _FLAG}, ["id"])),
    "POST videos/{video_id}/remix": _Facts(_ref("Video"), _REMIX, form=True),
    "GET videos/{video_id}/content": _CONTENT,
    "HEAD videos/{video_id}/content": _CONTENT,
    "GET models": _Facts(_page(_ref("Model"))),
    "GET models/{name}": _Facts(_ref("Model")),
    "GET model/info": _Facts(_object({"data": _list_of(_OBJECT)}, ["data"])),
    "POST key/generate": _Facts(_ISSUED, _object({**SETTINGS, **_NEW_KEY})),
    "POST key/update": _Facts(_ref("Key"), _object({**SETTINGS, **_NAMED})),
    "POST key/delete": _Facts(_OBJECT, _object({"keys": _list_of(_KEY), "key_aliases": _list_of(_TEXT)})),
    "POST key/block": _Facts(_ref("Key"), _object(_NAMED, ["key"])),
    "POST key/unblock": _Facts(_ref("Key"), _object(_NAMED, ["key"])),
    "POST key/regenerate": _Facts(_ISSUED, _object({**SETTINGS, **_NAMED, "new_key": _TEXT})),
    "POST key/{key}/regenerate": _Facts(_ISSUED, _object({**SETTINGS, "new_key": _TEXT}), optional=True),
    "POST key/bulk_update": _Facts(_OBJECT, _object({"keys": _list_of(_object({**SETTINGS, **_NAMED}, ["key"]))}, ["keys"])),
    "POST key/health": _Facts(_object({"key": _TEXT}, ["key"])),
    "GET key/info": _Facts(_object({"key": _TEXT, "info": _ref("Key")}, ["key", "info"]), query=_NAMED),
    "GET key/list": _Facts(_object({"keys": _list_of({})}, ["keys"]), query=_LIST_KEYS_QUERY),
    "POST v2/key/info": _Facts(_OBJECT, _object({"keys": _list_of(_KEY)}, ["keys"])),
    "GET spend/logs": _Facts(_list_of(_OBJECT), query={**_SPEND_QUERY, "summarize": _FLAG}),
    "GET spend/report": _Facts(_list_of(_OBJECT), query={**_SPEND_QUERY, "group_by": _choice(GROUPS)}),
    "GET global/spend/report": _Facts(_list_of(_OBJECT), query={**_SPEND_QUERY, "group_by": _choice(GROUPS)}),
    "GET spend/keys": _Facts(_list_of(_ref("Key")), query={"limit": {"type": "integer", "minimum": 1}}),
    "GET global/spend/keys": _Facts(_list_of(_OBJECT), query={"limit": {"type": "integer", "minimum": 1}}),
    "GET spend/tags": _Facts(_list_of(_OBJECT), query=_SPEND_QUERY),
    "POST spend/calculate": _Facts(
        _object({"cost": _DOLLARS}, ["cost"]), _object({name: _FIELDS[name] for name in ("model", "seconds", "size")})
    ),
    "GET events/undelivered": _Facts(_page(_OBJECT), query={"destination": _TEXT}),
    "GET events/deliveries": _Facts(_page(_OBJECT)),
    "POST events/replay": _Facts(
        _object({"replayed": {"type": "integer"}, "has_more": _FLAG}), _object({"destination": _TEXT}), optional=True
    ),
    "GET webhook_endpoints": _Facts(_page(_ref("WebhookEndpoint")), query={"limit": _LIST_QUERY["limit"], "after": _TEXT}),
    "POST webhook_endpoints": _Facts(_WITH_SECRET, _object(_ENDPOINT_FIELDS, ["name", "url"], closed=True)),
    "GET webhook_endpoints/{webhook_endpoint_id}": _Facts(_ref("WebhookEndpoint")),
    "POST webhook_endpoints/{webhook_endpoint_id}": _Facts(_ref("WebhookEndpoint"), _object(_ENDPOINT_FIELDS, closed=True)),
    "DELETE webhook_endpoints/{webhook_endpoint_id}": _Facts(_object({"id": _TEXT, "deleted": _FLAG}, ["id"])),
    "POST webhook_endpoints/{webhook_endpoint_id}/rotate_secret": _Facts(
        _WITH_SECRET, _object({"keep_old_secret_active_for_24_hours": _FLAG}, closed=True), optional=True
    ),
    "POST webhook_endpoints/{webhook_endpoint_id}/test": _Facts(
        _object({"status_code": {"type": "integer"}, "success": {"const": True}}, ["status_code"]),
        _object({"event_type": _choice(EVENT_TYPES)}, ["event_type"], closed=True),
    ),
    "GET webhook_endpoints/{webhook_endpoint_id}/deliveries": _Facts(_page(_OBJECT)),
    "POST webhook_endpoints/{webhook_endpoint_id}/deliveries/{event_id}": _Facts(body=_OBJECT, optional=True),
    "GET webhook_event_types": _Facts(_object({"data": _list_of(_TEXT)}, ["data"])),
    "GET health": _Facts(open=True),
    "GET health/{probe}": _Facts({}, open=True),
    "GET openapi.json": _Facts(open=True),
    "GET docs": _Facts(media=("text/html",), open=True),
    **{f"{method} {path}": _STUDIO for path in ("studio", "studio/{name}") for method in ("GET", "HEAD")},
}


def document(endpoints: Iterable[tuple[str, str, Handler]]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints: method, path without prefix, handler."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in endpoints:
        facts = _FACTS[f"{method} {path}"]
        paths.setdefault(f"/{_shown(path)}", {})[method.lower()] = _operation(method, path, handler, facts)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Azure Video Gateway", "version": VERSION, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": dict(_SCHEMAS),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _shown(path: str) -> str:
    """The spelling that the pages use: OpenAI's paths with `/v1`."""
    return f"v1/{path}" if path.startswith(("videos", "models", "webhook_")) else path


def _operation(method: str, path: str, handler: Handler, facts: _Facts) -> dict[str, Any]:
    told = inspect.cleandoc(handler.__doc__ or handler.__name__.replace("_", " ").capitalize())
    parts = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"\{(\w+)\}", path)]
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in facts.query.items()]
    body = {} if facts.body is None else {"requestBody": _request_body(facts)}
    security: dict[str, Any] = {"security": []} if facts.open else {}
    return {
        "operationId": f"{method.lower()}_{re.sub(r'[^a-z0-9]+', '_', path.lower()).strip('_')}",
        "summary": re.split(r"[.:;]\s|\.$", " ".join(told.split()))[0],
        "description": told,
        "parameters": [*parts, *query],
        **body,
        **security,
        "responses": _responses(method, facts),
    }


def _request_body(facts: _Facts) -> dict[str, Any]:
    types = ("application/json", "multipart/form-data") if facts.form else ("application/json",)
    return {"required": not facts.optional, "content": {each: {"schema": facts.body} for each in types}}


def _responses(method: str, facts: _Facts) -> dict[str, Any]:
    error = {"description": "an error", "content": {"application/json": {"schema": _ref("Error")}}}
    if method == "HEAD":
        return {"200": {"description": "its length"}, "default": {"description": "an error, without a body"}}
    if not facts.media:
        return {"200": {"description": "done", "content": {"application/json": {"schema": facts.answer}}}, "default": error}
    content: dict[str, Schema] = {each: {} for each in facts.media}
    found = {"200": {"description": "the bytes", "content": content}, "default": error}
    if "video/mp4" in facts.media:
        found |= {"206": {"description": "a part of them", "content": content}, "302": {"description": "where they are"}}
    return found


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "h2{margin-top:2.5rem;font-size:1.1rem}code,h2{font-family:ui-monospace,monospace}"
    "table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-top-navigation-by-user-activation"
)


def page(told: Mapping[str, Any]) -> Answer:
    """The document as one page of HTML: no script, nothing from elsewhere."""
    sections = "".join(
        _section(method, path, operation) for path, methods in told["paths"].items() for method, operation in methods.items()
    )
    title = html.escape(f"{told['info']['title']} {told['info']['version']}")
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>Send a key as <code>Authorization: Bearer &lt;key&gt;</code>. The same for programs: "
        f'<a href="openapi.json">openapi.json</a>.</p>{sections}</html>'
    )
    headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    return Answer(text.encode(), headers=headers, media_type="text/html; charset=utf-8")


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    fields = [(each["name"], each["in"], each["schema"]) for each in operation["parameters"]]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields += [(name, "body", schema) for name, schema in content["schema"].get("properties", {}).items()]
        break
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{place}</td><td>{html.escape(_in_words(schema))}</td></tr>"
        for name, place, schema in fields
    )
    described = html.escape(operation["description"])
    return f"<h2>{method.upper()} {html.escape(path)}</h2><p>{described}</p><table>{rows}</table>"


def _in_words(schema: Schema) -> str:
    if "anyOf" in schema:
        return schema.get("description") or " or ".join(_in_words(each) for each in schema["anyOf"])
    kind = schema.get("type", "")
    told = " | ".join(schema["enum"]) if "enum" in schema else kind if isinstance(kind, str) else " or ".join(kind)
    return ", ".join(filter(None, (told, schema.get("description", ""))))
