"""Patterns find what the standard library's would find, and never take long."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigurationError
from shared.guardrails.patterns import Pattern

atoms = st.sampled_from(["a", "b", "é", ".", r"\w", r"\S", "[ab]", "[^a]", r"\.", r"\b", r"\B", "^", "$"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(str.__add__, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "+?"])),
    ),
    max_leaves=8,
)


@settings(max_examples=400)
@given(patterns, st.text("abAÉé ._", min_size=1, max_size=10))
def test_it_finds_what_the_standard_library_finds(pattern: str, text: str) -> None:
    """With `$` at the very end only, letters of either case, and `.` for every character."""
    try:
        found = Pattern(pattern).found_in(text)
    except ConfigurationError:
        return  # too long once written out
    expected = re.search(pattern.replace("$", r"\Z"), text, re.IGNORECASE | re.DOTALL)
    assert found == (expected is not None)


@pytest.mark.parametrize("pattern", ["(a+)+$", r"(\w+\s*)+!", "(a|a)*b", "a?" * 30 + "a" * 30])
def test_no_text_makes_it_hang(pattern: str) -> None:
    """Each of these takes the standard library longer than the universe has existed."""
    started = time.thread_time()
    Pattern(pattern).found_in("a" * 31_999 + "-")
    assert time.thread_time() - started < 1.0


@pytest.mark.parametrize(
    "text", ["(", ")", "*a", "a**", "[a", r"(a)\1", "(?=a)", r"\Z", "a{3,1}", "a{9999999}", "", "(" * 5000]
)
def test_a_pattern_that_cannot_be_used_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Pattern(text)
