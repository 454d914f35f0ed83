"""The tree of errors, and what each looks like to a client."""

import pytest

from shared import errors
from shared.errors import GatewayError, UpstreamError, envelope


def leaves(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(leaf for each in kind.__subclasses__() for leaf in leaves(each))]


OWN_LEAVES = [each for each in leaves(GatewayError) if each.__module__ == errors.__name__]


@pytest.mark.parametrize("leaf", OWN_LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_leaf_has_the_four_keys_of_an_openai_error(leaf: type[GatewayError]) -> None:
    """The official client reads message, type, param and code, and wants all of them."""
    body = envelope(leaf("why", param="size"))["error"]
    assert list(body)[:4] == ["message", "type", "param", "code"]
    assert body["message"] == "why"
    assert body["param"] == "size"
    assert body["code"]
    assert 400 <= leaf.status < 600


@pytest.mark.parametrize("leaf", OWN_LEAVES, ids=lambda leaf: leaf.__name__)
def test_the_tree_in_the_docstring_is_the_tree(leaf: type[GatewayError]) -> None:
    """A leaf that is missing from the picture is found out here."""
    assert leaf.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "leaf", [each for each in OWN_LEAVES if issubclass(each, UpstreamError)], ids=lambda leaf: leaf.__name__
)
def test_no_client_retries_what_the_upstream_said(leaf: type[UpstreamError]) -> None:
    """The official client would repeat a 502 on its own, and that could pay twice."""
    assert leaf.should_retry is False
