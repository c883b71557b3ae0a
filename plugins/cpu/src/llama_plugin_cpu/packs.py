"""The packed weights that are kept: what they are, whether they are sound, and away with them.

    python -m llama_plugin_cpu.packs list
    python -m llama_plugin_cpu.packs check
    python -m llama_plugin_cpu.packs clear

`check` reads every byte, of the packed files and of the models that they were made of: what loading
takes on trust from times and sizes is compared by digest here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_core.model.origin import Stamp
from llama_plugin_cpu.cache import Cache, digest, is_unchanged, settings
from llama_plugin_cpu.packfile import Pack, PackFault


def about(path: Path, *, read: bool) -> dict[str, Any]:
    """One file: its size, the models in it, and what is wrong; with `read`, by every byte."""
    found: dict[str, Any] = {"file": str(path), "bytes": 0, "models": [], "faults": []}
    try:
        found["bytes"], used_ns = path.stat().st_size, path.stat().st_atime_ns
        pack = Pack(path)
        pack.touch(used_ns)  # to look at it is not to use it
        files = [Stamp(*one) for one in pack.index["files"]]
        found["models"] = [one.path for one in files]
        if read:
            found["faults"] = [*pack.faults(), *_model_faults(files, pack.index["digests"])]
    except (PackFault, OSError, ValueError, KeyError, TypeError) as error:
        found["faults"].append(str(error))
    return found


def damaged(cache: Cache) -> list[str]:
    """What is wrong with the files, by every byte. Their seals are broken, so that the next load
    makes them anew."""
    found = []
    for path in cache.paths():
        faults = about(path, read=True)["faults"]
        if faults:
            with contextlib.suppress(OSError):
                os.utime(path)
        found += [f"{path}: {fault}; the next load makes it anew" for fault in faults]
    return found


def _model_faults(files: list[Stamp], digests: dict[str, str]) -> list[str]:
    faults = []
    for file in files:
        if not is_unchanged(file):
            faults.append(f"{file.path} has changed or gone since: the next load packs it anew")
        elif digest(file.path) != digests.get(file.path):
            faults.append(f"{file.path} holds other bytes than it did, under the same times")
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    plain = argparse.RawDescriptionHelpFormatter
    name = "python -m llama_plugin_cpu.packs"
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=plain)
    parser.add_argument("what", choices=("list", "check", "clear"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    try:
        cache = Cache(*settings("auto", 0))
    except LlamaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    facts: dict[str, Any] = {"folder": None if cache.folder is None else str(cache.folder)}
    if given.what == "clear":
        facts["freed_bytes"] = cache.clear()
    else:
        facts["packs"] = [about(path, read=given.what == "check") for path in cache.paths()]
    text = json.dumps(facts, indent=2) if given.json else "\n".join(_lines(facts))
    sys.stdout.write(f"{text}\n")
    return int(any(one["faults"] for one in facts.get("packs", ())))


def _lines(facts: dict[str, Any]) -> list[str]:
    if "freed_bytes" in facts:
        return [f"{facts['freed_bytes']:,} bytes freed in {facts['folder']}"]
    lines = []
    for one in facts["packs"]:
        lines.append(f"{one['file']}: {one['bytes']:,} bytes of {', '.join(one['models'])}")
        lines += [f"  {fault}" for fault in one["faults"]]
    return lines or [f"no packed weights in {facts['folder']}"]


if __name__ == "__main__":
    sys.exit(main())
