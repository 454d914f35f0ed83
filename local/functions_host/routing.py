"""Route templates as the Functions host matches them (those of ASP.NET): literals, parameters,
constraints.

    v1/videos/{video_id}      a parameter is one segment, or part of one: files/{name}.{extension}
    v1/pages/{number:int}     a constraint that fails is no match, so the next function is tried
    health/{probe?}           the last segment may be left out
    {*path}                   the rest of the path, slashes and nothing at all included

Literals ignore case. One slash at the end of a path is ignored.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from local.functions_host.functions import Function, Functions, LoadError

_OPTIONAL, _REST = "?", "*"
_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>\w+)(?P<constraints>(?::\w+(?:\([^)]*\))?)*)(?P<optional>\??)\}")
_CONSTRAINT = re.compile(r":(\w+)(?:\(([^)]*)\))?")
_RESERVED = re.compile(r"(admin|runtime)(/|$)", re.IGNORECASE)

Check = Callable[[str], bool]


@dataclass(frozen=True)
class _Segment:
    """One part between slashes: what it must look like, which values its parameters take, whether
    it may be absent.
    """

    pattern: re.Pattern[str]
    checks: Mapping[str, Sequence[Check]]
    kind: str = ""  # "", _OPTIONAL or _REST

    def match(self, text: str) -> dict[str, str] | None:
        found = self.pattern.fullmatch(text)
        if found is None or not all(check(found[name]) for name, checks in self.checks.items() for check in checks):
            return None
        return found.groupdict()


class Route:
    """A compiled template. Raises LoadError for one that the host would refuse, or that this
    stand-in does not know.
    """

    def __init__(self, template: str) -> None:
        parts = template.strip("/").split("/")
        self._segments = [_segment(part, template) for part in parts]
        if any(segment.kind for segment in self._segments[:-1]):
            raise LoadError(f"route {template!r}: only the last segment may be optional or take the rest")

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters' values if the decoded `path` (`/v1/videos/x`) fits, else None. One left
        out has no key.
        """
        parts = path.removeprefix("/").removesuffix("/").split("/") if path.strip("/") else []
        values: dict[str, str] = {}
        for position, segment in enumerate(self._segments):
            if position >= len(parts):
                return values if segment.kind else None
            if not parts[position]:
                return None
            last = segment.kind == _REST
            text = path.removeprefix("/").split("/", position)[-1] if last else parts[position]
            found = segment.match(text)
            if found is None:
                return None
            values |= found
            if last:
                return values
        return values if len(parts) == len(self._segments) else None


@dataclass(frozen=True)
class Match:
    function: Function
    parameters: Mapping[str, str]


class Router:
    """Which HTTP function answers a request: the first that matches, in the order of their names,
    however specific.

    The order is the host's (`FunctionMetadataManager` sorts by name, ignoring case). Raises
    LoadError for routes that begin with `admin` or `runtime`, which belong to the host.
    """

    def __init__(self, functions: Functions) -> None:
        prefix = functions.extension("http").get("routePrefix", "api")
        self._routes = [
            (_route(function, prefix), {method.upper() for method in function.trigger.properties.get("methods", [])}, function)
            for function in functions.triggered_by("httpTrigger")
        ]

    def find(self, method: str, raw_path: str) -> Match | None:
        """The function for a request whose path is `raw_path`, percent-encoded as it came. None:
        answer 404.

        A function that does not list the method is no match, so there is no 405.
        """
        path = _decoded(raw_path)
        for route, methods, function in self._routes:
            if methods and method.upper() not in methods:
                continue
            parameters = route.match(path)
            if parameters is not None:
                return Match(function, parameters)
        return None


def _route(function: Function, prefix: str) -> Route:
    template = function.trigger.properties.get("route") or function.name
    if _RESERVED.match(template.lstrip("/")):
        raise LoadError(f"function {function.name}: routes that begin with admin or runtime belong to the host")
    return Route(f"{prefix}/{template}")


def _decoded(raw_path: str) -> str:
    """The path as Kestrel makes it: everything decoded but an encoded slash, then `.` and `..`
    followed.
    """
    segments: list[str] = []
    given = unquote(re.sub(r"%(2f)", r"%25\1", raw_path, flags=re.IGNORECASE)).split("/")[1:]
    for segment in given:
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    ends = [""] if given[-1:] in (["."], [".."]) else []
    return "/" + "/".join(segments + ends)


def _segment(part: str, template: str) -> _Segment:
    pattern, position, kinds = "", 0, set()
    checks: dict[str, list[Check]] = {}
    for parameter in _PARAMETER.finditer(part):
        pattern += _literal(part[position : parameter.start()], template)
        kind = _REST if parameter["rest"] else parameter["optional"]
        if kind and parameter.group() != part:
            raise LoadError(f"route {template!r}: {parameter.group()} must be a segment of its own")
        pattern += f"(?P<{parameter['name']}>.+)"
        checks[parameter["name"]] = [
            _check(name, given, template) for name, given in _CONSTRAINT.findall(parameter["constraints"])
        ]
        kinds.add(kind)
        position = parameter.end()
    pattern += _literal(part[position:], template)
    return _Segment(re.compile(pattern, re.IGNORECASE | re.DOTALL), checks, max(kinds, default=""))


def _literal(text: str, template: str) -> str:
    if "{" in text or "}" in text:
        raise LoadError(f"route {template!r}: cannot read {text!r}")
    return re.escape(text)


def _check(name: str, given: str, template: str) -> Check:
    """The constraint `name(given)` as a predicate on a value."""
    if name in _SHAPES and not given:
        shape = _SHAPES[name]
        return lambda value: shape.fullmatch(value) is not None
    try:
        low, high = _BOUNDS[name]([int(number) for number in given.split(",")])
    except (KeyError, ValueError, IndexError):
        raise LoadError(f"route {template!r}: the local host has no constraint {name}({given})") from None
    if name.endswith("length"):
        return lambda value: low <= len(value) <= high
    return lambda value: _SHAPES["int"].fullmatch(value) is not None and low <= int(value) <= high


_SHAPES = {
    "int": re.compile(r"[+-]?[0-9]+"),
    "long": re.compile(r"[+-]?[0-9]+"),
    "float": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    "double": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    "decimal": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"),
    "bool": re.compile(r"true|false", re.IGNORECASE),
    "alpha": re.compile(r"[A-Za-z]*"),
    "guid": re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"),
}
_UNBOUNDED = float("inf")
_BOUNDS: Mapping[str, Callable[[list[int]], tuple[float, float]]] = {
    "length": lambda given: (given[0], given[-1]),
    "minlength": lambda given: (given[0], _UNBOUNDED),
    "maxlength": lambda given: (0, given[0]),
    "range": lambda given: (given[0], given[1]),
    "min": lambda given: (given[0], _UNBOUNDED),
    "max": lambda given: (-_UNBOUNDED, given[0]),
}
