"""Stop strings against a plain reading of the whole text, however it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.engine.stops import Stops

TEXT = st.text("ab", max_size=16)


def plain(text: str, strings: list[str], include: bool) -> tuple[str, str | None]:
    """Read letter by letter; the first string that is complete ends it, the longest if several."""
    for end in range(1, len(text) + 1):
        complete = [s for s in strings if text[:end].endswith(s)]
        if complete:
            stop = max(complete, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    TEXT,
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.integers(0, 16)),
    st.booleans(),
)
def test_however_the_text_is_cut(
    text: str, strings: list[str], cuts: list[int], include: bool
) -> None:
    stops, out = Stops(strings, include), ""
    places = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    for start, end in pairwise(places):
        out += stops.feed(text[start:end])
        expected, found = plain(text[:end], strings, include)
        assert stops.found == found
        assert expected.startswith(out)
        longest = max(len(s) for s in strings)
        assert found or len(expected) - len(out) < longest, "more was held back than could matter"
    out += stops.finish()
    assert (out, stops.found) == plain(text, strings, include)


def test_nothing_follows_a_stop() -> None:
    stops = Stops(["x"])
    assert stops.feed("axb") == "a"
    assert stops.feed("more") == ""
    assert stops.finish() == ""
