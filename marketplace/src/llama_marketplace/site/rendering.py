"""The pages, by Jinja: all that stands in them is escaped, and cleaned before that.

A template has no way to put a stranger's text into a page as it is; only the README comes as HTML,
from the module that makes it. Nothing here depends on when it is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from llama_marketplace.site.entries import Entry, Home
from llama_marketplace.site.readme import render as readme
from llama_marketplace.site.text import address, clean

if TYPE_CHECKING:
    import jinja2

ASSETS = ("site.css", "search.js", "copy.js", "icon.svg")


@cache
def asset(name: str) -> bytes:
    """A file that is part of every site."""
    return (files("llama_marketplace.site") / "assets" / name).read_bytes()


def front(homes: Sequence[Home], num_plugins: int, listing: bytes) -> bytes:
    """The page that searches."""
    return _page("index.html", homes=homes, num_plugins=num_plugins, catalogue=_digest(listing))


def everything(rows: Sequence[tuple[str, str, str]]) -> bytes:
    """Names, versions and summaries of all plugins, for readers without scripts."""
    return _page("all.html", rows=rows)


def plugin(entry: Entry) -> bytes:
    """The page of one plugin."""
    import markupsafe

    record = entry.shown
    trusted = markupsafe.Markup(readme(record.readme))  # noqa: S704 - made by our own hands
    return _page("plugin.html", entry=entry, record=record, readme=trusted, up="../")


def _page(name: str, **facts: Any) -> bytes:
    return _environment().get_template(name).render({"up": "", **facts}).encode()


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(files("llama_marketplace.site") / "pages")),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, markupsafe.Markup) else clean(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["address"] = address
    environment.filters["size"] = _size
    # A page that was kept by a cache goes with the files that it was made with.
    marks: Mapping[str, str] = {name: _digest(asset(name)) for name in ASSETS}
    environment.globals["marks"] = marks
    return environment


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _size(num_bytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
