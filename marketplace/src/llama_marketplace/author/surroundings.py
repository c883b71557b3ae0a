"""Where a plugin is tried: a new environment that holds its wheel and nothing else of it.

The environment is made in a moment, since what the wheel depends on is lent by the one we run in:
its folders of packages come after the new one's, except for the project's own sources, and import
hooks that install in place are not lent. What runs there sees none of our settings and secrets.
"""

from __future__ import annotations

import os
import re
import sys
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

_OURS = re.compile(r"(LLAMA|PYTEST|HATCH|TWINE|AWS|GITHUB|ACTIONS)_|PYTHON", re.I)
_INSTALLERS = re.compile(r"(PIP|UV)_", re.I)  # which index, and through which proxy
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY$|^KEY", re.I)


def bare(*, network: bool = True) -> dict[str, str]:
    """Our environment variables without settings of Python and ours, and without secrets.

    Where something is to be built, the settings of installers stay.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not _OURS.match(name)
        and not _SECRET.search(name)
        and (network or not _INSTALLERS.match(name))
    }


def environment(wheel: Path, folder: Path, without: Iterable[Path] = ()) -> Path:
    """Unpack an inspected wheel into a new environment; its Python."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages_of(folder))  # its names were inspected
    lend(folder, without)
    return python_of(folder)


def lend(folder: Path, without: Iterable[Path]) -> None:
    """Let an environment import what this one can, after what it has itself."""
    hidden = {each.resolve() for each in without}
    lent = [
        str(place)
        for place in map(Path, filter(None, sys.path))
        if place.is_dir() and place.resolve() not in hidden
    ]
    # A line that is a folder is put on the path; hooks in that folder are not run.
    (packages_of(folder) / "lent.pth").write_text("\n".join(lent) + "\n", "utf-8")


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages_of(folder: Path) -> Path:
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return folder / "lib" / version / "site-packages"
