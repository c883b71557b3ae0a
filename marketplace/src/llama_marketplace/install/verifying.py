"""Whether what is installed is what was installed, and still fits what it lies beside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from llama_core import overlay
from llama_core.errors import LlamaError, plain
from llama_marketplace.install.base import Base, Need, Offer, reach
from llama_marketplace.install.generations import Generation, Generations


def problems(
    generations: Generations, base: Base, tick: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Everything that is wrong with the generation in force, a line each."""
    now = generations.current()
    if now.number == overlay.NONE:
        return
    site = generations.folder(now.number) / overlay.PACKAGES
    yield from _files(now, site, tick)
    yield from _needs(now, base)


def missing(found: Generation, site: Path) -> str | None:
    """The first file that is not there or has another size; quick, for before a rollback."""
    for dist in found.dists:
        for path, (_, size) in dist.files.items():
            try:
                there = (site / path).stat().st_size
            except OSError:
                return path
            if there != size:
                return path
    return None


def _files(now: Generation, site: Path, tick: Callable[[], None]) -> Iterator[str]:
    known: set[str] = set()
    for dist in now.dists:
        for path, (sha256, size) in dist.files.items():
            known.add(path)
            wrong = _wrong(site / path, sha256, size)
            if wrong:
                yield f"{dist.name}: {path} {wrong}"
        tick()
    for folder, folders, names in os.walk(site):
        links = [each for each in folders if Path(folder, each).is_symlink()]
        folders[:] = [each for each in folders if each != "__pycache__"]
        for name in (*names, *links):
            path = Path(folder, name).relative_to(site).as_posix()
            if path not in known:
                yield f"{plain(path, 200)} belongs to nothing that was installed"


def _wrong(file: Path, sha256: str, size: int) -> str | None:
    try:
        if file.is_symlink():
            return "is a link now"
        if file.stat().st_size != size:
            return f"has {file.stat().st_size} bytes, and {size} were installed"
        with file.open("rb") as opened:
            same = hashlib.file_digest(opened, "sha256").hexdigest() == sha256
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if same else "was changed since it was installed"


def _needs(now: Generation, base: Base) -> Iterator[str]:
    offers = {d.name: Offer(d.version, tuple(map(Requirement, d.requires))) for d in now.dists}
    here = base.versions()
    for dist in now.dists:
        if dist.name in here:
            what = f"{dist.name} {here[dist.name]} is in the environment too and is the one in use"
            yield f"{what}: uninstall one of the two"
    for dist in now.dists:
        try:
            reached = reach([Need("you", Requirement(dist.name))], base, offers)
        except LlamaError as error:
            yield str(error)
            continue
        for need in reached.missing:
            yield f"{need.by} needs {need.requirement}, which is not here"
