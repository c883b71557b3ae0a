"""Markdown of strangers: words and shapes come through, and nothing that acts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.index.record import MAX_README_BYTES
from llama_marketplace.site.readme import render

from . import strict
from .making import HOSTILE, README


def test_the_shape_of_a_readme_comes_through() -> None:
    page = strict.read(
        render(
            "Title\n=====\n\nSome *words*, `code` and [a link](https://a.example/?x=1&y=2).\n\n"
            "## Next\n\n3. three\n4. four\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> said\n\n"
            "```python\nprint('<b>')\n```\n"
        ),
        strict.README,
    )
    tags = [tag for tag, _ in page.elements]
    for tag in ("em", "code", "table", "td", "blockquote", "pre", "li"):
        assert tag in tags
    assert (tags.count("h3"), tags.count("h4")) == (1, 1)  # below the headings of the page
    assert ("ol", {"start": "3"}) in page.elements
    assert page.links == ["https://a.example/?x=1&y=2"]
    assert "print('<b>')" in page.words


def test_a_hostile_readme_is_words() -> None:
    page = strict.read(render(README), strict.README)
    assert set(page.links) == {
        "https://ci.example/?a=1&b=2",
        "https://auto.example/%22onmouseover=%22evil()",
    }
    words = " ".join(page.words)
    assert "<script>evil()</script>" in words
    assert "pixel" in words
    assert "evil.example/pixel.gif" not in words
    assert "rel frag mail net" in words  # what leads nowhere from here is its text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_lines_are_words(text: str) -> None:
    strict.read(render(f"{text}\n\n# {text}\n\n[{text}]({text})\n\n`{text}`"), strict.README)


def test_what_steers_an_eye_is_gone() -> None:
    assert "\u202e" not in render("safe \u202efdp.exe") + render("`\u202e`") + render("&#x202e;")


PIECES = st.sampled_from(
    [*HOSTILE, *"[]()<>!`*_~|#-+>&:;\\\"'/= \n\t", "\n\n", "    ", "```", "http://a.example", "](",
     "javascript:", "&#x3c;", "1. ", "- ", "| a |\n|---|\n", "[r]: javascript:x\n", "x", "évil"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_whatever_is_written_makes_harmless_elements(text: str) -> None:
    strict.read(render(text), strict.README)


BOMBS = {
    "brackets": "[",
    "images": "![[",
    "quotes": ">",
    "stars": "*a **a ",
    "wide table": "a|" * 1200 + "\n" + "-|" * 1200 + "\n" + "x\n" * 30_000,
    "long table": "a|b\n-|-\n" + "|\n" * 30_000,
    "definitions": "[a\n",
}


@pytest.mark.parametrize("parts", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BOMBS)
def test_a_readme_cannot_be_a_bomb(name: str, parts: int) -> None:
    most = MAX_README_BYTES // parts
    text = (BOMBS[name] * (most // len(BOMBS[name]) + 1))[:most]
    began = time.monotonic()
    html = render(text)
    assert time.monotonic() - began < 60  # seconds; seen at 5 at most, of the longest that may be
    assert len(html) < 20 * MAX_README_BYTES


def test_a_table_of_a_thousand_rows_is_a_table() -> None:
    text = "| a | b | c |\n|---|---|---|\n" + "| 1 | 2 | 3 |\n" * 1000
    assert render(text).count("<td>") == 3000


def test_a_large_readme_is_shown_whole() -> None:
    text = "A word or two.\n\n" * (MAX_README_BYTES // 16)
    assert render(text).count("<p>") == MAX_README_BYTES // 16
