"""What a client does in a crash run."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.trials.crash.stage import Stage
from tests.trials.crash.terms import Terms

Act = Callable[[Stage, Any], Awaitable[Any]]
"""A stage, and the value of the part before."""


@dataclass(frozen=True)
class Story(Terms):
    """`act` happens with an app that dies. Three other parts are optional:

    before   happens first, with an app that lives, or dies at the point `dies_at` at the end of
             it; then the client of `act` does not repeat its requests
    between  happens after `before`, while no app runs
    check    returns what is wrong at the end, beside what `tests.trials.crash.check` finds
    """

    name: str
    act: Act
    before: Callable[[Stage], Awaitable[Any]] | None = None
    dies_at: str | None = None
    between: Act | None = None
    check: Callable[[Stage], Awaitable[list[str]]] | None = None
