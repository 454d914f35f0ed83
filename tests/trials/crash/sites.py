"""Every place in `shared/` from which something is written or the upstream is asked, as the source
tells.

With this a place that no story of the crash matrix visits is found by a test, and not by a reader.
An outlet is a method of Azure's libraries that changes something outside, or one of the upstream's
client; what calls an outlet is an outlet too, and every call of one on something else than `self`
is a site.
"""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

SHARED = Path(__file__).parents[3] / "shared"

# Who changes something outside, whatever it is called on. Everything that leads here is found by
# itself.
_RAW = {
    "commit": "Table.commit",
    "stage_block": "BlobClient.stage_block",
    "commit_block_list": "BlobClient.commit_block_list",
    "upload_blob": "BlobClient.upload_blob",
    "delete_blob": "BlobClient.delete_blob",
    "start_new": "DurableOrchestrationClient.start_new",
    "raise_event": "DurableOrchestrationClient.raise_event",
    "terminate": "DurableOrchestrationClient.terminate",
    "purge_instance_history": "DurableOrchestrationClient.purge_instance_history",
    "post": "Post.post",
    "put": "Queues.put",
}
# These happen once a process, under whatever comes first, so that they tell nothing of who calls.
_ONCE = {"create_table": "TableService.create_table", "create_container": "BlobServiceClient.create_container"}
# What is always called so, beside the parts of the gateway.
_BY_NAME = {
    "upstream": "Upstream",
    "orchestrations": "DurableEngine",
    "waker": "DurableOrchestrations",
    "wake_ups": "WakeUps",
    "summoner": "DurableOrchestrations",
    "deliveries": "Deliveries",
    "destination": "Sink",
    "endpoints": "Endpoints",
    "history": "History",
    "render_times": "RenderTimes",
    "shards": "Shards",
    "offers": "Offers",
    "files": "ExportFiles",
}
_CLIENT = "Upstream"  # each of its public methods is a call that leaves the process

Function = ast.FunctionDef | ast.AsyncFunctionDef


class WayStep(NamedTuple):
    """This function was at this line of this file of `shared/`."""

    file: str
    line: int
    function: str


Way = tuple[WayStep, ...]


@dataclass(frozen=True, order=True)
class Site:
    """`function` calls `outlet` on one of these lines of `file`."""

    file: str
    function: str
    outlet: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.function}: {self.outlet}"


@cache
def sites() -> tuple[Site, ...]:
    """All of them, in the order of the source."""
    modules = {str(path.relative_to(SHARED)): ast.parse(path.read_text()) for path in sorted(SHARED.rglob("*.py"))}
    classes = {each.name: each for tree in modules.values() for each in tree.body if isinstance(each, ast.ClassDef)}
    kinds = _parts(classes["Gateway"]) | _BY_NAME | {name: name for name in classes}
    inherited = _inherited(classes)
    outlets = _outlets(classes, kinds, inherited)
    found = []
    for file, tree in modules.items():
        local = kinds | _made(tree, classes)
        for function, call, (first, last) in _calls(tree):
            outlet = _leads_to(call, local)
            outlet = inherited.get(outlet, outlet)
            if outlet in outlets or outlet in _ONCE.values():
                found.append(Site(file, function, outlet, first, last))
    return tuple(found)


def visited(site: Site, way: Way) -> bool:
    """Whether a way, outermost frame first, led through a site to its outlet."""
    at = [i for i, step in enumerate(way) if step.file == site.file and site.first <= step.line <= site.last]
    return bool(at) and any(step.function == site.outlet for step in way[at[0] + 1 :])


def _parts(gateway: ast.ClassDef) -> dict[str, str]:
    """What the parts of the gateway are called, everywhere, and of which class they are."""
    parts = {}
    for each in gateway.body:
        match each:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind)):
                parts[name] = kind
            case ast.FunctionDef(name=name, returns=ast.Name(id=kind), decorator_list=[ast.Name(id="property")]):
                parts[name] = kind
    return parts


