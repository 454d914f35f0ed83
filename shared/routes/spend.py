"""What videos have cost: one line each, or added up by day, key, user, tag or model. Read from the
videos themselves.
"""

import csv
import heapq
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared.accounts.account import Account
from shared.accounts.keys import Keys
from shared.config.catalog import MICROS
from shared.errors import InvalidRequest
from shared.media.video import MASTER_OWNER, Video, id_bound
from shared.storage.video_store import VideoStore

_MOST_ROWS = 1000
_READ_AHEAD = 50  # rows of each key that are held while keys are merged by time
_LONGEST_REPORT = timedelta(days=366)
_LONGEST_NUMBER = 9  # digits
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)  # far from where calendars end

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide ones too: some programs fold them
_FILTERS = ("api_key", "key", "user", "user_id", "tag", "model", "start_date", "end_date")
GROUPS = ("day", "key", "user", "tag", "model")
_OTHER_GROUPS = {"api_key": "key", "customer": "user", "tags": "tag", "models": "model"}


@dataclass(frozen=True)
class Filter:
    """Which videos: of one key or all, of a user, a tag, a model, created on the days from `start`
    to `end` (UTC, both in).
    """

    key_id: str | None = None
    user: str | None = None
    tag: str | None = None
    model: str | None = None
    start: date | None = None
    end: date | None = None

    def takes(self, video: Video) -> bool:
        return (
            (self.user is None or user_of(video) == self.user)
            and (self.model is None or video.model == self.model)
            and (self.tag is None or self.tag in tags_of(video))
        )


@dataclass(frozen=True)
class Spend:
    """Reads videos across keys, newest first."""

    videos: VideoStore
    keys: Keys
    log_prompts: bool

    async def logs(self, wanted: Filter, page: int, size: int) -> tuple[list[dict[str, Any]], bool]:
        """One page of lines, newest first, and whether there are more."""
        lines: list[dict[str, Any]] = []
        skip = (page - 1) * size
        async for account, video in self._videos(wanted):
            if skip > 0:
                skip -= 1
            elif len(lines) == size:
                return lines, True
            else:
                lines.append(self._line(account, video))
        return lines, False

    async def report(self, wanted: Filter, group: str) -> list[dict[str, Any]]:
        """One line for each day, key, user, tag or model: videos, how they ended, seconds made,
        dollars spent and reserved.
        """
        sums: dict[str, dict[str, Any]] = {}
        async for account, video in self._videos(wanted):
            for name in _names(group, account, video):
                line = sums.setdefault(name, {group: name, **dict.fromkeys(_COUNTS, 0)})
                line["videos"] += 1
                line[video.status if video.finished else "running"] += 1
                line["seconds"] += video.seconds if video.status == "completed" else 0
                line["spend"] += video.spent
                line["reserved"] += video.reserved
        ordered = sorted(sums.values(), key=lambda line: str(line[group]))
        return [{**line, "spend": line["spend"] / MICROS, "reserved": line["reserved"] / MICROS} for line in ordered]

    async def _videos(self, wanted: Filter) -> AsyncIterator[tuple[Account, Video]]:
        """Of all keys together, merged by time; of each key only a few rows are held."""
        after = id_bound(_midnight(wanted.end + timedelta(days=1))) if wanted.end else None
        before = id_bound(_midnight(wanted.start)) if wanted.start else None
        readers = []
        async for key_id, account in self._accounts(wanted):
            readers.append((account, self.videos.of(key_id, after=after, before=before, page=_READ_AHEAD)))
        heads: list[tuple[str, int, Video]] = []
        for index, (_, reader) in enumerate(readers):
            async for video in reader:
                heads.append((video.id, index, video))
                break
        heapq.heapify(heads)
        while heads:
            _, index, video = heapq.heappop(heads)
            account, reader = readers[index]
            if wanted.takes(video):
                yield account, video
            async for following in reader:
                heapq.heappush(heads, (following.id, index, following))
                break

    async def _accounts(self, wanted: Filter) -> AsyncIterator[tuple[str, Account]]:
        async for key_id, account in self.keys.all():
            if wanted.key_id in (None, key_id):
                yield key_id, account
        if wanted.key_id in (None, MASTER_OWNER):
            yield MASTER_OWNER, Account(name="master")

    def _line(self, account: Account, video: Video) -> dict[str, Any]:
        prompt = video.prompt if self.log_prompts else None
        return {
            "request_id": video.id,
            "video_id": video.id,
            "call_type": "avideo_generation",
            "api_key": video.owner,
            "key_alias": account.alias,
            "model": video.model,
            "status": video.status,
            "settled": video.finished,
            "spend": video.spent / MICROS,
            "reserved": video.reserved / MICROS,
            "seconds": video.seconds,
            "size": video.size,
            "user": user_of(video),
            "request_tags": tags_of(video),
            "metadata": json.loads(video.metadata) if video.metadata else None,
            "prompt": prompt,
            "error_code": video.error_code,
            "startTime": _time(video.created_at),
            "endTime": _time(video.finished_at),
        }


