"""Shards on a storage: kept there once made, fetched where they are needed.

The manifest is put last, so shards that are on a storage are there whole.
"""

from __future__ import annotations

from pathlib import Path

from llama_core.contracts.storage import Storage
from llama_core.model.files.save_folder import new_place
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.data.shards import MANIFEST, Shards, read_manifest


def keep(shards: Shards, storage: Storage, name: str) -> None:
    """Put shards under a name, which must be free."""
    if f"{name}/{MANIFEST}" in storage.list(f"{name}/"):
        raise DataError(f"there are shards named '{name}' already", remedy="Choose another name.")
    for one in shards.about["shards"]:
        storage.put(shards.folder / one["file"], f"{name}/{one['file']}")
    storage.put(shards.folder / MANIFEST, f"{name}/{MANIFEST}")


def fetch(storage: Storage, name: str, folder: Path) -> Shards:
    """Bring shards into a new folder, which is there whole or not at all."""
    with new_place(folder) as part:
        part.mkdir()
        storage.get(f"{name}/{MANIFEST}", part / MANIFEST)
        for one in read_manifest(part)["shards"]:
            storage.get(f"{name}/{one['file']}", part / one["file"])
    return Shards(folder)