def _inherited(classes: dict[str, ast.ClassDef]) -> dict[str, str]:
    """The methods that a class has from one of ours: `Class.name` to `Base.name`."""
    found: dict[str, str] = {}
    for name, body in classes.items():
        own = {each.name for each in body.body if isinstance(each, Function)}
        for base in (classes[each.id] for each in body.bases if isinstance(each, ast.Name) and each.id in classes):
            methods = (each.name for each in base.body if isinstance(each, Function))
            found |= {f"{name}.{each}": f"{base.name}.{each}" for each in methods if each not in own}
    return found


def _made(where: ast.AST, classes: Collection[str]) -> dict[str, str]:
    """The variables that something of a class of ours is made into: `turn = _Turn(…)`."""
    return {
        target.id: each.value.func.id
        for each in ast.walk(where)
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call) and isinstance(each.value.func, ast.Name)
        for target in each.targets
        if isinstance(target, ast.Name) and each.value.func.id in classes
    }


def _outlets(classes: dict[str, ast.ClassDef], kinds: dict[str, str], inherited: dict[str, str]) -> set[str]:
    """The methods, `Class.name`, that lead outside: by themselves, or by others that do."""
    methods = {name: {base} for name, base in inherited.items()} | {
        f"{name}.{each.name}": {_leads_to(call, kinds | _made(each, classes) | {"self": name}) for call in _calls_in(each)}
        for name, body in classes.items()
        for each in body.body
        if isinstance(each, Function) and name != _CLIENT and not _yields(each)
    }
    outlets = {*_RAW.values()}
    client = classes[_CLIENT].body
    outlets |= {f"{_CLIENT}.{each.name}" for each in client if isinstance(each, ast.AsyncFunctionDef) and each.name[0] != "_"}
    while more := {name for name, leads in methods.items() if leads & outlets} - outlets:
        outlets |= more
    return outlets


def _yields(function: Function) -> bool:
    """Whether it only begins something: a context, or what others ask for piece by piece."""
    return any(isinstance(each, ast.Yield) for each in ast.walk(function))


def _leads_to(call: ast.Call, kinds: dict[str, str]) -> str:
    """What is called, as `Class.name`, by the name of what it is called on: "" where that tells
    nothing.
    """
    name, receiver = _name(call), _receiver(call)
    if name in _RAW | _ONCE and receiver is not None:
        return (_RAW | _ONCE)[name]
    return f"{kinds[receiver]}.{name}" if receiver in kinds else ""


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call, tuple[int, int]]]:
    """Every call with the function it stands in and the lines on which that function is while it
    waits for it.
    """

    def walk(node: ast.AST, inside: str, span: tuple[int, int]) -> Iterator[tuple[str, ast.Call, tuple[int, int]]]:
        for child in ast.iter_child_nodes(node):
            place = inside
            lines = span
            if isinstance(child, Function | ast.ClassDef):
                place = f"{inside}.{child.name}" if inside else child.name
            elif isinstance(child, ast.stmt) and not hasattr(child, "body") and child.end_lineno is not None:
                lines = (child.lineno, child.end_lineno)
            elif isinstance(child, ast.stmt):
                lines = (0, 0)
            if isinstance(child, ast.Call):
                yield place, child, lines if lines[0] else (child.lineno, child.end_lineno or child.lineno)
            yield from walk(child, place, lines)

    yield from walk(tree, "", (0, 0))


def _calls_in(function: Function) -> Iterator[ast.Call]:
    return (each for each in ast.walk(function) if isinstance(each, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _receiver(call: ast.Call) -> str | None:
    """The last name of what a method is called on: `pool` of `self.gateway.pool.leave()` and of
    `self.pool(model).leave()`.
    """
    on = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(on, ast.Call):
        on = on.func
    if isinstance(on, ast.Attribute):
        return on.attr
    return on.id if isinstance(on, ast.Name) else None
