"""The words and patterns that the operator allows in no prompt."""

import asyncio
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.guardrails.findings import Finding
from shared.guardrails.patterns import Pattern


@dataclass(frozen=True)
class Keywords:
    """`words` are words or phrases; `patterns` maps names to regular expressions. Letter case,
    width and invisible characters make no difference. Raises ConfigurationError for a pattern that
    cannot be read.
    """

    words: Iterable[str]
    patterns: Mapping[str, str]
    _words: Mapping[str, str] = field(init=False, repr=False)
    _patterns: Mapping[str, Pattern] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_words", {plain(each).casefold(): each for each in self.words})
        object.__setattr__(self, "_patterns", {name: Pattern(text) for name, text in self.patterns.items()})

    async def check(self, prompt: str) -> Finding | None:
        """The first word or pattern found, or None. It may take seconds, so it runs in a thread."""
        return await asyncio.to_thread(self._find, plain(prompt))

    def _find(self, prompt: str) -> Finding | None:
        folded = prompt.casefold()
        word = next((shown for word, shown in self._words.items() if has_word(folded, word)), None)
        if word is not None:
            return Finding("blocked_words", f"it holds '{word}'")
        name = next((name for name, pattern in self._patterns.items() if pattern.found_in(prompt)), None)
        return None if name is None else Finding("patterns", f"it matches '{name}'")


def plain(text: str) -> str:
    """The text in one spelling: compatible forms alike (NFKC), no invisible characters, one space
    between words.
    """
    visible = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return " ".join("".join(visible).split())


def has_word(text: str, word: str) -> bool:
    """Whether a text holds a word as a whole, and not as a part of a longer one."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not _joined(text[at - 1 : at], word[:1]) and not _joined(word[-1:], text[end : end + 1]):
            return True
        at = text.find(word, at + 1)
    return False


def _joined(one: str, other: str) -> bool:
    """Whether two neighbouring characters are in one word. Chinese and Japanese have no spaces
    between words, so any of their characters may begin a word.
    """
    return all(char.isalnum() and unicodedata.east_asian_width(char) not in "WF" for char in (one, other))
