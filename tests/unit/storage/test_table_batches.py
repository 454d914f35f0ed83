"""Transactions as the service in Azure reads and answers them, where Azurite is not as strict."""

from shared.storage.table_batches import answers, batch
from shared.storage.table_requests import Answer, delete, insert

CONFLICT = (
    "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_2\r\n\r\n"
    "--changesetresponse_2\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    "HTTP/1.1 409 Conflict\r\nDataServiceVersion: 3.0;\r\n"
    "Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n\r\n"
    '{"odata.error":{"code":"EntityAlreadyExists","message":{"lang":"en-US","value":"1:The entity exists.\\nTime:1"}}}\r\n'
    "--changesetresponse_2--\r\n--batchresponse_1--\r\n"
)


def test_each_write_says_which_json_it_means() -> None:
    """The transaction's own head does not count for them."""
    request = batch([insert("t", b"{}"), delete("t", "p", "a", "*")], "https://account.table.core.windows.net")
    assert request.body.count(b"dataserviceversion: 3.0\r\n") == 2
    assert request.headers["dataserviceversion"] == "3.0"


def test_a_conflict_is_the_one_answer_to_all_writes() -> None:
    told = Answer(202, {"content-type": "multipart/mixed; boundary=batchresponse_1"}, CONFLICT.encode())
    (conflict,) = answers(told, 2)
    assert (conflict.status, conflict.code) == (409, "EntityAlreadyExists")
