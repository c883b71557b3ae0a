"""Plugins that were installed beside this environment: one folder, appended to the path.

A generation is a folder that somebody made whole: `packages`, which is appended to `sys.path` and
so can add but never shadow, and `base`, which says of what environment it was made. The file
`current` names the one in force. This module reads them; how they are made is not known here.
Nothing of a generation is imported or run by being appended: `.pth` files in it are not read.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llama_core.announce import Announcements
from llama_core.errors import plain

VARIABLE = "LLAMA_CORE_GENERATION"  # tells child processes which one their parent uses
POINTER = "current"
WITHDRAWN = "withdrawn.json"  # what indexes took back of it since: {name: {version: why}}
BASE = "base"  # the fingerprint of the environment that it was last checked against
PACKAGES = "packages"
NONE = 0  # what the pointer says once the last generation was taken back
MAX_BYTES = 4096  # of the files that are read at every start
MAX_LIST_BYTES = 1 << 20

# What holds distributions is called so everywhere; the folder of a script, or the one that somebody
# happens to be in, may hold some as well and is no part of the environment.
_SITES = ("site-packages", "dist-packages")
_METADATA = (".dist-info", ".egg-info", ".egg-link")

_appended: Generation | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation on disk."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def packages(self) -> Path:
        return self.folder / PACKAGES


def home(prefix: str | None = None) -> Path:
    """Where the generations of an environment lie: in the user's data, by the environment's path.

    A virtual environment that moves, or another Python in the same place, is another environment.
    """
    import platformdirs

    place = os.path.realpath(prefix or sys.prefix)
    key = hashlib.sha256(f"{place}\0{sys.version_info[:2]}".encode()).hexdigest()[:16]
    data = platformdirs.user_data_dir("llama-core", appauthor=False)
    return Path(data, "environments", key)


def append(*, strict: bool = False) -> Generation | None:
    """Put the generation in force at the end of the path, once per process; None: there is none.

    What cannot be used is announced and left out: the environment is whole without it. Under
    `strict` that is an error.
    """
    global _appended
    if _appended is not None:
        return _appended
    announcements = Announcements(strict=strict)
    place = home()
    try:
        found = _inherited(place) or current(place)
        if found is None:
            return None
        if not found.packages.is_dir():
            raise ValueError(f"{found.packages} is not there")
        checked_against = _read(found.folder / BASE).strip()
    except (OSError, ValueError) as error:
        announcements.fallback(
            f"going on without the plugins of the marketplace: {plain(error, 300)}",
            remedy="`llama marketplace verify` says what is wrong, `rollback` goes back.",
        )
        return None
    if checked_against != fingerprint():
        announcements.note(
            "this environment has changed since plugins were installed beside it",
            remedy="`llama marketplace verify` says whether they still fit.",
        )
    sys.path.append(str(found.packages))
    os.environ[VARIABLE] = str(found.folder)
    _appended = found
    return found


def current(place: Path) -> Generation | None:
    """The generation that the pointer names; None where there never was one, or all was undone."""
    try:
        text = _read(place / POINTER).strip()
    except FileNotFoundError:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{place / POINTER} holds {plain(text)!r}, which names no generation")
    number = int(text)
    return None if number == NONE else Generation(place / "generations" / str(number))


def _inherited(place: Path) -> Generation | None:
    """What the parent process uses, if it is of this environment; else its word is not for us."""
    told = os.environ.get(VARIABLE)
    if not told:
        return None
    folder = Path(told)
    return Generation(folder) if folder.parent.parent == place else None


def withdrawn(name: str, version: str, location: Path | None) -> str | None:
    """Why an index has taken back what a generation holds; of anything else there is no word."""
    if _appended is None or location is None or not location.is_relative_to(_appended.packages):
        return None
    why = _withdrawn(home() / WITHDRAWN).get(name, {}).get(version)
    return None if why is None else plain(why, 200)


@lru_cache(maxsize=1)
def _withdrawn(file: Path) -> dict[str, dict[str, object]]:
    import json

    try:
        table = json.loads(_read(file, MAX_LIST_BYTES))
        if not isinstance(table, dict) or not all(isinstance(e, dict) for e in table.values()):
            raise ValueError("it holds no tables")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        Announcements().note(
            f"which plugins their indexes have taken back is not known: {file}: {plain(error)}",
            remedy="llama marketplace verify",
        )
        return {}
    return table


def base_path() -> list[str]:
    """The path of this environment, without a generation."""
    own = None if _appended is None else str(_appended.packages)
    return [each for each in sys.path if each != own]


def fingerprint() -> str:
    """Which distributions, in which versions, this environment holds without a generation."""
    names: set[str] = set()
    for place in base_path():
        if os.path.basename(place) in _SITES:
            with suppress(OSError), os.scandir(place) as entries:
                names |= {one.name for one in entries if one.name.endswith(_METADATA)}
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _read(file: Path, most: int = MAX_BYTES) -> str:
    with file.open("rb") as opened:
        return opened.read(most).decode("utf-8")
