"""An index does not grow for ever, and who reads while it shrinks is not disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llama_marketplace.publish.pruning import prune
from llama_marketplace.sources import Source
from operating import Operator, record

NAME = "llama-plugin-min-p"
DAY = timedelta(days=1)


def age(folder: Path, days: float) -> None:
    """All of it was written some days ago."""
    then = time.time() - days * DAY.total_seconds()
    for file in folder.rglob("*"):
        os.utime(file, (then, then))


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_what_was_replaced_long_ago_goes_and_the_rest_still_reads(
    operator: Operator, serve: Any, source_of: Callable[..., Source]
) -> None:
    for minor in range(3):
        operator.publish(record(version=f"1.{minor}.0"))
    age(operator.folder, 3)
    now = datetime.now(UTC)
    assert prune(operator.open().layout, now - DAY) > 6
    assert prune(operator.open().layout, now - DAY) == 0
    source = source_of(serve(operator.folder), operator.root)
    assert source.refresh().changed
    assert len(source.releases(NAME)) == 3
    operator.publish(record(version="2.0.0"))
    source.refresh()
    assert source.releases(NAME)[0].version == "2.0.0"


def test_who_began_before_the_last_change_can_end(operator: Operator) -> None:
    """A moment that stood for days was replaced a second ago: all of it is still there."""
    operator.publish(record())
    age(operator.folder, 3)
    prune(operator.open().layout, datetime.now(UTC) - DAY)
    before = names(operator.folder / "metadata") | names(operator.folder / "targets")
    operator.publish(record(version="1.1.0"))
    prune(operator.open().layout, datetime.now(UTC) - DAY)
    after = names(operator.folder / "metadata") | names(operator.folder / "targets")
    assert before <= after
