"""What the upstream's answers mean to us."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    Busy,
    Denied,
    Misrouted,
    Missing,
    Moderated,
    Refused,
    Retired,
    Uncertain,
    Unreachable,
    UpstreamError,
    envelope,
)
from shared.upstream.answers import RATE_LIMIT_WAIT, RUNNING_CAP_WAIT, from_upstream, read_report, retry_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def openai(message: str, **more: Any) -> bytes:
    body = {"message": message, "type": "video_generation_user_error", "param": None, "code": None, **more}
    return json.dumps({"error": body}).encode()


def apim(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


NO_DEPLOYMENT = openai(
    "The API deployment 'sora-2' for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)
EXPECTED_A_FILE = openai(
    "Invalid type for 'input_reference': expected a file, but got a string instead.",
    type="invalid_request_error",
    param="input_reference",
    code="invalid_type",
)
FACES = "Your request was blocked by our moderation system when checking inputs. Possible reasons: people-in-user-uploads."

# The documented answers, by their numbers in the API reference. E11, E20 and E21 are answers with
# status 200.
DOCUMENTED: list[tuple[str, int, bytes, type[UpstreamError]]] = [
    ("E1", 404, NO_DEPLOYMENT, Retired),
    ("E1-code", 404, apim("DeploymentNotFound", "It is not there."), Retired),
    ("E2", 429, openai("Too many running tasks"), Busy),
    ("E3", 401, apim("401", "Access denied due to invalid subscription key or wrong API endpoint."), Denied),
    ("E4", 404, apim("404", "Resource not found"), Misrouted),
    ("E5", 404, b'{"detail":"Not Found"}', Misrouted),
    ("E6", 400, openai("Inpaint image must match the requested width and height"), Refused),
    ("E7", 400, EXPECTED_A_FILE, Refused),
    ("E8", 400, openai("Missing required parameter: 'model'."), Refused),
    ("E9", 400, openai("The upload timed out."), Unreachable),
    ("E10", 400, openai(FACES), Moderated),
    ("E12", 408, apim("Timeout", "The operation was timeout."), Uncertain),
    ("E13", 410, b"", Retired),
    ("E14", 400, openai("Filtered.", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), Moderated),
    ("E14-policy", 400, openai("Filtered.", code="content_policy_violation"), Moderated),
    ("E14-blocked", 400, openai("Filtered.", code="moderation_blocked"), Moderated),
    ("E15", 431, b"", Misrouted),
    ("E16", 400, openai("Invalid type for 'seconds'.", param="seconds"), Refused),
    ("E17", 401, b"", Denied),
    ("E18-500", 500, b"", Uncertain),
    ("E18-502", 502, b"<html>Bad Gateway</html>", Uncertain),
    ("E18-503", 503, openai("The server is busy."), Uncertain),
    ("E18-504", 504, b"\xff\xfe", Uncertain),
    ("E19", 403, openai("Access denied."), Denied),
]


@pytest.mark.parametrize(("status", "body", "leaf"), [each[1:] for each in DOCUMENTED], ids=[each[0] for each in DOCUMENTED])
def test_every_documented_answer_to_a_create_has_its_class(status: int, body: bytes, leaf: type[UpstreamError]) -> None:
    """Status first, then the message, because the code is often null."""
    assert type(from_upstream(status, {}, body, NOW, creating=True)) is leaf


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
def test_what_is_uncertain_for_a_create_may_be_repeated_for_a_look(status: int) -> None:
    """A GET makes no job, so there is nothing to be uncertain about."""
    assert type(from_upstream(status, {}, b"", NOW, creating=False, about_video=True)) is Unreachable


@pytest.mark.parametrize(
    ("body", "leaf"),
    [
        (openai("Video with id 'video_1' not found."), Missing),
        (b"", Missing),
        (b'{"detail":"Not Found"}', Misrouted),
        (apim("404", "Resource not found"), Misrouted),
        (NO_DEPLOYMENT, Retired),
    ],
)
def test_a_wrong_route_is_not_taken_for_a_missing_video(body: bytes, leaf: type[UpstreamError]) -> None:
    """Both are 404 on a path that names a video; only the message tells them apart."""
    assert type(from_upstream(404, {}, body, NOW, creating=False, about_video=True)) is leaf


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (openai("Too many running tasks"), {}, RUNNING_CAP_WAIT),
        (openai("Rate limit reached"), {}, RATE_LIMIT_WAIT),
        (b"", {}, RATE_LIMIT_WAIT),
        (openai("Too many running tasks"), {"retry-after": "7"}, 7.0),
        (openai("Rate limit reached"), {"retry-after": "nonsense"}, RATE_LIMIT_WAIT),
    ],
)
def test_a_busy_upstream_says_when_to_come_back(body: bytes, headers: dict[str, str], seconds: float) -> None:
    """Its own word counts; without one, the cap on running jobs and the rate limit have waits of
    their own.
    """
    assert from_upstream(429, headers, body, NOW, creating=True).retry_after == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30"}, None),  # a date without a zone
        ({"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "86400"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_comes_in_three_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds first, then a number or an HTTP date; past and absurd ones count as none."""
    assert retry_after(headers, NOW) == seconds


