"""Regular expressions that take time proportional to the text's length, whatever the text is.

The standard library backtracks: a text may take it exponential time, and nothing can stop it. Here
a pattern is an automaton (Thompson's, https://swtch.com/~rsc/regexp/regexp1.html) that follows all
ways at once: after each character it has the set of places in the pattern that may come next. Only
back-references and look-around are not possible. Letter case is ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.errors import ConfigurationError

_MOST_PLACES = 200  # of a pattern, once its counted repetitions are written out
_REMEMBERED = 5_000  # moves that a pattern caches
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\{(?:\d+(?:,\d*)?|,\d+)\}|.", re.DOTALL)
_BOUNDS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_LETTERS = "dDwWsSntrfv"  # after a backslash each means one character: a digit, a tab, …

Holds = Callable[[str, str], bool]  # of the character before a place and the one after; "" at the ends
_ASSERTIONS: dict[str, Holds] = {
    "^": lambda before, _: not before,
    "$": lambda _, after: not after,
    r"\b": lambda before, after: _is_word(before) != _is_word(after),
    r"\B": lambda before, after: _is_word(before) == _is_word(after),
}


@dataclass
class _Place:
    """A place in a pattern. With `takes`, it takes one character that matches. Without, it takes
    none, and is passed if `holds` is None or true here. Then one of the places `then` comes next.
    """

    takes: re.Pattern[str] | None = None
    holds: Holds | None = None
    then: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pattern:
    """A pattern that is searched for in texts. Raises ConfigurationError if it cannot be read."""

    text: str
    _places: list[_Place] = field(init=False, repr=False)
    _moves: dict[tuple[frozenset[int], str, str], frozenset[int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", _compiled(self.text))

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        states: frozenset[int] = frozenset()
        before = ""
        for after in (*text, ""):
            states = self._move(states, _kind(before), after)
            if len(self._places) in states:
                return True
            before = after
        return False

    def _move(self, states: frozenset[int], before: str, after: str) -> frozenset[int]:
        """The places that may come once the character `after` is taken, from the cache if known."""
        asked = (states, before, after)
        if asked not in self._moves:
            if len(self._moves) >= _REMEMBERED:
                self._moves.clear()
            self._moves[asked] = self._moved(*asked)
        return self._moves[asked]

    def _moved(self, states: frozenset[int], before: str, after: str) -> frozenset[int]:
        end = len(self._places)
        reached = self._reached({*states, 0}, before, after)  # a match may begin anywhere
        if end in reached:
            return frozenset({end})
        taking = (self._places[at] for at in reached)
        return frozenset(at for each in taking if after and each.takes and each.takes.fullmatch(after) for at in each.then)

    def _reached(self, left: set[int], before: str, after: str) -> set[int]:
        """These places, and those that can be reached from them without taking a character."""
        reached: set[int] = set()
        while left:
            at = left.pop()
            reached.add(at)
            if at == len(self._places):
                continue
            place = self._places[at]
            if place.takes is None and (place.holds is None or place.holds(before, after)):
                left |= set(place.then) - reached
        return reached


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _kind(char: str) -> str:
    """One character for all of a kind: assertions only ask whether it belongs to a word, so this
    keeps the cache small.
    """
    return char and ("w" if _is_word(char) else " ")


_Part = Callable[[list[_Place]], None]  # a part of a pattern: it appends its places to the list


def _compiled(text: str) -> list[_Place]:
    """The places of a pattern. It begins at 0, and ends past the last. Raises
    ConfigurationError.
    """
    refusal = ConfigurationError(
        f"The pattern {text!r} cannot be used: it is no regular expression, it uses back-references or (?…), "
        f"or it has more than {_MOST_PLACES} places once its repetitions are written out."
    )
    places: list[_Place] = []
    try:
        reader = _Reader(_TOKEN.findall(text.removeprefix("(?i)")))
        part = reader.alternatives()
        if reader.left:  # a bracket that was never opened
            raise refusal
        part(places)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise refusal from error
    if not places:
        raise refusal
    return places


class _Reader:
    """Parses the tokens of a pattern. `left` holds those that are not read yet, in reverse."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens[::-1]

    def alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._next_is("|"):
            self.left.pop()
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _either(parts)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self.left and self.left[-1] not in ("|", ")"):
            parts.append(self._repeated(self._one()))
        return _all(parts)

    def _next_is(self, *tokens: str) -> bool:
        return bool(self.left) and self.left[-1] in tokens

    def _one(self) -> _Part:
        token = self.left.pop()
        if token in ("(", "(?:"):
            inner = self.alternatives()
            if not self.left or self.left.pop() != ")":
                raise ValueError("a bracket that is never closed")
            return inner
        if token in _ASSERTIONS:
            return _asserted(_ASSERTIONS[token])
        if _bounds(token) or token in ("[", "\\") or (token[0] == "\\" and token[1:].isalnum() and token[1:] not in _LETTERS):
            raise ValueError("nothing to repeat, or no single character")
        return _taken(re.compile(token, re.IGNORECASE | re.DOTALL))

    def _repeated(self, part: _Part) -> _Part:
        bounds = _bounds(self.left[-1]) if self.left else None
        if bounds is None:
            return part
        self.left.pop()
        if self._next_is("?"):  # the lazy form finds the same
            self.left.pop()
        return _times(part, *bounds)


def _bounds(token: str) -> tuple[int, int | None] | None:
    """How often this token repeats the part before it: at least, and at most (None: no limit).
    None if it is no token of repetition.
    """
    if token[0] != "{" or len(token) == 1:
        return _BOUNDS.get(token)
    least, comma, most = token[1:-1].partition(",")
    bounds = int(least or 0), (int(most) if most else None) if comma else int(least)
    if bounds[1] is not None and bounds[1] < bounds[0]:
        raise ValueError("bounds the wrong way round")
    return bounds


def _put(places: list[_Place], place: _Place) -> _Place:
    """Append a place. Raises ValueError if there are too many."""
    if len(places) >= _MOST_PLACES:
        raise ValueError("too many places")
    places.append(place)
    return place


def _taken(atom: re.Pattern[str]) -> _Part:
    return lambda places: _put_before_next(places, _Place(takes=atom))


def _asserted(holds: Holds) -> _Part:
    return lambda places: _put_before_next(places, _Place(holds=holds))


def _put_before_next(places: list[_Place], place: _Place) -> None:
    _put(places, place)
    place.then = (len(places),)


def _all(parts: list[_Part]) -> _Part:
    def write(places: list[_Place]) -> None:
        for part in parts:
            part(places)

    return write


def _either(parts: list[_Part]) -> _Part:
    def write(places: list[_Place]) -> None:
        fork, starts, ends = _put(places, _Place()), [], []
        for part in parts:
            starts.append(len(places))
            part(places)
            ends.append(_put(places, _Place()))
        fork.then = tuple(starts)
        for end in ends:
            end.then = (len(places),)

    return write


def _times(part: _Part, least: int, most: int | None) -> _Part:
    def write(places: list[_Place]) -> None:
        for _ in range(least):
            part(places)
        forks = []
        for _ in range(1 if most is None else most - least):
            forks.append((len(places), _put(places, _Place())))
            part(places)
        if most is None:
            _put(places, _Place(then=(forks[0][0],)))
        for at, fork in forks:
            fork.then = (at + 1, len(places))

    return write