_COUNTS = ("videos", "completed", "failed", "running", "seconds", "spend", "reserved")


def tags_of(video: Video) -> list[str]:
    tags: list[str] = json.loads(video.tags) if video.tags else []
    return tags


def check_query(query: Mapping[str, str], also: Iterable[str]) -> None:
    """Raises InvalidRequest for a filter that is unknown or empty: ignoring one would show what was
    not asked for. `also` are the route's own parameters.
    """
    known = (*_FILTERS, *also, "format", "api-version")
    for name, value in query.items():
        if name not in known:
            raise InvalidRequest(
                f"Unknown parameter '{name[:64]}': {', '.join(known)} are known.", code="unknown_parameter", param=name
            )
        if name in _FILTERS and not value:
            raise InvalidRequest(f"`{name}` is empty: leave it out, or say which.", param=name)


def user_of(video: Video) -> str | None:
    """Who a video is for: the request's `user`, else the key's `user_id`."""
    return video.user or video.key_user


def parse_group(query: Mapping[str, str]) -> str:
    """`group_by`, in our words or LiteLLM's. Raises InvalidRequest."""
    given = query.get("group_by", "day")
    group = _OTHER_GROUPS.get(given, given)
    if group not in GROUPS:
        raise InvalidRequest(f"`group_by` must be one of {', '.join(GROUPS)}.", param="group_by")
    return group


def parse_page(query: Mapping[str, str]) -> tuple[int, int]:
    """`page` and `page_size`. Raises InvalidRequest."""
    return _whole(query, "page", 1, 1_000_000), _whole(query, "page_size", 50, _MOST_ROWS)


def parse_days(query: Mapping[str, str], today: date, *, default_days: int | None = None) -> tuple[date | None, date | None]:
    """`start_date` and `end_date`, as YYYY-MM-DD, both in. Raises InvalidRequest."""
    start, end = _day(query, "start_date"), _day(query, "end_date")
    if default_days is not None:
        end = end or today
        start = start or end - timedelta(days=default_days)
    if start and end and not timedelta(0) <= end - start <= _LONGEST_REPORT:
        raise InvalidRequest("`start_date` must lie before `end_date`, by at most 366 days.", param="start_date")
    return start, end


def as_csv(lines: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bytes:
    """Lines as CSV (RFC 4180). Text that a spreadsheet would run as a formula is quoted with an
    apostrophe.
    """
    output = io.StringIO()
    writer = csv.DictWriter(output, list(columns))
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return output.getvalue().encode()


LOG_COLUMNS = (
    *("request_id", "video_id", "call_type", "api_key", "key_alias", "model", "status", "settled", "spend", "reserved"),
    *("seconds", "size", "user", "request_tags", "metadata", "prompt", "error_code", "startTime", "endTime"),
)


def report_columns(group: str) -> tuple[str, ...]:
    return (group, *_COUNTS)


def _names(group: str, account: Account, video: Video) -> list[str]:
    match group:
        case "day":
            return [video.created_at.astimezone(UTC).date().isoformat()]
        case "key":
            return [account.alias or video.owner]
        case "user":
            return [user_of(video) or ""]
        case "tag":
            return tags_of(video)
    return [video.model]


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_SIGNS) else value


def _whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_NUMBER or not 1 <= int(text) <= most:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {most}.", param=name)
    return int(text)


def _day(query: Mapping[str, str], name: str) -> date | None:
    text = query.get(name)
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"`{name}` must be a day such as 2026-11-22.", param=name) from error
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise InvalidRequest(f"`{name}` must lie between {_FIRST_DAY} and {_LAST_DAY}.", param=name)
    return day


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
