"""What videos have cost, for the operator; and for a key what its own have."""

from collections.abc import Mapping
from typing import Any

from shared.callers.key_settings import show
from shared.config.catalog import MICROS
from shared.errors import InvalidRequest, PermissionDenied
from shared.media.requests import parse_create, refuse_unknown_query
from shared.media.video import MASTER_OWNER
from shared.routes import spend
from shared.routes.calls import Answer, Call
from shared.routes.spend import Filter, Spend

_MOST_KEYS = 1000


async def spend_logs(call: Call) -> Answer:
    """One line per video, newest first. The header `x-has-more` says whether there is another page.
    With `summarize=true`, sums per day instead. A key sees its own videos.
    """
    await call.caller()
    spend.check_query(call.query, ("page", "page_size", "summarize"))
    page, size = spend.parse_page(call.query)
    if spend.parse_flag(call.query, "summarize"):
        return Answer(await _spend(call).summary(await _filter(call, default_days=30)))
    csv = _wants_csv(call)
    lines, more = await _spend(call).logs(await _filter(call), page, size)
    return _table(lines, spend.LOG_COLUMNS, {"x-has-more": "true" if more else "false"}, csv=csv)


async def spend_report(call: Call) -> Answer:
    """Sums by day, key, user, tag or model, of the last 30 days unless dates are given."""
    await call.operator()
    spend.check_query(call.query, ("group_by",))
    group, csv = spend.parse_group(call.query), _wants_csv(call)
    lines = await _spend(call).report(await _filter(call, default_days=30), group)
    return _table(lines, spend.report_columns(group), {}, csv=csv)


async def spend_tags(call: Call) -> Answer:
    """Sums by tag, of the last 30 days unless dates are given, in LiteLLM's shape. A key sees its
    own videos.
    """
    await call.caller()
    spend.check_query(call.query, ())
    sums = await _spend(call).report(await _filter(call, default_days=30), "tag")
    return Answer(
        [
            {"individual_request_tag": each["tag"], "log_count": each["videos"], "total_spend": each["spend"]}
            for each in sorted(sums, key=lambda each: -each["spend"])
        ]
    )


async def spend_keys(call: Call) -> Answer:
    """The keys as `/key/list` shows them, those that have spent most first."""
    await call.operator()
    refuse_unknown_query(call.query, ("limit",))
    return Answer((await _keys_by_spend(call))[: spend.parse_limit(call.query, _MOST_KEYS)])


async def global_spend_keys(call: Call) -> Answer:
    """What keys have spent, most first, in LiteLLM's shape."""
    await call.operator()
    refuse_unknown_query(call.query, ("limit",))
    shown = (await _keys_by_spend(call))[: spend.parse_limit(call.query, _MOST_KEYS)]
    names = ("key_alias", "key_name")
    return Answer(
        [{"api_key": each["token"], **{name: each[name] for name in names}, "total_spend": each["spend"]} for each in shown]
    )


async def _keys_by_spend(call: Call) -> list[dict[str, Any]]:
    now = call.gateway.clock.now()
    shown = [{"token": account.token, **show(key_id, account, now)} async for key_id, account in call.gateway.keys.all()]
    return sorted((each for each in shown if each["status"] != "deleted"), key=lambda each: -each["spend"])


async def calculate(call: Call) -> Answer:
    """What a video would cost at most, in dollars: `model`, `seconds`, `size` and parameters are as
    in a create. Nothing is made or reserved.
    """
    await call.caller()
    request = parse_create({"prompt": "x", **await call.fields()}, call.gateway.settings.catalog)
    return Answer({"cost": request.price / MICROS})


async def _filter(call: Call, *, default_days: int | None = None) -> Filter:
    """What the query asks for, as far as the caller may see it. Raises PermissionDenied if a key
    asks for another's videos.
    """
    caller, query = await call.caller(), call.query
    key = query.get("api_key") or query.get("key")
    model = query.get("model")
    known = call.gateway.settings.catalog.spelled(model) if model else None
    start, end = spend.parse_days(query, call.gateway.clock.now().date(), default_days=default_days)
    key_id = None if caller.master else caller.owner
    if key:
        master = key == MASTER_OWNER or call.gateway.keys.is_master(key)
        key_id = MASTER_OWNER if master else await call.gateway.keys.find(key)
    if not caller.master and key_id != caller.owner:
        raise PermissionDenied("A key may only see its own videos.", code="master_key_required", param="api_key")
    user = query.get("user_id") or query.get("user")
    return Filter(key_id, user, query.get("tag"), known.name if known else model, start, end)


def _spend(call: Call) -> Spend:
    return Spend(call.gateway.videos, call.gateway.lines, call.gateway.keys, call.gateway.settings.knobs.log_prompts)


def _wants_csv(call: Call) -> bool:
    """Whether to answer in CSV: with `?format=csv`, or if `Accept` begins with text/csv. Raises
    InvalidRequest.
    """
    wanted = call.query.get("format") or ("csv" if call.headers.get("accept", "").startswith("text/csv") else "json")
    if wanted not in ("csv", "json"):
        raise InvalidRequest("`format` must be json or csv.", param="format")
    return wanted == "csv"


def _table(lines: list[dict[str, Any]], columns: tuple[str, ...], headers: Mapping[str, str], *, csv: bool) -> Answer:
    if csv:
        return Answer(spend.as_csv(lines, columns), headers=headers, media_type="text/csv")
    return Answer(lines, headers=headers)
