"""What both clients of the other tests cannot be made to say."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from shared.errors import StorageUnavailable
from shared.storage.table_values import key_and_etag, to_entity, to_form, to_values, with_whole_texts
from shared.storage.tables import Row


class Form(msgspec.Struct, kw_only=True):
    id: str
    at: datetime
    money: int = 0
    text: str | None = None
    flag: bool = False


def test_a_time_of_storages_own_precision_is_cut_to_microseconds() -> None:
    told = {"RowKey": "a", "odata.etag": "e", "at": "2026-11-22T12:00:00.1234567Z", "at@odata.type": "Edm.DateTime"}
    assert to_values(told) == {"at": datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)}


def test_a_time_is_stored_in_utc() -> None:
    at = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=1)))
    assert json.loads(to_entity("p", "k", {"at": at}))["at"] == "2026-11-22T11:00:00Z"


def test_a_row_is_stored_in_ascii() -> None:
    """The emulator garbles a character that comes in two packets."""
    stored = to_entity("p", "k", {"text": "naïve 🐈", "money": 1})
    assert stored.isascii()
    assert to_values(json.loads(stored)) == {"text": "naïve 🐈", "money": 1}


def test_a_form_reads_what_was_stored() -> None:
    """Each text stays one, whatever else it could mean; what the form does not know is left out."""
    form = Form(id="a", at=datetime(2026, 11, 22, 12, 0, 0, 123456, UTC), money=2**62, text="null", flag=True)
    stored = json.loads(to_entity("p", "k", {**msgspec.structs.asdict(form), "later": 1}))
    assert to_form(stored, Form, {"id": "a"}) == form


@pytest.mark.parametrize("wrong", [{}, {"at": "soon"}, {"at": "2026-11-22T12:00:00Z", "money": "much"}])
def test_what_is_not_of_a_forms_types_is_no_row(wrong: dict[str, str]) -> None:
    with pytest.raises(StorageUnavailable):
        Row("a", {"RowKey": "a", **wrong}, "e").read(Form, id="a")


def test_the_parts_of_a_text_are_joined_by_their_number() -> None:
    """Not by their place."""
    parts = {f"text__{number}": str(number) for number in (10, 2, 0, 1)}
    assert with_whole_texts({"RowKey": "a", **parts}) == {"RowKey": "a", "text": "01210"}


def test_a_version_follows_from_the_time_of_the_last_write() -> None:
    """Where storage tells none."""
    told = {"RowKey": "a", "Timestamp": "2026-11-22T12:00:00.1Z"}
    assert key_and_etag(told) == ("a", "W/\"datetime'2026-11-22T12%3A00%3A00.1Z'\"")


def test_a_column_that_a_row_has_not_is_no_value() -> None:
    """Azure tells null for one that was asked for; the emulator does not."""
    assert to_values({"RowKey": "a", "bound": None, "ask": "b", "n@odata.type": "Edm.Int64", "n": None}) == {"ask": "b"}


@pytest.mark.parametrize("wrong", [{"n@odata.type": "Edm.Int64", "n": "many"}, {"n@odata.type": "Edm.Int64"}])
def test_a_value_that_is_not_of_its_type_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises((ValueError, KeyError)):
        to_values({"RowKey": "a", **wrong})
