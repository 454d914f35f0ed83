"""Reads the parts of a form from a body in memory.

The sender chooses the number of parts, and each costs more than its bytes. So they are counted
while they are found, and a form with too many is refused as a whole.
"""

from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from urllib.parse import parse_qsl

from shared.errors import InvalidRequest, TooLarge

MOST_PARTS = 100  # all parameters and all pairs of `metadata` are less than a third of it
_LONGEST_HEAD = 8 * 1024  # bytes of the headers of one part
_LONGEST_BOUNDARY = 200  # RFC 2046 allows 70

Value = str | bytes


def read_form(body: bytes, content_type: str) -> list[tuple[str, Value]]:
    """The names and values, in the order in which they were sent. A file's value is bytes.

    Raises InvalidRequest where the body is not a form, and TooLarge for more than MOST_PARTS.
    """
    if content_type.lower().startswith("multipart/form-data"):
        return [_part(piece) for piece in _pieces(body, _boundary(content_type))]
    if body.count(b"&") >= MOST_PARTS:
        raise _too_many()
    pairs = parse_qsl(_decoded(body), keep_blank_values=True)
    return [(name, value) for name, value in pairs]


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = (header.get_boundary() or "").encode(errors="replace")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise _unreadable("its content type names no boundary")
    return boundary


def _pieces(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """The bytes between the boundaries. Each piece begins with the line break after its
    boundary.
    """
    edge = b"\r\n--" + boundary
    start = _after(body, edge, 0) if not body.startswith(edge[2:]) else len(edge) - 2
    for _ in range(MOST_PARTS):
        if body.startswith(b"--", start):
            return
        end = _after(body, edge, start)
        yield body[start : end - len(edge)]
        start = end
    if not body.startswith(b"--", start):
        raise _too_many()


def _after(body: bytes, edge: bytes, start: int) -> int:
    found = body.find(edge, start)
    if found < 0:
        raise _unreadable("it ends before its last boundary")
    return found + len(edge)


def _part(piece: bytes) -> tuple[str, Value]:
    at = piece.find(b"\r\n\r\n", 0, _LONGEST_HEAD + 4)
    if at < 0:
        raise _unreadable("a part has no headers, or very long ones")
    head = message_from_string(_decoded(piece[:at]).lstrip())
    name, content = head.get_param("name", header="content-disposition"), piece[at + 4 :]
    is_file = head.get_param("filename", header="content-disposition") is not None
    return (name if isinstance(name, str) else ""), (content if is_file else _decoded(content))


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unreadable("its text is not UTF-8") from error


def _too_many() -> TooLarge:
    return TooLarge(f"The form has more than {MOST_PARTS} parts.", param="request_body")


def _unreadable(why: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {why}.", code="invalid_form", param="request_body")
