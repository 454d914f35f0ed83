"""What both clients of the other tests cannot be made to say."""

from datetime import UTC, datetime

import pytest

from shared.storage.table_values import take_apart


def test_a_time_of_storages_own_precision_is_cut_to_microseconds() -> None:
    told = {"RowKey": "a", "odata.etag": "e", "at": "2026-11-22T12:00:00.1234567Z", "at@odata.type": "Edm.DateTime"}
    assert take_apart(told) == ("a", {"at": datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)}, "e")


def test_the_parts_of_a_text_are_joined_by_their_number() -> None:
    """Not by their place."""
    parts = {f"text__{number}": str(number) for number in (10, 2, 0, 1)}
    assert take_apart({"RowKey": "a", "odata.etag": "e", **parts}) == ("a", {"text": "01210"}, "e")


def test_a_version_follows_from_the_time_of_the_last_write() -> None:
    """Where storage tells none."""
    told = {"RowKey": "a", "Timestamp": "2026-11-22T12:00:00.1Z"}
    assert take_apart(told) == ("a", {}, "W/\"datetime'2026-11-22T12%3A00%3A00.1Z'\"")


@pytest.mark.parametrize("wrong", [{"n@odata.type": "Edm.Int64", "n": "many"}, {"n@odata.type": "Edm.Int64"}])
def test_a_value_that_is_not_of_its_type_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises((ValueError, KeyError)):
        take_apart({"RowKey": "a", **wrong})
