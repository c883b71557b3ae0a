"""The folder of a site: written file by file, each whole or not at all, and nobody else's.

A folder with anything in it that this did not write is refused before the first byte. What is gone
from the index goes from the folder last, when no page leads there any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from llama_core.errors import LlamaError, plain
from llama_marketplace.index.layout import sync_all, write_whole
from llama_marketplace.trust.roles import MANY

# What every file begins with, by its ending: so that a site is known again without a list of it.
MARK = "llama marketplace site"
_BEGINNINGS = {
    ".html": f"<!DOCTYPE html>\n<!-- {MARK} -->\n".encode(),
    ".js": f"/* {MARK}".encode(),
    ".css": f"/* {MARK}".encode(),
    ".svg": f"<!-- {MARK} -->".encode(),
}
_NAMES = frozenset(
    ["index.html", "all.html", "catalogue.js", "search.js", "copy.js", "site.css", "icon.svg"]
)
PAGES = "plugins"
_PAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.html")
_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part")


class SiteFolder:
    """One folder, looked through when it is opened."""

    def __init__(self, folder: Path, num_pages: int) -> None:
        self.folder = folder.resolve()
        self._sync = num_pages < MANY
        self._before = set(_ours(self.folder)) if self.folder.exists() else set()
        self.num_written = 0

    def write(self, name: str, data: bytes) -> None:
        """A file of the site; what says the same already is left as it is."""
        file = self.folder / name
        assert _is_name(name)
        assert data.startswith(_BEGINNINGS[file.suffix])
        self._before.discard(file)
        self.num_written += write_whole(file, data, sync=self._sync)

    def finish(self) -> int:
        """Remove what was not written again; gives how many pages that were."""
        for file in self._before:
            file.unlink()
        if not self._sync:
            sync_all()
        return sum(not file.name.startswith(".") for file in self._before)


def _ours(folder: Path) -> Iterator[Path]:
    for entry in [*_scan(folder), *_scan(folder / PAGES)]:
        path = Path(entry)
        name = path.relative_to(folder).as_posix()
        if name == PAGES and entry.is_dir(follow_symlinks=False):
            continue
        if not entry.is_file(follow_symlinks=False) or not _is_written_here(path, name):
            raise LlamaError(
                f"{folder} holds '{plain(name)}', which is no part of a site made here",
                remedy="Give another --out, or take that away.",
            )
        yield path


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    with os.scandir(folder) as found:
        return sorted(found, key=lambda each: each.name)


def _is_written_here(path: Path, name: str) -> bool:
    draft = _DRAFT.fullmatch(path.name)
    if draft:  # that a killed run left: it may hold anything
        return _is_name((Path(name).parent / draft[1]).as_posix())
    if not _is_name(name):
        return False
    beginning = _BEGINNINGS[path.suffix]
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _is_name(name: str) -> bool:
    above, _, last = name.rpartition("/")
    return name in _NAMES if not above else above == PAGES and bool(_PAGE.fullmatch(last))
