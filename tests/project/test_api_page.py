"""docs/api.md has every route. Its lines are run by `tests/trials/outside`."""

import re

from shared.routes import paths
from tests.fakes.stack import CHECKOUT

PAGE = (CHECKOUT / "docs" / "api.md").read_text()


def test_every_route_is_on_the_page_and_none_besides() -> None:
    """By its method and its path."""
    named = set(re.findall(r"`(GET|POST|DELETE|HEAD)\s+/([\w/{}.]+)`", PAGE))
    assert named == {(each.method, _spelled(each.path)) for each in paths.ENDPOINTS}


def _spelled(path: str) -> str:
    return f"v1/{path}" if path.startswith(("videos", "models", "webhook_")) else path
