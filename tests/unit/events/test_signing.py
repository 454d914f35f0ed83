"""Signatures that the official client accepts."""

import base64

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from shared.events.webhooks.payload import body
from shared.events.webhooks.signing import hint, new_secret, signed

CLIENT = OpenAI(api_key="sk-unused", base_url="http://127.0.0.1:1")
BODY = body("evt_1", "video.completed", 1_795_350_343, "video_1")


def headers(*secrets: str, at: int | None = None) -> dict[str, str]:
    import time

    return signed("evt_1", int(time.time()) if at is None else at, BODY, secrets)


def test_the_official_client_unwraps_what_is_sent() -> None:
    secret = new_secret()
    event = CLIENT.webhooks.unwrap(BODY, headers(secret), secret=secret)
    assert (event.id, event.type, event.data.id) == ("evt_1", "video.completed", "video_1")  # type: ignore[union-attr]


def test_both_secrets_sign_while_one_replaces_the_other() -> None:
    """So a receiver may have either."""
    new, old = new_secret(), new_secret()
    both = headers(new, old)
    for secret in (new, old):
        CLIENT.webhooks.verify_signature(BODY, both, secret=secret)
    with pytest.raises(InvalidWebhookSignatureError):
        CLIENT.webhooks.verify_signature(BODY, both, secret=new_secret())


@pytest.mark.parametrize("change", ["body", "id", "time"])
def test_what_was_changed_on_the_way_is_refused(change: str) -> None:
    secret = new_secret()
    sent = headers(secret)
    told = BODY.replace(b"video_1", b"video_2") if change == "body" else BODY
    if change == "id":
        sent["webhook-id"] = "evt_2"
    if change == "time":
        sent["webhook-timestamp"] = str(int(sent["webhook-timestamp"]) + 1)
    with pytest.raises(InvalidWebhookSignatureError):
        CLIENT.webhooks.verify_signature(told, sent, secret=secret)


def test_a_secret_is_of_the_standards_form() -> None:
    """`whsec_` and 24 to 64 bytes; its hint shows four characters."""
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    assert secret != new_secret()
    assert len(hint(secret).removeprefix("whsec_...")) == 4
