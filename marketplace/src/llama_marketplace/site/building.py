"""A whole site out of indexes: page after page, so that ten thousand need no more room than one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from llama_core.errors import plain
from llama_marketplace.errors import RecordRefused, Untrusted
from llama_marketplace.site import rendering
from llama_marketplace.site.entries import Shelf, by_name
from llama_marketplace.site.folder import PAGES, SiteFolder
from llama_marketplace.site.listing import Listing


@dataclass(frozen=True, slots=True)
class Built:
    """What became of a site."""

    num_plugins: int
    num_written: int
    num_removed: int
    left_out: tuple[tuple[str, str], ...]  # names, and why


def build(out: Path, shelves: Sequence[Shelf], tick: Callable[[], None]) -> Built:
    """Write the site. A plugin that cannot be believed is left out, and said to be.

    An index that cannot be read to its end is an error: then nothing is removed.
    """
    names = list(by_name(shelves))
    folder = SiteFolder(out, len(names))
    listing = Listing()
    rows: list[tuple[str, str, str]] = []
    left_out: list[tuple[str, str]] = []
    with ExitStack() as reading:
        for shelf in shelves:
            reading.enter_context(shelf.reading())
        for name, shelf in names:
            tick()
            try:
                entry = shelf.entry(name)
            except (RecordRefused, Untrusted) as error:
                left_out.append((plain(name), f"{error}"))
                continue
            listing.add(entry)
            rows.append((name, entry.shown.version, entry.shown.summary))
            folder.write(f"{PAGES}/{name}.html", rendering.plugin(entry))
    if left_out and not rows:  # a site that was there is better than none
        raise Untrusted(f"no plugin can be believed; {left_out[0][0]}: {left_out[0][1]}")
    for asset in rendering.ASSETS:
        folder.write(asset, rendering.asset(asset))
    script = listing.script()
    folder.write("catalogue.js", script)
    folder.write("all.html", rendering.everything(rows))
    # Last: what it leads to is there.
    homes = [shelf.home for shelf in shelves]
    folder.write("index.html", rendering.front(homes, len(rows), script))
    return Built(len(rows), folder.num_written, folder.finish(), tuple(left_out))
