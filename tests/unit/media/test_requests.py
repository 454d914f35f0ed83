"""What callers may send."""

import base64
import io
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.config.catalog import KNOWN_MODELS, Catalog, Deployment, Model
from shared.dialects.known import AZURE
from shared.errors import InvalidRequest, TooLarge
from shared.media.reference_image import LARGEST
from shared.media.requests import LONGEST_PROMPT, CreateRequest, ListRequest, parse_create, parse_list
from shared.media.video import VideoFilter
from shared.storage.table_values import to_entity, to_values, with_whole_texts

VIDEO = "video_" + "0" * 32
CATALOG = Catalog(
    (
        Model("films", KNOWN_MODELS["sora-2"], (Deployment("d", AZURE, "sora-2", "https://h/openai/v1"),), ("azure/sora-2",)),
        Model("fine", KNOWN_MODELS["sora-2-pro"], ()),
    )
)


def parsed(**fields: Any) -> CreateRequest:
    return parse_create({"prompt": "A cat", **fields}, CATALOG)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        parsed(**fields)
    return raised.value


def png(size: tuple[int, int] = (720, 1280)) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, (40, 90, 160)).save(output, "PNG")
    return output.getvalue()


def test_a_prompt_is_enough() -> None:
    """Everything else has a default: the first model, and its first length and size."""
    request = parsed()
    assert (request.model.name, request.seconds, request.size) == ("films", 4, "720x1280")
    assert (request.image, request.user, request.metadata) == (None, None, None)
    assert request.price == 400_000


def test_everything_may_be_given() -> None:
    """The price follows from the model, the length and the size."""
    request = parsed(model="fine", seconds="12", size="1792x1024", user="u-1", metadata={"shot": "7"})
    assert (request.model.name, request.seconds, request.size, request.user) == ("fine", 12, "1792x1024", "u-1")
    assert request.metadata == '{"shot": "7"}'
    assert request.price == 6_000_000


@pytest.mark.parametrize(("given", "seconds"), [("8", 8), (8, 8), (None, 4)])
def test_seconds_are_a_number_or_text(given: object, seconds: int) -> None:
    """Azure wants the text, people send both."""
    assert parsed(seconds=given).seconds == seconds


@pytest.mark.parametrize(
    "value", ["16", 16, 5, "8.0", 8.0, "08", " 8", "8s", "", True, [8], {"a": "8"}, b"8", "８", 10**400, -4]
)
def test_other_seconds_are_refused_with_those_allowed(value: object) -> None:
    """16 seconds, which one guide shows, Azure has never made."""
    error = refusal(seconds=value)
    assert error.param == "seconds"
    assert '"4", "8", "12"' in error.message


@pytest.mark.parametrize("value", ["1024x1792", "1280X720", "1280 x 720", "auto", "", 720, ["720x1280"], b"720x1280"])
def test_other_sizes_are_refused_with_those_allowed(value: object) -> None:
    """Azure accepts the high resolutions for sora-2 and fails the job later; here they never get so
    far.
    """
    error = refusal(size=value)
    assert error.param == "size"
    assert '"720x1280", "1280x720"' in error.message


@pytest.mark.parametrize("prompt", [None, "", " \n\t", 7, ["A cat"], {"text": "A cat"}, b"A cat", "x" * (LONGEST_PROMPT + 1)])
def test_a_prompt_is_text_that_says_something(prompt: object) -> None:
    """Missing, empty, not text, too long."""
    error = refusal(prompt=prompt)
    assert error.param == "prompt"
    assert error.code == {type(None): "missing_required_parameter", str: "invalid_value"}.get(type(prompt), "invalid_type")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("promt", "'prompt'"),
        ("n_seconds", "'seconds'"),
        ("duration", "'seconds'"),
        ("width", "'size'"),
        ("image", "'input_reference'"),
        ("Prompt", "'prompt'"),
        ("zzz", "prompt, model, seconds, size"),
        ("", "prompt, model, seconds, size"),
    ],
)
def test_an_unknown_parameter_is_refused_with_a_hint(name: str, meant: str) -> None:
    """Words from Sora 1 and from other gateways, and slips of the pen."""
    error = refusal(**{name: "x"})
    assert (error.code, error.param) == ("unknown_parameter", name)
    assert meant in error.message


