"""What indexes have taken back of what is installed, written down for every later start.

The core reads the list and keeps those plugins out; it asks no index itself. Yanked and deprecated
versions are not on it: they go on working, and `verify` and `update` speak of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llama_core import overlay
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_marketplace.index.record import Record
    from llama_marketplace.install.generations import Dist, Generations
    from llama_marketplace.sources import Source

log = logging.getLogger("llama_core.marketplace")


def released(
    dists: Iterable[Dist], sources: Iterable[Source]
) -> Iterator[tuple[Dist, tuple[Record, ...]]]:
    """What each plugin's own index has of it now, as far as that is known here."""
    by_name = {each.name: each for each in sources}
    for dist in dists:
        source = by_name.get(dist.source or "")
        if source is None:
            log.warning("%s is of index '%s', which is not trusted", dist.name, dist.source)
            continue
        try:
            found = source.releases(dist.name)
        except LlamaError as error:
            log.warning("what '%s' says of %s is not known: %s", source.name, dist.name, error)
            continue
        yield dist, found


def write_down(generations: Generations, sources: Sequence[Source]) -> None:
    """Bring the list up to date, if an index was asked since; what is unknown stays as it was."""
    file = generations.home / overlay.WITHDRAWN
    asked = [at for each in sources if (at := each.refreshed) is not None]
    if not asked or _written(file) > max(asked):
        return
    now = generations.current()
    if not now.plugins:
        return
    table = _read(file)
    for dist, releases in released(now.plugins.values(), sources):
        # All versions: a rollback may lead to any of them.
        table[dist.name] = {
            each.version: each.status.reason or ""
            for each in releases
            if each.status.status == "quarantined"
        }
    generations.write(overlay.WITHDRAWN, json.dumps(table, indent=1))


def _written(file: Path) -> datetime:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return datetime.min.replace(tzinfo=UTC)


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        table = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}  # made anew below, of all that is installed
    return {name: one for name, one in table.items() if isinstance(one, dict)}
