"""A folder on the disk with all that is in it, whatever happens to the power."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_core.durable import sync_folder

PARALLEL = 8  # a disk writes many small files in hardly more time than one, if asked at once


def sync_tree(place: Path) -> None:
    """Returns when every file and folder below is there to stay."""
    tree = list(os.walk(place))
    files = [Path(folder, name) for folder, _, names in tree for name in names]
    with ThreadPoolExecutor(PARALLEL) as pool:
        asked = [pool.submit(_sync, file) for file in files]
        asked += [pool.submit(sync_folder, Path(folder)) for folder, _, _ in tree]
        for each in asked:
            each.result()


def _sync(file: Path) -> None:
    # Windows flushes only what may be written to.
    handle = os.open(file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
