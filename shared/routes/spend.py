"""What videos have cost: one line each, or sums by day, key, user, tag or model."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from shared.accounts.keys import Keys
from shared.accounts.spend_lines import SpendLine, SpendLines
from shared.config.catalog import MICROS
from shared.errors import InvalidRequest
from shared.media.requests import refuse_unknown_query
from shared.media.video import MASTER_OWNER, Video, id_bound
from shared.storage.merging import merged
from shared.storage.video_store import VideoStore

MOST_ROWS = 1000  # of a page
MOST_PAGES = 1_000_000
_READ_AHEAD = 50  # rows in memory, of each key or of all together
_AT_ONCE = 16  # reads under way at the same moment
_LONGEST_REPORT = timedelta(days=366)
_LONGEST_NUMBER = 9  # digits
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)  # far from the limits of `date`

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # some programs fold the wide ones
FILTERS = ("api_key", "key", "user", "user_id", "tag", "model", "start_date", "end_date")
_T = TypeVar("_T")
GROUPS = ("day", "key", "user", "tag", "model")
_OTHER_GROUPS = {"api_key": "key", "customer": "user", "tags": "tag", "models": "model"}


class Filter(msgspec.Struct, frozen=True):
    """Which videos to report: of one key or all, of a user, a tag, a model, created from day
    `start` to day `end` (UTC, both included).
    """

    key_id: str | None = None
    user: str | None = None
    tag: str | None = None
    model: str | None = None
    start: date | None = None
    end: date | None = None

    def takes(self, line: SpendLine) -> bool:
        return (
            (self.user is None or line.user == self.user)
            and (self.model is None or line.model == self.model)
            and (self.tag is None or self.tag in line.tag_list)
        )


class Spend(msgspec.Struct, frozen=True):
    """Reads what videos have cost, newest first."""

    videos: VideoStore
    lines: SpendLines
    keys: Keys
    log_prompts: bool

    async def logs(self, wanted: Filter, page: int, size: int) -> tuple[list[dict[str, Any]], bool]:
        """One page of lines, newest first, and whether there is another. Reads the rows of this
        page and all before it, and this page's videos.
        """
        found: list[tuple[SpendLine, Video | None]] = []
        skip = (page - 1) * size
        async for line, video in self._lines(wanted, page=page * size + 1):
            if skip > 0:
                skip -= 1
            else:
                found.append((line, video))
            if len(found) > size:
                break
        shown = found[:size]
        videos = await _at_once([self._video(line, video) for line, video in shown])
        return [self._line(line, video) for (line, _), video in zip(shown, videos, strict=True) if video], len(found) > size

    async def report(self, wanted: Filter, group: str) -> list[dict[str, Any]]:
        """One line per day, key, user, tag or model: numbers of videos by how they ended, seconds
        made, dollars spent and reserved. Reads one row per video of the days in question.
        """
        sums: dict[str, dict[str, Any]] = {}
        async for line, _ in self._lines(wanted):
            for name in _names(group, line):
                total = sums.setdefault(name, {group: name, **_named(group, line), **dict.fromkeys(_COUNTS, 0)})
                total["videos"] += 1
                total[line.status] += 1
                total["seconds"] += line.seconds if line.status == "completed" else 0
                total["spend"] += line.spent
                total["reserved"] += line.reserved
        ordered = sorted(sums.values(), key=lambda total: str(total[group]))
        return [{**total, "spend": total["spend"] / MICROS, "reserved": total["reserved"] / MICROS} for total in ordered]

    async def summary(self, wanted: Filter) -> list[dict[str, Any]]:
        """One object per day, oldest first, in LiteLLM's shape: its spend in dollars, by user, by
        model, and under each key's id. Reads a row per video of the days.
        """
        days: dict[str, dict[str, Any]] = {}
        async for line, _ in self._lines(wanted):
            day = line.day.isoformat()
            sums = days.setdefault(day, {"startTime": day, "spend": 0, "users": {}, "models": {}})
            for totals, name in (
                (sums, "spend"),
                (sums["users"], line.user or ""),
                (sums["models"], line.model),
                (sums, line.owner),
            ):
                totals[name] = totals.get(name, 0) + line.spent
        return [_in_dollars(days[day]) for day in sorted(days)]

    async def _lines(self, wanted: Filter, page: int | None = None) -> AsyncIterator[tuple[SpendLine, Video | None]]:
        """The lines that match the filter, each with its video if that had to be read."""
        after = id_bound(_midnight(wanted.end + timedelta(days=1))) if wanted.end else None
        before = id_bound(_midnight(wanted.start)) if wanted.start else None
        if wanted.key_id is not None:
            source = self._of_keys([wanted.key_id], after, before, page)
        elif await self.videos.indexed():
            source = self._of_all(after, before, page)
        else:  # videos of an earlier version have no lines yet
            key_ids = [key_id async for key_id, _ in self.keys.all()]
            source = self._of_keys([*key_ids, MASTER_OWNER], after, before, _READ_AHEAD)
        async for line, video in source:
            if wanted.takes(line):
                yield line, video

    async def _of_all(
        self, after: str | None, before: str | None, page: int | None
    ) -> AsyncIterator[tuple[SpendLine, Video | None]]:
        """The lines of all keys. A video that has not ended is read itself; there are few of these,
        read 16 at once.
        """
        batch: list[tuple[str, SpendLine | None]] = []
        async for each in self.lines.between(after=after, before=before, page=page):
            batch.append(each)
            if len(batch) == _READ_AHEAD:
                for read in await self._read(batch):
                    yield read
                batch = []
        for read in await self._read(batch):
            yield read

    async def _read(self, batch: list[tuple[str, SpendLine | None]]) -> list[tuple[SpendLine, Video | None]]:
        """The lines of a batch. A request that was not admitted has none."""
        entries = iter(await _at_once([self.videos.find(video_id) for video_id, line in batch if line is None]))
        lines: list[tuple[SpendLine, Video | None]] = []
        for _, line in batch:
            entry = next(entries) if line is None else None
            if line is not None:
                lines.append((line, None))
            elif entry is not None:
                lines.append((SpendLine.of(entry.video), entry.video))
        return lines

    async def _of_keys(
        self, key_ids: list[str], after: str | None, before: str | None, page: int | None
    ) -> AsyncIterator[tuple[SpendLine, Video | None]]:
        """The lines of these keys, merged by time, with a few rows of each key in memory."""
        reads = [self.videos.of(key_id, after=after, before=before, page=page) for key_id in key_ids]
        async for video in merged(reads, lambda video: video.id):
            yield SpendLine.of(video), video

    async def _video(self, line: SpendLine, video: Video | None) -> Video | None:
        entry = await self.videos.find(line.id) if video is None else None
        return video or (entry.video if entry else None)

    def _line(self, line: SpendLine, video: Video) -> dict[str, Any]:
        prompt = video.prompt if self.log_prompts else None
        return {
            "request_id": video.id,
            "video_id": video.id,
            "call_type": "avideo_generation",
            "api_key": video.owner,
            "key_alias": line.alias,
            "model": video.model,
            "status": video.status,
            "settled": video.finished,
            "spend": video.spent / MICROS,
            "reserved": video.reserved / MICROS,
            "seconds": video.seconds,
            "size": video.size,
            "user": line.user,
            "request_tags": line.tag_list,
            "metadata": json.loads(video.metadata) if video.metadata else None,
            "prompt": prompt,
            "error_code": video.error_code,
            "startTime": _time(video.created_at),
            "endTime": _time(video.finished_at),
        }


_COUNTS = ("videos", "completed", "failed", "running", "seconds", "spend", "reserved")


def check_query(query: Mapping[str, str], also: Iterable[str]) -> None:
    """Raises InvalidRequest for an unknown or an empty filter: ignoring it would show videos that
    were not asked for. `also` names the route's own parameters.
    """
    refuse_unknown_query(query, (*FILTERS, *also, "format"))
    for name in FILTERS:
        if query.get(name) == "":
            raise InvalidRequest(f"`{name}` is empty: leave it out, or say which.", param=name)


def parse_flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is true or false; absent is false. Raises InvalidRequest."""
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise InvalidRequest(f"`{name}` must be true or false.", param=name)
    return value == "true"