def test_a_huge_unknown_name_is_not_sent_back() -> None:
    """Nor compared letter by letter with the known ones."""
    error = refusal(**{"promp" * 1_000_000: "x"})
    assert len(error.message) < 300
    assert len(error.param or "") == 64


@pytest.mark.parametrize(("name", "longest"), [("user", 512), ("model", 256)])
@pytest.mark.parametrize("value", [7, "", ["a"], b"a", "x" * 600])
def test_short_texts_are_texts_and_short(name: str, longest: int, value: object) -> None:
    """Of one to so many characters."""
    error = refusal(**{name: value})
    assert error.param == name
    assert error.code == ("invalid_value" if isinstance(value, str) else "invalid_type")


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    """By the code that OpenAI has for it; a model that is not there is never guessed."""
    error = refusal(model="sora-3")
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "films, fine" in error.message


GOOD_METADATA: list[Any] = [{}, {"a": "b"}, {str(n): "x" * 512 for n in range(16)}, {"k" * 64: ""}, {"": "\U0001f408\u0000"}]


@pytest.mark.parametrize("value", GOOD_METADATA, ids=range(len(GOOD_METADATA)))
def test_metadata_is_up_to_sixteen_pairs_of_text(value: dict[str, str]) -> None:
    """As an object, or as JSON text, which is how it fits into a form."""
    assert json.loads(parsed(metadata=value).metadata or "") == value
    assert json.loads(parsed(metadata=json.dumps(value)).metadata or "") == value


BAD_METADATA: list[Any] = [
    {str(n): "x" for n in range(17)},
    {"k" * 65: ""},
    {"a": "x" * 513},
    {"a": 1},
    {"a": None},
    {"a": {"b": "c"}},
    ["a"],
    7,
    "",
    "not json",
    "[1]",
    '{"a": "\\ud83d"}',
    "[" * 100_000,
    b"{}",
]


@pytest.mark.parametrize("value", BAD_METADATA, ids=range(len(BAD_METADATA)))
def test_other_metadata_is_refused(value: object) -> None:
    """Also what could be parsed and never be stored, and what is nested without end."""
    assert refusal(metadata=value).param == "metadata"


def test_null_metadata_is_none() -> None:
    """In both forms."""
    assert parsed(metadata=None).metadata is parsed(metadata="null").metadata is None


def test_a_reference_may_be_a_file_or_a_data_url() -> None:
    """The same image either way."""
    url = "data:application/octet-stream;base64," + base64.b64encode(png()).decode()
    for form in (png(), url, {"image_url": url}):
        assert parsed(input_reference=form).image == png()
    for address in ("https://example.com/cat.png", {"image_url": "https://example.com/cat.png"}):
        assert parsed(input_reference=address).image == "https://example.com/cat.png", "it is fetched later"


def test_a_reference_may_be_made_to_fit() -> None:
    """Where there is one, and in a way that is known."""
    assert parsed(input_reference=png()).fit == "exact"
    assert parsed(input_reference=png(), reference_fit="cover").fit == "cover"
    assert refusal(input_reference=png(), reference_fit="stretch").param == "reference_fit"
    assert refusal(reference_fit="cover").param == "reference_fit"


def test_a_data_url_is_decoded_piece_by_piece() -> None:
    """The decoder lets no other thread run, so it is given a little at a time. The image is the
    same.
    """
    image = bytes(range(256)) * 4_000
    text = base64.b64encode(image + b"!").decode()
    assert parsed(input_reference={"image_url": f"data:image/png;base64,{text}"}).image == image + b"!"
    assert refusal(input_reference={"image_url": f"data:image/png;base64,{text}{text}"}).param == "input_reference"


