"""Where a plugin is tried: a new environment that holds its wheel and nothing else of it.

The environment is made in a moment, since what the wheel depends on is lent by the one we run in:
its folders of packages come after the new one's, without what installs in place (`.pth` files and
import hooks), and without the project's own sources. What runs there sees none of our settings and
secrets.
"""

from __future__ import annotations

import os
import re
import sys
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

_PRIVATE = re.compile(r"(LLAMA|PYTHON|PYTEST|PIP|UV|TWINE|HATCH|AWS|GITHUB|ACTIONS)_?", re.I)
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY$|^KEY", re.I)
_NETWORK = re.compile(
    r"(PIP|UV)_(INDEX_URL|EXTRA_INDEX_URL|DEFAULT_INDEX|CERT|PROXY|.*HOST)$", re.I
)


def bare(*, network: bool = True) -> dict[str, str]:
    """Our environment variables without settings of Python and ours, and without secrets.

    Where something is to be built, which index pip asks and through which proxy stays.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if (network and _NETWORK.match(name)) or not (_PRIVATE.match(name) or _SECRET.search(name))
    }


def environment(wheel: Path, folder: Path, without: Iterable[Path] = ()) -> Path:
    """Unpack an inspected wheel into a new environment; its Python."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(_packages(folder))  # its names were inspected
    lend(folder, without)
    return python_of(folder)


def lend(folder: Path, without: Iterable[Path]) -> None:
    """Let an environment import what this one can, after what it has itself."""
    hidden = [each.resolve() for each in without]
    lent = [
        str(place)
        for place in map(Path, filter(None, sys.path))
        if place.is_dir() and not any(place.resolve().is_relative_to(each) for each in hidden)
    ]
    # A line that is a folder is put on the path; hooks in that folder are not run.
    (_packages(folder) / "lent.pth").write_text("\n".join(lent) + "\n", "utf-8")


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _packages(folder: Path) -> Path:
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return folder / "lib" / version / "site-packages"
