"""A README as HTML. It is hostile text: of Markdown, it keeps words and their shape, and links.

HTML in it is text. An image is its description, since to load it would tell its host who reads.
Whatever the parser gives that is not in the list here is a fault, not a way through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from llama_marketplace.site.text import address, clean

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

REL = "noopener nofollow noreferrer ugc"
# Without `_open` and `_close`.
_KNOWN = frozenset(
    [
        *("blockquote", "bullet_list", "heading", "list_item", "ordered_list", "paragraph"),
        *("table", "tbody", "td", "th", "thead", "tr"),
        *("em", "s", "strong"),
        *("code_block", "code_inline", "fence", "hardbreak", "hr", "softbreak", "text"),
    ]
)
_BREAKS = ("softbreak", "hardbreak")
# The page has a title and headings of its own; those of the text stand below.
_DEEPER = 2


def render(text: str) -> str:
    """HTML of elements without attributes, but for links' targets and lists' first numbers."""
    parser = _parser()
    tokens = list(_harmless(parser.parse(text)))
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def _harmless(tokens: Sequence[Token]) -> Iterator[Token]:
    links: list[bool] = []  # that are open, and whether each leads anywhere
    for token in tokens:
        before, token.attrs, token.info = token.attrs, {}, ""
        token.content = clean(token.content, lines=True)  # now that no entity is left in it
        kind = token.type.removesuffix("_open").removesuffix("_close")
        if token.type == "inline":
            token.children = list(_harmless(token.children or ()))
        elif token.type == "link_open":
            target = address(str(before.get("href", "")))
            links.append(target is not None)
            if target is None:
                continue
            token.attrs = {"href": target, "rel": REL}
        elif token.type == "link_close":
            if not links.pop():
                continue
        elif token.type == "image":
            token.content = _words(token.children or ())
            token.type, token.tag, token.children = "text", "", None
        elif kind == "heading":
            token.tag = f"h{min(int(token.tag[1]) + _DEEPER, 6)}"
        elif token.type == "ordered_list_open" and "start" in before:
            token.attrs = {"start": int(before["start"])}
        elif kind not in _KNOWN:
            raise AssertionError(f"Markdown has a {token.type!r} that nobody has looked at")
        yield token


def _words(tokens: Sequence[Token]) -> str:
    return "".join(
        _words(each.children) if each.children else each.content or " " * (each.type in _BREAKS)
        for each in tokens
    )
