"""Laying a wheel's files out in a generation, and taking over what the last one has of it.

The wheel was inspected; every file is held to its digest once more while it is written. Nothing is
run, and no bytecode is made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from llama_core.errors import plain
from llama_marketplace.install.faults import InstallFailed
from llama_marketplace.wheels import Wheel
from llama_marketplace.wheels.archive import Archive

INSTALLER = "llama-marketplace\n"
Files = dict[str, tuple[str, int]]


def unpack(wheel: Wheel, packages: Path, tick: Callable[[], None] = lambda: None) -> Files:
    """Write a wheel's files; gives each with its digest and size.

    What a dependency has outside of importable files (scripts, headers, data) is left out: there is
    no place for it in a folder of modules, and a plugin's wheel has none.
    """
    files: Files = {}
    with Archive(wheel.path) as archive:
        for name in archive.names:
            path = _place(name)
            if path is None:
                continue
            content = wheel.files[name]
            target = packages / path
            if target.exists():
                raise InstallFailed(f"{plain(path)} is in two of the distributions to install")
            _write(archive, name, target, content.sha256)
            files[path] = (content.sha256, content.size)
            tick()
    path = f"{wheel.info}/INSTALLER"
    with (packages / path).open("x") as out:
        out.write(INSTALLER)
    files[path] = (hashlib.sha256(INSTALLER.encode()).hexdigest(), len(INSTALLER))
    return files


def take_over(files: Mapping[str, tuple[str, int]], old: Path, packages: Path) -> None:
    """The same files as in another generation: by a second name for each, where that can be."""
    for path in files:
        source, target = old / path, packages / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise InstallFailed(f"{plain(path)} is in two of the distributions to install")
        try:
            os.link(source, target)
        except FileNotFoundError as error:
            raise InstallFailed(
                f"{source} is gone from the generation that is in force",
                remedy="llama marketplace verify",
            ) from error
        except OSError:  # a file system without second names
            shutil.copy2(source, target)


def _write(archive: Archive, name: str, target: Path, sha256: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as out:
        for chunk in archive.chunks(name):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != sha256:
        raise InstallFailed(f"{archive.wheel} changed while it was unpacked")
    target.chmod(archive.mode(name))


def _place(name: str) -> str | None:
    """Where a file of the archive goes: modules to the top, and nowhere what is no module."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    kind, _, path = rest.partition("/")
    return path if kind in ("purelib", "platlib") and path else None
