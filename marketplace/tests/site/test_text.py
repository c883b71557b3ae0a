"""Text and addresses of strangers: what is taken out of them, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.site.text import address, clean


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain", "plain"),
        ("grün 日本語 עברית 👍🏽", "grün 日本語 עברית 👍🏽"),
        ("نمی\u200cخواهم 👩\u200d💻", "نمی\u200cخواهم 👩\u200d💻"),
        ("exe.\u202egpj.txt", "exe.gpj.txt"),
        ("a\u2066b\u2069c\u200fd\ufeffe\u00adf\U000e0041g", "abcdefg"),
        ("a\x00b\x1b[31mc\x7fd\x9be", "ab[31mcde"),
        ("a\nb\tc\u2028d\u00a0e", "a b c d e"),
        ("\ud800x", "x"),
    ],
)
def test_what_steers_is_taken_out_of_a_line(text: str, left: str) -> None:
    assert clean(text) == left


def test_a_text_of_several_lines_keeps_them() -> None:
    assert clean("a\r\nb\rc\td\x1b\u202e", lines=True) == "a\nb\nc\td"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_what_is_clean_stays_and_can_be_written(text: str) -> None:
    for lines in (False, True):
        once = clean(text, lines=lines)
        assert clean(once, lines=lines) == once
        once.encode()


@pytest.mark.parametrize("url", ["https://a.example/", "http://a.example:80/x?y=1&z=%20#f",
                                 "HTTPS://A.example", "https://[::1]/"])  # fmt: skip
def test_addresses_that_a_link_may_have(url: str) -> None:
    assert address(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:evil()", "JAVASCRIPT:evil()", " javascript:evil()", "java\nscript:evil()",
        "data:text/html,x", "vbscript:x", "file:///etc/passwd", "ftp://a.example/", "//a.example/",
        "/x", "x", "", None, "https://", "https:///x", "https:x", "https://good@evil.example/",
        "https://good:pw@evil.example/", "https://good.example\\@evil.example/",
        "https://a.example/\u202e", "https://a.example/ x", 'https://a.example/"x', "https://[::1",
        "https://a.example:port/", "https://a.example/<x>", "https://\u0430.example/",
    ],
)  # fmt: skip
def test_addresses_that_no_link_has(url: str | None) -> None:
    assert address(url) is None
