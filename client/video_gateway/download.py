"""Downloads into memory, or in pieces into a file: resumed after a cut, whole or not at all."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

from video_gateway.exceptions import IncompleteDownload

_PIECE = 1024 * 1024  # bytes in memory at a time
_TRIES = 5  # in a row without a single new byte


def content(client: OpenAI, video_id: str, variant: str | None, sent: Mapping[str, Any]) -> bytes:
    answer = client.videos.download_content(video_id, **_asked(variant), **sent)
    return _whole(answer.read(), answer.response.headers)


async def content_async(client: AsyncOpenAI, video_id: str, variant: str | None, sent: Mapping[str, Any]) -> bytes:
    answer = await client.videos.download_content(video_id, **_asked(variant), **sent)
    return _whole(await answer.aread(), answer.response.headers)


def _asked(variant: str | None) -> dict[str, Any]:
    return {} if variant is None else {"variant": variant}


def _whole(data: bytes, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length")
    if length is not None and "content-encoding" not in headers and len(data) != int(length):
        raise IncompleteDownload(f"{len(data)} of {length} bytes arrived.")
    return data


@dataclass
class _Progress:
    """How much of a file is there. `length` is None until an answer has told it."""

    part: Path
    length: int | None = None
    fruitless: int = 0
    mark: str | None = None  # the ETag of the first answer

    @property
    def there(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def done(self) -> bool:
        return self.length is not None and self.there >= self.length

    def headers(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """What the next request sends: only the rest, and only of the same bytes."""
        rest = {"Range": f"bytes={self.there}-"} if self.there else {}
        if rest and self.mark:
            rest["If-Range"] = self.mark
        return {**sent, "extra_headers": {**rest, **sent.get("extra_headers", {})}}

    def begin(self, headers: Mapping[str, str], status: int) -> str:
        """The mode to open the part in: a server that sends the whole again starts it anew."""
        self.mark = headers.get("etag") or self.mark
        if status == 206:
            self.length = int(headers["content-range"].rpartition("/")[2])
            return "ab"
        length = headers.get("content-length")
        self.length = int(length) if length and "content-encoding" not in headers else None
        return "wb"

    def cut(self, before: int, error: Exception) -> None:
        """Note that a try ended early. Raises IncompleteDownload after five without a new byte."""
        self.fruitless = 0 if self.there > before else self.fruitless + 1
        if self.fruitless >= _TRIES:
            raise IncompleteDownload(f"{self.there} of {self.length} bytes arrived; they are in {self.part}.") from error

    def keep(self, file: Path) -> None:
        if self.length is not None and self.there != self.length:
            raise IncompleteDownload(f"{self.there} of {self.length} bytes arrived; they are in {self.part}.")
        self.part.replace(file)


def _cuts() -> tuple[type[Exception], ...]:
    """What a broken connection raises while a body is read, by whichever HTTP library is there."""
    kinds: list[type[Exception]] = [openai.APIConnectionError]
    for name in ("httpx2", "httpx"):
        try:
            kinds.append(__import__(name).TransportError)
        except ImportError:
            continue
    return tuple(kinds)


def save(client: OpenAI, video_id: str, variant: str | None, sent: Mapping[str, Any], file: Path) -> None:
    """Write the content to `file`, whole or not at all. Until then it is in `file`.part."""
    progress = _Progress(file.with_name(f"{file.name}.part"))
    progress.part.unlink(missing_ok=True)
    while not progress.done:
        before = progress.there
        try:
            streamed = client.videos.with_streaming_response.download_content(
                video_id, **_asked(variant), **progress.headers(sent)
            )
            with streamed as answer, progress.part.open(progress.begin(answer.headers, answer.status_code)) as part:
                for piece in answer.iter_bytes(_PIECE):
                    part.write(piece)
            if progress.length is None:
                break
        except _cuts() as error:
            progress.cut(before, error)
    progress.keep(file)


async def save_async(client: AsyncOpenAI, video_id: str, variant: str | None, sent: Mapping[str, Any], file: Path) -> None:
    """`save`, awaited; files are written in threads."""
    progress = _Progress(file.with_name(f"{file.name}.part"))
    progress.part.unlink(missing_ok=True)
    while not progress.done:
        before = progress.there
        try:
            streamed = client.videos.with_streaming_response.download_content(
                video_id, **_asked(variant), **progress.headers(sent)
            )
            async with streamed as answer:
                with progress.part.open(progress.begin(answer.headers, answer.status_code)) as part:
                    async for piece in answer.iter_bytes(_PIECE):
                        await asyncio.to_thread(part.write, piece)
            if progress.length is None:
                break
        except _cuts() as error:
            progress.cut(before, error)
    progress.keep(file)