@pytest.mark.parametrize(
    "value",
    [
        "http://example.com/cat.png",
        "",
        7,
        [],
        {},
        {"file_id": "file-1"},
        {"image_url": "http://example.com/cat.png"},
        {"image_url": {"url": "https://example.com/cat.png"}},
        {"image_url": "file:///etc/passwd"},
        {"image_url": "data:image/png,raw"},
        {"image_url": "data:image/png;base64,é"},
        {"image_url": "data:image/png;base64,AAA"},
        {"image_url": "data:image/png;base64,!!!!"},
        {"image_url": 7},
        {"image_url": "data:image/png;base64,aGVsbG8=", "file_id": "file-1"},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_other_references_are_refused(value: object) -> None:
    """Only TLS, and only in a form that says what it is."""
    assert refusal(input_reference=value).param == "input_reference"


def test_a_huge_reference_is_refused_unread() -> None:
    """20 MiB are enough for any."""
    with pytest.raises(TooLarge) as raised:
        parsed(input_reference=bytes(LARGEST + 1))
    assert raised.value.param == "input_reference"


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=2)
)
NAMES = st.sampled_from(["prompt", "model", "seconds", "size", "user", "metadata", "input_reference", "input_referense"])


@given(st.dictionaries(NAMES, ANYTHING | st.dictionaries(st.just("image_url"), ANYTHING)))
def test_no_request_at_all_crashes_the_check(fields: dict[str, Any]) -> None:
    """It comes out whole and valid, or with the name of what is wrong."""
    try:
        assert parse_create(fields, CATALOG).prompt.strip()
    except InvalidRequest as error:
        assert error.param in {"prompt", "model", "seconds", "size", "user", "metadata", "input_reference", *fields}


@settings(max_examples=25)
@given(st.text(max_size=50).filter(str.strip), st.integers(1, LONGEST_PROMPT))
@example("\U0001f408", LONGEST_PROMPT)
@example("a\U0001f408", 31_999)
@example("e\u0301\u200d\ufeff\x00\r\n", LONGEST_PROMPT)
def test_a_prompt_that_passes_can_be_stored_and_read_back(unit: str, length: int) -> None:
    """However it is cut into properties: each holds at most 64 KiB of UTF-16, which is Azure's
    limit.
    """
    prompt = parsed(prompt=(unit * length)[:length]).prompt if (unit * length)[:length].strip() else unit
    stored = json.loads(to_entity("p", "k", {"prompt": prompt, "seconds": 4, "none": None}))
    assert all(len(value.encode("utf-16-le")) <= 64 * 1024 for value in stored.values() if isinstance(value, str))
    assert to_values(with_whole_texts(stored)) == {"prompt": prompt, "seconds": 4}


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, ListRequest(20, None, True)),
        ({"limit": "0"}, ListRequest(0)),
        ({"limit": "100", "order": "asc", "after": VIDEO}, ListRequest(100, VIDEO, False)),
        ({"after": "", "order": "desc", "api-version": "preview"}, ListRequest()),
        ({"limit": "007"}, ListRequest(7)),
        (
            {"status": "failed", "user": "u", "custom_llm_provider": "azure"},
            ListRequest(wanted=VideoFilter("failed", user="u")),
        ),
        ({"model": "gone", "metadata[shot]": "7"}, ListRequest(wanted=VideoFilter(model="gone", metadata=(("shot", "7"),)))),
    ],
)
def test_a_list_has_a_page(query: dict[str, str], page: ListRequest) -> None:
    """Newest first, twenty at a time, unless the caller says otherwise."""
    assert parse_list(query, CATALOG) == page


@pytest.mark.parametrize("limit", ["-1", "101", "1.5", "", " 5", "٣", "²", "9" * 5_000, "0" * 5_000, "0" * 10 + "101"])
def test_a_limit_is_a_whole_number_up_to_a_hundred(limit: str) -> None:
    """In plain digits."""
    with pytest.raises(InvalidRequest, match="0 to 100") as raised:
        parse_list({"limit": limit}, CATALOG)
    assert raised.value.param == "limit"


@pytest.mark.parametrize("query", [{"status": "done"}, {"state": "failed"}, {"metadata": "7"}, {"metadata[]": "7"}])
def test_a_filter_that_is_unknown_is_refused(query: dict[str, str]) -> None:
    """To ignore it would list what was not asked for."""
    with pytest.raises(InvalidRequest) as raised:
        parse_list(query, CATALOG)
    assert raised.value.param == next(iter(query))


@pytest.mark.parametrize("order", ["", "ASC", "newest"])
def test_an_order_is_one_of_two(order: str) -> None:
    """And the refusal says which."""
    with pytest.raises(InvalidRequest, match=re.escape("'asc' or 'desc'")) as raised:
        parse_list({"order": order}, CATALOG)
    assert raised.value.param == "order"
