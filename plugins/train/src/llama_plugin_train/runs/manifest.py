"""The manifest that makes files a checkpoint: put last, so that it is there only when all else is.

It names every file with its digest, tells for every array which file holds which piece of it, keeps
the facts that came with the arrays, and says whose checkpoint it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from llama_core.errors import plain
from llama_plugin_train.runs.arrays import missing_cover
from llama_plugin_train.runs.faults import CheckpointError, ForeignCheckpoint
from llama_plugin_train.sealed import seal, unseal

NAME = "manifest.json"
FORMAT = "llama-train-checkpoint"
VERSION = 1
_SHOWN = 5


def make(
    step: int, facts: Mapping[str, Any], identity: Mapping[str, Any], files: list[dict[str, Any]]
) -> bytes:
    """The manifest of a step, checked for arrays that are not whole."""
    check_cover(files)
    body = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "identity": identity,
        "facts": facts,
        "files": files,
    }
    try:
        return seal(body)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the facts of a checkpoint must be JSON: {error}",
            remedy="Keep numbers that are not finite as texts, and arrays as arrays.",
        ) from error


def read(data: bytes, where: str) -> dict[str, Any]:
    """A manifest of ours, or an error that says what it is instead."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and not {"body", "sha256"} & document.keys():
        raise ForeignCheckpoint(f"{where} is not the manifest of a checkpoint of this trainer")
    body = unseal(data, where)
    if body.get("format") != FORMAT:
        raise ForeignCheckpoint(f"{where} says it is '{plain(body.get('format'))}', not '{FORMAT}'")
    if body.get("version") != VERSION:
        raise ForeignCheckpoint(
            f"{where} is of version {plain(body.get('version'))}; version {VERSION} is read here",
            remedy="Use the version of llama-plugin-train that wrote it.",
        )
    return body


def check_identity(where: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run, naming what differs."""
    if differing := list(_differences(found, wanted)):
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ForeignCheckpoint(
            f"{where} is of another run: {'; '.join(differing[:_SHOWN])}{more}",
            remedy="Resume with the configuration it was made with, or begin a new run.",
        )


def _differences(found: Any, wanted: Any, name: str = "") -> Iterable[str]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*found, *wanted}):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(found.get(key), wanted.get(key), inner)
    elif seal({"it": found}) != seal({"it": wanted}):
        yield f"{name} is {plain(found)} there and {plain(wanted)} here"


def check_cover(files: Iterable[Mapping[str, Any]]) -> None:
    """Every array must be given whole, each number once."""
    shapes: dict[str, tuple[list[int], str]] = {}
    boxes: dict[str, list[Any]] = {}
    for entry in files:
        for name, about in entry["arrays"].items():
            about_all = (about["shape"], about["kind"])
            if shapes.setdefault(name, about_all) != about_all:
                raise CheckpointError(
                    f"'{name}' is {about_all} in {entry['file']} and {shapes[name]} before it"
                )
            boxes.setdefault(name, []).append((about["offset"], about["extent"]))
    for name, given in boxes.items():
        if (why := missing_cover(tuple(shapes[name][0]), given)) is not None:
            raise CheckpointError(
                f"the ranks did not give '{name}' whole: {why}",
                remedy="Give what every rank holds from one rank only.",
            )


def frozen(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of facts that no later change reaches."""
    return deepcopy(dict(facts))
