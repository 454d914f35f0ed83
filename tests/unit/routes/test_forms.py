"""Forms: whatever is in them, they are read in proportion to what an honest one can hold."""

import asyncio
import time
import tracemalloc
from collections.abc import Callable

import pytest

from shared.errors import GatewayError, InvalidRequest, TooLarge
from shared.routes import forms
from shared.routes.calls import pieces
from shared.routes.forms import MOST_PARTS


def read_form(body: bytes, content_type: str, size: int = 64 * 1024) -> list[tuple[str, forms.Value]]:
    """The form whose body comes in pieces of this size."""
    sent = pieces(*(body[at : at + size] for at in range(0, len(body), size)))
    return asyncio.run(forms.read_form(sent, content_type))


MULTIPART = "multipart/form-data; boundary=edge"
URLENCODED = "application/x-www-form-urlencoded"
MOST = 32 * 1024 * 1024
PART = b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'


Made = Callable[[], bytes]


def filled(unit: bytes, start: bytes = b"", end: bytes = b"") -> Made:
    """A body of 32 MiB made of one unit, once it is asked for."""
    return lambda: start + unit * ((MOST - len(start) - len(end)) // len(unit)) + end


def short(body: bytes) -> Made:
    return lambda: body


FILE = b'--edge\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
END = b"\r\n--edge--\r\n"


@pytest.mark.parametrize(
    ("made", "content_type"),
    [
        (filled(PART, end=b"--edge--"), MULTIPART),
        (filled(b"--edge\r\n\r\n\r\n"), MULTIPART),
        (filled(b"\r\n--edge"), MULTIPART),
        (filled(b"\r", FILE, END), MULTIPART),
        (filled(b"\r\n--edg", FILE, END), MULTIPART),
        (filled(b"A: b\r\n", b'--edge\r\nContent-Disposition: form-data; name="a"\r\n', b"\r\n\r\n" + END), MULTIPART),
        (filled(b"a=1&"), URLENCODED),
        (filled(b"&"), URLENCODED),
        (filled(b"%41", b"a="), URLENCODED),
        (
            short((b"--edge\r\nContent-Disposition: form-data; " + b'"";' * 2_600 + b"\r\n\r\nx\r\n") * 99 + b"--edge--"),
            MULTIPART,
        ),
        (short(PART + b"--edge--"), f"{MULTIPART}{';' * 60_000}"),
        (short(b"--edge\r\nContent-Disposition: form-data; name*" + b"1" * 5_000 + b"=x\r\n\r\nx\r\n--edge--"), MULTIPART),
        (short(PART + b"--edge--"), f"multipart/form-data; boundary*{'1' * 5_000}=edge"),
    ],
    ids=[
        *("tiny parts", "empty parts", "boundaries", "line ends", "near boundaries", "headers", "pairs", "separators"),
        *("escapes", "quotes", "semicolons", "a long number", "a boundary with a long number"),
    ],
)
def test_the_worst_form_costs_little_time_and_no_memory_of_its_own(made: Made, content_type: str) -> None:
    """Of 32 MiB, in whichever way they are filled: the most that is kept is a file."""
    body = made()
    tracemalloc.start()
    before = time.thread_time()
    try:
        read_form(body, content_type)
    except GatewayError as error:
        assert error.status in (400, 413)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.thread_time() - before < 1.0
    assert peak < 3 * MOST


def test_as_many_parts_as_allowed_are_read_and_one_more_is_not() -> None:
    """The limit is far above what all parameters together need."""
    assert len(read_form(PART * MOST_PARTS + b"--edge--\r\n", MULTIPART)) == MOST_PARTS
    with pytest.raises(TooLarge):
        read_form(PART * (MOST_PARTS + 1) + b"--edge--\r\n", MULTIPART)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_file_is_bytes_and_a_text_is_text(size: int) -> None:
    """Told apart by the file's name; quotes, spaces and other alphabets are kept."""
    body = (
        'preamble\r\n--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nEin Käfer 🪲\r\n\r\n--edg\r\n'
        "--edge\r\ncontent-disposition: FORM-DATA; filename=c.png; name=input_reference\r\n"
        "Content-Type: image/png\r\n\r\n\0\r\n\r\n--edge--\r\nepilogue"
    ).encode()
    read = read_form(body, 'Multipart/Form-Data; charset=utf-8; boundary="edge"', size)
    assert read == [("prompt", "Ein Käfer 🪲\r\n\r\n--edg"), ("input_reference", b"\0\r\n")]


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"--edge", PART, PART[:30], PART + b"--other--", b"--edge\r\nno headers\r\n--edge--"],
)
def test_what_is_no_whole_form_is_refused(body: bytes) -> None:
    """Nothing is guessed of a form that was cut short."""
    with pytest.raises(InvalidRequest) as raised:
        read_form(body, MULTIPART)
    assert raised.value.code == "invalid_form"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"{MULTIPART}{'x' * 300}"])
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    """Or with one that is longer than any may be."""
    with pytest.raises(InvalidRequest):
        read_form(PART + b"--edge--", content_type)