@given(st.text(st.characters(codec="latin-1"), max_size=40), st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_header_breaks_the_reading_of_retry_after(milliseconds: str, other: str) -> None:
    """Whatever a server sends, the answer is a sensible wait or none."""
    seconds = retry_after({"retry-after-ms": milliseconds, "retry-after": other}, NOW)
    assert seconds is None or 0 < seconds < 86_400


WORDS = st.text(st.characters(exclude_categories=()), max_size=30)  # halves of surrogate pairs too
VALUES = st.none() | st.integers() | WORDS | st.lists(WORDS, max_size=2)
ERRORS = st.fixed_dictionaries({}, optional={"message": VALUES, "type": VALUES, "code": VALUES, "param": VALUES})
BODIES = st.fixed_dictionaries({}, optional={"error": ERRORS | VALUES, "detail": VALUES}) | VALUES


@given(st.integers(300, 599), BODIES.map(json.dumps).map(str.encode) | st.binary(max_size=30), st.booleans())
def test_any_answer_at_all_becomes_a_leaf_that_can_be_stored_and_sent(status: int, body: bytes, creating: bool) -> None:
    """A create that got a 408 or 5xx is uncertain whatever the body says; every text can be
    encoded.
    """
    error = from_upstream(status, {}, body, NOW, creating=creating)
    assert (type(error) is Uncertain) == (creating and (status == 408 or status >= 500))
    json.dumps(envelope(error), ensure_ascii=False).encode()


def test_a_novel_in_an_error_is_cut() -> None:
    """It is stored with the video, and a row has its limits."""
    error = from_upstream(400, {}, openai("no " * 1_000_000, code="x" * 1_000_000), NOW, creating=True)
    assert len(json.dumps(envelope(error))) < 15_000


@pytest.mark.parametrize("depth", [300, 900, 990, 1_000, 100_000])
def test_nesting_beyond_reason_is_no_crash(depth: int) -> None:
    """A hostile or broken body is a body without JSON, or one whose words are odd."""
    nested = b"[" * depth + b"]" * depth
    assert read_report(500, {}, b'{"error":{"message":' + nested + b"}}").status == 500


def test_the_upstreams_own_words_and_request_id_are_kept() -> None:
    """An operator can take them to the vendor; callers see them apart from our message."""
    error = from_upstream(400, {"apim-request-id": "abc"}, EXPECTED_A_FILE, NOW, creating=True)
    assert envelope(error)["error"] == {
        "message": "The upstream refused the request: "
        "Invalid type for 'input_reference': expected a file, but got a string instead.",
        "type": "server_error",
        "param": "input_reference",
        "code": "upstream_rejected",
        "provider_specific_fields": {
            "status": 400,
            "message": "Invalid type for 'input_reference': expected a file, but got a string instead.",
            "type": "invalid_request_error",
            "code": "invalid_type",
            "param": "input_reference",
            "request_id": "abc",
        },
    }


@pytest.mark.parametrize("body", [b"<html>key=secret</html>", b"", b"\xff", b'"secret"', b"[1]", b"null"])
def test_what_is_not_an_envelope_is_not_quoted(body: bytes) -> None:
    """A page from a proxy may say anything; callers see its status alone."""
    assert "secret" not in json.dumps(envelope(from_upstream(502, {}, body, NOW, creating=False)))


def test_a_page_that_was_not_json_says_so() -> None:
    """The log tells an empty answer from one in an unknown envelope."""
    assert read_report(502, {}, b"<html>").message == "HTTP 502 without a JSON body"
    assert read_report(502, {}, b"{}").message == "HTTP 502"


def test_a_cut_emoji_in_a_message_can_still_be_stored() -> None:
    """Services that cut texts by UTF-16 units leave half a character behind."""
    assert read_report(400, {}, b'{"error":{"message":"no \\ud83d"}}').message == "no ?"
