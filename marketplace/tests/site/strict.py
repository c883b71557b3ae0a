"""Reads a page of the site, and says of every element whether it may be there at all."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

PLAIN = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "li", "table", "thead", "tbody", "tr", "td",
         "blockquote", "pre", "em", "strong", "s", "hr", "br", "dt", "dd", "b", "code"}  # fmt: skip
# element -> what it may have; of a README, nothing but the first set may be there
README: dict[str, set[str]] = {each: set() for each in PLAIN | {"th"}}
README |= {"a": {"href", "rel"}, "ol": {"start"}}
WORD = {"class", "id", "dir", "hidden", "tabindex", "role", "aria-label", "aria-labelledby"}
PAGE = {
    **dict.fromkeys(PLAIN, WORD),
    **dict.fromkeys(
        ["html", "head", "title", "body", "header", "main", "section", "article", "div", "dl",
         "span", "details", "summary", "nav", "footer", "noscript", "form", "label", "select",
         "option", "button"],
        WORD | {"lang", "open", "for", "name", "value", "type"},
    ),
    "a": {"href", "rel", "class"},
    "th": {"scope"},
    "ol": {"start"},
    "meta": {"charset", "name", "content", "http-equiv"},
    "link": {"rel", "type", "href"},
    "script": {"src", "defer"},
    "input": {"id", "name", "type", "value", "autocomplete", "spellcheck", "maxlength",
              "aria-keyshortcuts", "aria-describedby"},
}  # fmt: skip
VOID = {"meta", "link", "input", "br", "hr"}


class Strict(HTMLParser):
    """Fails on whatever is not listed; keeps the words and the links."""

    def __init__(self, allowed: dict[str, set[str]]) -> None:
        super().__init__()
        self.allowed = allowed
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.allowed, tag
        assert {name for name, _ in attrs} <= self.allowed[tag], (tag, attrs)
        found = dict(attrs)
        if tag == "a":
            self._see_link(found)
        self.elements.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            assert not self.open or self.open[-1] != "script", data
            self.words.append(" ".join(data.split()))

    def handle_comment(self, data: str) -> None:
        assert data == " llama marketplace site "

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)

    def _see_link(self, found: dict[str, str | None]) -> None:
        target = found["href"] or ""
        self.links.append(target)
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme in ("http", "https")
            assert parts.hostname
            assert {"noopener", "nofollow"} <= set((found["rel"] or "").split())
        else:
            assert not parts.netloc


def read(html: str, allowed: dict[str, set[str]] = PAGE) -> Strict:
    page = Strict(allowed)
    page.feed(html)
    page.close()
    assert page.open == []
    return page
