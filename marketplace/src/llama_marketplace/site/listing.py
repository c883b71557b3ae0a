"""What the page of all plugins searches: one script that is data, read without a server too.

A page that was opened as a file may not fetch one, and may load a script beside it. A row is what
stands in `search.js` in the same order; what is empty at its end is left out. Texts are cleaned,
and escaped so that they are the same in any character set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_marketplace.index.catalogue import summarize
from llama_marketplace.site.entries import Entry
from llama_marketplace.site.folder import MARK
from llama_marketplace.site.text import clean

STATUSES = ("active", "deprecated", "yanked", "quarantined")


class Table:
    """Texts that many rows share, by number; number 0 is none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def __call__(self, text: str | None) -> int:
        return self._numbers.setdefault(clean(text or ""), len(self._numbers))

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)


class Listing:
    """The rows, one added after the other."""

    def __init__(self) -> None:
        self._publishers, self._licences, self._places = Table(), Table(), Table()
        self._rows: list[list[Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, entry: Entry) -> None:
        """A plugin, as the version that speaks for it has it."""
        shown = entry.shown
        (offered,) = summarize([shown], verified=entry.verified).versions
        devices = sorted({name for name in ("cuda", "rocm") for each in offered.devices
                          if each.startswith(name)})  # fmt: skip
        row: list[Any] = [
            shown.name,
            shown.version,
            clean(shown.summary),
            self._publishers(shown.publisher),
            int(entry.verified),
            self._licences(shown.licence),
            shown.published.date().isoformat(),
            [f"{each.kind}:{each.name}" for each in shown.provides],
            [self._places(each) for each in offered.platforms],
            devices,
            *_tried(entry),
            STATUSES.index(shown.status.status),
            clean(shown.status.reason or ""),
        ]
        self._rows.append(_without_empty_end(row))

    def script(self) -> bytes:
        """The file."""
        table = {
            "publishers": self._publishers.texts,
            "licences": self._licences.texts,
            "places": self._places.texts,
            "statuses": STATUSES,
            "plugins": self._rows,
        }
        text = json.dumps(table, ensure_ascii=True, separators=(",", ":"))
        text = text.replace("<", "\\u003c")  # no script ends in it, were it ever put into a page
        return f"/* {MARK}: all plugins */\nconst CATALOGUE={text};\n".encode("ascii")


def _tried(entry: Entry) -> tuple[str, str, int]:
    newest = next(iter(entry.tried), None)
    return (newest.core, newest.date.isoformat(), newest.failed) if newest else ("", "", 0)


def _without_empty_end(row: Sequence[Any]) -> list[Any]:
    kept = list(row)
    while not kept[-1]:
        kept.pop()
    return kept
