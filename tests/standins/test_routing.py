"""Route templates match as the Functions host matches them, and functions are tried in the order of
their names.
"""

from pathlib import Path

import azure.functions as func
import pytest
from aiohttp import web

from local.functions_host.functions import LoadError, read
from local.functions_host.routing import Route, Router


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("v1/videos", "/v1/videos", {}),
        ("v1/videos", "/V1/Videos", {}),
        ("v1/videos", "/v1/videos/", {}),
        ("v1/videos", "/v1/videos/x", None),
        ("v1/videos", "/v1", None),
        ("v1/videos", "//v1/videos", None),
        ("v1/videos/{video_id}", "/v1/videos/Video_1", {"video_id": "Video_1"}),
        ("v1/videos/{video_id}", "/v1/videos/a/b", None),
        ("v1/videos/{video_id}", "/v1/videos/", None),
        ("v1/videos/{video_id}/content", "/v1/videos/a/content", {"video_id": "a"}),
        ("v1/videos/{video_id}/content", "/v1/videos//content", None),
        ("health/{probe?}", "/health", {}),
        ("health/{probe?}", "/health/live", {"probe": "live"}),
        ("health/{probe?}", "/health/live/now", None),
        ("{*path}", "/", {}),
        ("{*path}", "/a//b/", {"path": "a//b/"}),
        ("{*path}", "//a", None),
        ("files/{**path}", "/files", {}),
        ("files/{**path}", "/files/a/b", {"path": "a/b"}),
        ("files/{name}.{extension}", "/files/a.b.mp4", {"name": "a.b", "extension": "mp4"}),
        ("files/{name}.{extension}", "/files/a", None),
        ("pages/{n:int}", "/pages/-7", {"n": "-7"}),
        ("pages/{n:int}", "/pages/seven", None),
        ("pages/{n:int:range(1,9)}", "/pages/9", {"n": "9"}),
        ("pages/{n:int:range(1,9)}", "/pages/10", None),
        ("pages/{n:min(2)}", "/pages/1", None),
        ("pages/{n:max(2)}", "/pages/2", {"n": "2"}),
        ("on/{flag:bool}", "/on/True", {"flag": "True"}),
        ("on/{flag:bool}", "/on/1", None),
        ("word/{w:alpha:length(2,3)}", "/word/abc", {"w": "abc"}),
        ("word/{w:alpha:length(2,3)}", "/word/ab1", None),
        ("word/{w:length(3)}", "/word/abcd", None),
        ("word/{w:minlength(2)}", "/word/a", None),
        ("word/{w:maxlength(2)}", "/word/abc", None),
        ("id/{g:guid}", "/id/6F9619FF-8B86-D011-B42D-00C04FC964FF", {"g": "6F9619FF-8B86-D011-B42D-00C04FC964FF"}),
        ("id/{g:guid}", "/id/6F9619FF", None),
        ("price/{p:decimal}", "/price/1.5", {"p": "1.5"}),
        ("page/{n:int?}", "/page", {}),
        ("page/{n:int?}", "/page/x", None),
    ],
)
def test_a_path_fits_a_template_or_does_not(template: str, path: str, values: dict[str, str] | None) -> None:
    """Values are as in the path; None is no match."""
    assert Route(template).match(path) == values


@pytest.mark.parametrize("template", ["a/{b", "a/{b=5}", "{a?}/b", "a/x{b?}", "a/{b:odd}", "a/{b:length}", "{*rest}/b"])
def test_a_template_that_cannot_be_served_is_refused(template: str) -> None:
    """The error names the route, so that nobody looks for a 404 that comes from a typing
    mistake.
    """
    with pytest.raises(LoadError, match="route "):
        Route(template)


def echo(req: web.Request) -> web.Response:
    return web.Response()


def router(*routes: tuple[str, str, list[str]], prefix: str | None = "", folder: Path) -> Router:
    """A router for functions of the given (name, route, methods)."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    for name, route, methods in routes:
        app.function_name(name)(app.route(route, methods=methods)(echo))
    if prefix is not None:
        (folder / "host.json").write_text(f'{{"extensions": {{"http": {{"routePrefix": "{prefix}"}}}}}}')
    return Router(read(app, folder, {}))


def answers(router: Router, method: str, path: str) -> str | None:
    match = router.find(method, path)
    return match.function.name if match else None


def test_functions_are_tried_in_the_order_of_their_names_not_of_their_specificity(tmp_path: Path) -> None:
    """A catch-all whose name sorts first hides everything; one that sorts last hides
    nothing.
    """
    first = router(("Any", "{*path}", ["GET"]), ("videos", "v1/videos", ["GET"]), folder=tmp_path)
    last = router(("videos", "v1/videos", ["GET"]), ("zany", "{*path}", ["GET"]), folder=tmp_path)
    assert answers(first, "GET", "/v1/videos") == "Any"
    assert answers(last, "GET", "/v1/videos") == "videos"
    assert answers(last, "GET", "/elsewhere") == "zany"


def test_names_are_compared_as_upper_case(tmp_path: Path) -> None:
    """.NET's OrdinalIgnoreCase puts letters before the underscore, whatever their case."""
    both = router(("video_any", "{*path}", ["GET"]), ("videos", "v1/videos", ["GET"]), folder=tmp_path)
    assert answers(both, "GET", "/v1/videos") == "videos"


def test_a_method_that_a_function_does_not_list_is_no_match(tmp_path: Path) -> None:
    """The next function is tried, and in the end there is none: never 405."""
    both = router(("a", "v1/videos", ["POST"]), ("b", "v1/{kind}", ["GET", "HEAD"]), folder=tmp_path)
    assert answers(both, "GET", "/v1/videos") == "b"
    assert answers(both, "HEAD", "/v1/videos") == "b"
    assert answers(both, "DELETE", "/v1/videos") is None


def test_the_route_prefix_of_host_json_comes_first(tmp_path: Path) -> None:
    """Without one in host.json it is `api`, as everybody forgets."""
    by_default = router(("a", "v1/videos", ["GET"]), prefix=None, folder=tmp_path)
    assert answers(by_default, "GET", "/api/v1/videos") == "a"
    assert answers(by_default, "GET", "/v1/videos") is None
    emptied = router(("a", "v1/videos", ["GET"]), prefix="", folder=tmp_path)
    assert answers(emptied, "GET", "/v1/videos") == "a"


@pytest.mark.parametrize("route", ["admin/keys", "Runtime/x", "admin"])
def test_routes_of_the_host_itself_are_refused(route: str, tmp_path: Path) -> None:
    """`admin` and `runtime` would be refused by Azure at start, so they are refused here."""
    with pytest.raises(LoadError, match="belong to the host"):
        router(("a", route, ["GET"]), folder=tmp_path)


def test_values_are_percent_decoded_except_for_slashes(tmp_path: Path) -> None:
    """An encoded slash does not split a segment and stays encoded, as in Kestrel."""
    match = router(("a", "v1/{name}", ["GET"]), folder=tmp_path).find("GET", "/v1/caf%C3%A9%20%2Fx")
    assert match is not None
    assert match.parameters == {"name": "café %2Fx"}
