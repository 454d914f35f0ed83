"""What a connection string says."""

import pytest

from shared.errors import ConfigurationError
from shared.storage.account import Account

KEY = "a2V5"


@pytest.mark.parametrize(
    ("connection_string", "name", "table", "queue"),
    [
        (
            f"DefaultEndpointsProtocol=https;AccountName=films;AccountKey={KEY};EndpointSuffix=core.windows.net",
            *("films", "https://films.table.core.windows.net", "https://films.queue.core.windows.net"),
        ),
        (
            f"accountname=films; accountkey={KEY}; TableEndpoint=http://127.0.0.1:1/films/;",
            *("films", "http://127.0.0.1:1/films", "https://films.queue.core.windows.net"),
        ),
        (
            "UseDevelopmentStorage=true",
            *("devstoreaccount1", "http://127.0.0.1:10002/devstoreaccount1", "http://127.0.0.1:10001/devstoreaccount1"),
        ),
    ],
)
def test_it_says_where_the_services_are(connection_string: str, name: str, table: str, queue: str) -> None:
    account = Account.of(connection_string)
    assert (account.name, account.endpoints) == (name, {"table": table, "queue": queue})


@pytest.mark.parametrize("lacking", ["", "AccountName=films", f"AccountKey={KEY}", "AccountName=films;AccountKey=k&y"])
def test_one_without_a_name_or_a_key_is_refused(lacking: str) -> None:
    with pytest.raises(ConfigurationError, match="AccountKey"):
        Account.of(lacking)


def test_nothing_shows_the_key() -> None:
    assert KEY not in repr(Account.of(f"AccountName=films;AccountKey={KEY}"))
    assert "b'key'" not in repr(Account.of(f"AccountName=films;AccountKey={KEY}"))
