"""An entity group transaction: several writes in one request, in the form of e-mails in an e-mail
(https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions).
"""

import re
import secrets
from collections.abc import Sequence

from shared.storage.table_requests import DIALECT, Answer, Request, Unreadable, header_lines

_LINE = "\r\n"
_HEAD_ENDS = b"\r\n\r\n"
_PART = f"content-type: application/http{_LINE}content-transfer-encoding: binary{_LINE * 2}"
_BOUNDARY = re.compile(rb'boundary="?([^\s";]+)', re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})\b")


def batch(writes: Sequence[Request], address: str) -> Request:
    """One request that does all of these or none. `address` is the account's, with which each names
    its row.

    A boundary that nobody can know beforehand: no value that a caller sends ends a part.
    """
    outer, inner = (f"{name}_{secrets.token_hex(16)}" for name in ("batch", "changeset"))
    head = f"--{outer}{_LINE}content-type: multipart/mixed; boundary={inner}{_LINE * 2}"
    parts = [b"--%b\r\n%b%b\r\n" % (inner.encode(), _PART.encode(), _written(write, address)) for write in writes]
    end = f"--{inner}--{_LINE}--{outer}--{_LINE}"
    headers = DIALECT | {"content-type": f"multipart/mixed; boundary={outer}"}
    return Request("POST", "/$batch", headers=headers, body=head.encode() + b"".join(parts) + end.encode())


def answers(answer: Answer, count: int) -> list[Answer]:
    """What was answered to each of `count` writes; where one failed, and so all, to that one alone.

    Raises Unreadable.
    """
    outer = _boundary(b"content-type: " + answer.headers.get("content-type", "").encode())
    changesets = _parts(answer.body, outer)
    if len(changesets) != 1:
        raise Unreadable(f"answers to {len(changesets)} transactions")
    head, _, body = changesets[0].partition(_HEAD_ENDS)
    found = [_read(part) for part in _parts(body, _boundary(head))]
    if len(found) != (count if all(each.is_success for each in found) else 1):
        raise Unreadable(f"{len(found)} answers to {count} writes")
    return found


def _written(write: Request, address: str) -> bytes:
    return f"{write.method} {address}{write.path} HTTP/1.1{_LINE}{header_lines(write.headers)}{_LINE}".encode() + write.body


def _boundary(head: bytes) -> bytes:
    if (found := _BOUNDARY.search(head)) is None:
        raise Unreadable("an answer without a boundary")
    return b"--" + found[1]


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """What stands between the lines of a boundary. Raises Unreadable where its last line is
    missing, and with it the end.
    """
    before, *parts = (b"\r\n" + body).split(b"\r\n" + boundary)
    if before.strip() or not parts or not parts[-1].startswith(b"--"):
        raise Unreadable("an answer that does not end where it should")
    return [part.removeprefix(b"\r\n") for part in parts[:-1]]


def _read(part: bytes) -> Answer:
    """An HTTP answer inside a part, below the part's own head."""
    _, _, told = part.partition(_HEAD_ENDS)
    head, _, body = told.partition(_HEAD_ENDS)
    if (status := _STATUS.match(head)) is None:
        raise Unreadable("a part without a status")
    named = (line.partition(":") for line in head.decode("latin-1").split(_LINE)[1:])
    return Answer(int(status[1]), {name.strip().lower(): value.strip() for name, _, value in named}, body)