def parse_limit(query: Mapping[str, str], most: int) -> int:
    """`limit`, by default 100. Raises InvalidRequest."""
    return _whole(query, "limit", 100, most)


def parse_group(query: Mapping[str, str]) -> str:
    """`group_by`, by our names or LiteLLM's. Raises InvalidRequest."""
    given = query.get("group_by", "day")
    group = _OTHER_GROUPS.get(given, given)
    if group not in GROUPS:
        raise InvalidRequest(f"`group_by` must be one of {', '.join(GROUPS)}.", param="group_by")
    return group


def parse_page(query: Mapping[str, str], size: str = "page_size", rows: int = 50) -> tuple[int, int]:
    """The number of the page, and of rows on a page. `size` is the name of the parameter for the
    latter, which is `rows` without it. Raises InvalidRequest.
    """
    return _whole(query, "page", 1, MOST_PAGES), _whole(query, size, rows, MOST_ROWS)


def parse_days(query: Mapping[str, str], today: date, *, default_days: int | None = None) -> tuple[date | None, date | None]:
    """`start_date` and `end_date` as YYYY-MM-DD, both included. Raises InvalidRequest."""
    start, end = _day(query, "start_date"), _day(query, "end_date")
    if default_days is not None:
        end = end or today
        start = start or end - timedelta(days=default_days)
    if start and end and not timedelta(0) <= end - start <= _LONGEST_REPORT:
        raise InvalidRequest("`start_date` must lie before `end_date`, by at most 366 days.", param="start_date")
    return start, end


def as_csv(lines: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bytes:
    """The lines as CSV (RFC 4180). Text that a spreadsheet would run as a formula gets an
    apostrophe in front.
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
    return (group, *(("key_alias",) if group == "key" else ()), *_COUNTS)


def _names(group: str, line: SpendLine) -> list[str]:
    match group:
        case "day":
            return [line.day.isoformat()]
        case "key":
            return [line.owner]
        case "user":
            return [line.user or ""]
        case "tag":
            return line.tag_list
    return [line.model]


def _named(group: str, line: SpendLine) -> dict[str, str | None]:
    """For a sum by key, the key's alias as of its newest video in the report."""
    return {"key_alias": line.alias} if group == "key" else {}


def _in_dollars(sums: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _in_dollars(value) if isinstance(value, dict) else value / MICROS if isinstance(value, int) else value
        for name, value in sums.items()
    }


async def _at_once(reads: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of many reads, `_AT_ONCE` of them running at the same time."""
    results: list[_T] = []
    for first in range(0, len(reads), _AT_ONCE):
        results += await asyncio.gather(*reads[first : first + _AT_ONCE])
    return results


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
