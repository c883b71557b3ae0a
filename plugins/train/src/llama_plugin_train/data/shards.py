"""Shards: tokens in safetensors files, mapped into memory, under a manifest with their digests.

A shard holds `tokens`, `ends` (where each document ends) and, where not all is to be learnt,
`weights`. Every byte is checked against the manifest when shards are opened, and a file that is
written to afterwards is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.model.files.safetensors import SafetensorsFile, write
from llama_core.model.weights import tensor
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.sealed import DamagedError, digest_of, digest_of_file, read_sealed

MANIFEST = "manifest.json"
FORMAT, VERSION = "llama-train-shards", 1

Tokens = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], None]  # bytes done, bytes in all


class Shards:
    """A tokenized corpus. `about` is its manifest."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder
        self.about = read_manifest(folder)
        self.name: str = self.about["name"]
        self.digest = digest_of(self.about)
        self.num_tokens: int = self.about["tokens"]
        self.num_documents: int = self.about["documents"]
        if faults := self.verify(progress):
            raise DamagedError(
                "; ".join(faults), remedy=f"Remove {folder}; it is made again from its sources."
            )
        self._files = [SafetensorsFile(folder / one["file"]) for one in self.about["shards"]]
        self.tokens = [file.array("tokens") for file in self._files]
        self.ends = [file.array("ends") for file in self._files]
        self.weights = [
            file.array("weights") if "weights" in file.entries else None for file in self._files
        ]

    def verify(self, progress: Progress | None = None) -> list[str]:
        """What is wrong with the files, each by name."""
        faults, done = [], 0
        total = sum(one["bytes"] for one in self.about["shards"])
        for one in self.about["shards"]:
            path = self.folder / one["file"]
            try:
                if (size := path.stat().st_size) != one["bytes"]:
                    faults.append(f"{path} is damaged: it has {size} of {one['bytes']} bytes")
                elif digest_of_file(path) != one["sha256"]:
                    faults.append(f"{path} is damaged or was changed: its digest is another")
            except OSError as error:
                faults.append(f"cannot read {path}: {error.strerror}")
            done += one["bytes"]
            if progress is not None:
                progress(done, total)
        return faults

    def check(self) -> None:
        """Raise where a shard was written to since it was opened."""
        for file in self._files:
            file.array("ends")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says it holds, itself unharmed."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no shards: there is no {MANIFEST}")
    body = read_sealed(path)
    if body.get("format") != FORMAT or body.get("version") != VERSION:
        raise DataError(f"{path} is no manifest of shards in version {VERSION}")
    return body


class ShardWriter:
    """Writes shards into a folder, each when enough tokens are there."""

    def __init__(self, folder: Path, vocab_size: int, shard_tokens: int) -> None:
        self._folder, self._limit = folder, shard_tokens
        self._dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        self._tokens: list[Tokens] = []
        self._weights: list[Tokens] = []
        self._ends: list[Tokens] = []
        self._held = 0
        self._open = False  # whether the last document held goes on
        self._all_learnt = True
        self.shards: list[dict[str, Any]] = []

    def add(self, tokens: Tokens, weights: Tokens | None, ends: Tokens) -> None:
        """Append. A document still open goes on in the next call; one that is longer than a shard
        is cut, and no other where its end is known."""
        while self._held + len(tokens) > self._limit:
            fitting = ends[ends <= self._limit - self._held]
            if len(fitting):
                cut = int(fitting[-1])
            elif self._held and not self._open:
                cut = 0
            else:
                cut = self._limit - self._held
            self._append(tokens[:cut], None if weights is None else weights[:cut], fitting)
            self.flush()
            tokens, ends = tokens[cut:], ends[len(fitting) :] - cut
            weights = None if weights is None else weights[cut:]
        self._append(tokens, weights, ends)

    def _append(self, tokens: Tokens, weights: Tokens | None, ends: Tokens) -> None:
        if not len(tokens):
            return
        self._open = not len(ends) or ends[-1] != len(tokens)
        self._tokens.append(tokens.astype(self._dtype))
        self._ends.append(ends + self._held)
        self._held += len(tokens)
        self._all_learnt &= weights is None
        self._weights.append(np.ones(len(tokens), np.uint8) if weights is None else weights)

    def flush(self) -> None:
        """Write what is held; a document still open is cut there."""
        if not self._held:
            return
        ends = np.concatenate(self._ends)
        if not len(ends) or ends[-1] != self._held:
            ends = np.append(ends, self._held)
        ends = np.unique(ends[ends > 0])
        arrays = {"tokens": np.concatenate(self._tokens), "ends": ends}
        if not self._all_learnt:
            arrays["weights"] = np.concatenate(self._weights)
        path = self._folder / f"shard-{len(self.shards):05}.safetensors"
        write(path, {name: tensor(one) for name, one in arrays.items()}, {})
        self.shards.append(
            {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": digest_of_file(path),
                "tokens": self._held,
                "documents": len(ends),
            }
        )
        self._tokens, self._weights, self._ends = [], [], []
        self._held, self._all_learnt = 0, True
