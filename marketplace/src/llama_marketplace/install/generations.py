"""The generations of one environment on disk: read, made in a side folder, switched, pruned.

A generation is never changed once it is in place. `current` names the one in force and is replaced
in one step; whoever is killed anywhere leaves the old one or the new one, and at most a side folder
that the next one removes. Knows files; knows nothing of indexes or of what plugins need.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_core import overlay
from llama_core.durable import replace_file, sync_folder
from llama_core.errors import plain
from llama_marketplace.install.faults import Damaged, InstallFailed

log = logging.getLogger("llama_core.marketplace")

SCHEMA = 1
FACTS = "generation.json"
FILES = "files.json"
KEPT = 5  # the newest, beside the one in force and the one before it


@dataclass(frozen=True, slots=True)
class Dist:
    """One distribution in a generation: a plugin, or something that one needs."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    requires: tuple[str, ...] = ()
    plugin: str | None = None  # the plugin's name; None for what plugins need
    publisher: str | None = None
    source: str | None = None  # the index that signed for it
    url: str | None = None  # where it can be had again
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # path -> sha256, bytes


@dataclass(frozen=True, slots=True)
class Generation:
    """What `generation.json` says."""

    number: int
    parent: int
    made: str
    dists: tuple[Dist, ...] = ()

    @property
    def plugins(self) -> dict[str, Dist]:
        return {each.name: each for each in self.dists if each.plugin}

    @property
    def needed(self) -> dict[str, Dist]:
        return {each.name: each for each in self.dists if not each.plugin}


NOTHING = Generation(overlay.NONE, overlay.NONE, "")


class Generations:
    """All generations of an environment; the running one's, unless a folder is given."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = overlay.home() if home is None else home

    # ---- reading ---------------------------------------------------------------------------

    def current(self) -> Generation:
        """The generation in force; `NOTHING` where there never was one, or all was taken back."""
        try:
            found = overlay.current(self.home)
        except (OSError, ValueError) as error:
            raise Damaged(
                f"which plugins are installed cannot be told: {plain(error, 300)}",
                remedy="Go back to one that is whole: llama marketplace rollback --to NUMBER",
            ) from error
        return NOTHING if found is None else self.read(found.number)

    def read(self, number: int) -> Generation:
        """One by its number."""
        if number == overlay.NONE:
            return NOTHING
        facts = self._json(number, FACTS)
        files = self._json(number, FILES)
        try:
            if facts["schema"] != SCHEMA or facts["number"] != number:
                raise ValueError(
                    f"it says that it is {facts['number']} in schema {facts['schema']}"
                )
            dists = tuple(_dist(each, files[each["name"]]) for each in facts["dists"])
            return Generation(number, int(facts["parent"]), str(facts["made"]), dists)
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(number, plain(repr(error), 200)) from error

    def numbers(self) -> list[int]:
        """Those that are there, oldest first."""
        folder = self.home / "generations"
        names = os.listdir(folder) if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def folder(self, number: int) -> Path:
        return self.home / "generations" / str(number)

    def _json(self, number: int, name: str) -> dict[str, Any]:
        try:
            table = json.loads((self.folder(number) / name).read_bytes())
        except (OSError, ValueError) as error:
            raise self._damaged(number, f"{name} cannot be read: {plain(error, 200)}") from error
        if not isinstance(table, dict):
            raise self._damaged(number, f"{name} holds no table")
        return table

    def _damaged(self, number: int, why: str) -> Damaged:
        others = [each for each in self.numbers() if each != number]
        back = f"rollback --to {others[-1] if others else overlay.NONE}"
        return Damaged(f"generation {number} is damaged: {why}", remedy=f"llama marketplace {back}")

    # ---- changing --------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time; the lock falls with the process that holds it."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("a+b") as file:
            try:
                _lock(file.fileno())
            except OSError as error:
                raise InstallFailed(
                    "another llama marketplace is at work on this environment",
                    remedy="Wait for it to end.",
                ) from error
            yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A side folder for the next generation; gone afterwards unless it was put in place."""
        folder = self.home / "staging"
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        number = 1 + max([0, *self.numbers()])
        place = folder / str(number)
        (place / overlay.PACKAGES).mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def describe(self, place: Path, parent: int, dists: Iterable[Dist]) -> Generation:
        """Write what a staged generation is, and of what environment it was made."""
        dists = tuple(sorted(dists, key=lambda each: each.name))
        made = datetime.now(UTC).isoformat(timespec="seconds")
        new = Generation(int(place.name), parent, made, dists)
        table = {"schema": SCHEMA, "number": new.number, "parent": parent, "made": made}
        about = [{k: v for k, v in asdict(each).items() if k != "files"} for each in dists]
        written = {
            FACTS: json.dumps({**table, "dists": about}, indent=1),
            FILES: json.dumps({each.name: dict(each.files) for each in dists}),
            overlay.BASE: overlay.fingerprint() + "\n",
        }
        for name, text in written.items():
            (place / name).write_text(text, "utf-8")
        return new

    def put_in_place(self, place: Path) -> Path:
        """Make a staged generation one that can be switched to. All of it is on the disk."""
        target = self.folder(int(place.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(place, target)
        sync_folder(target.parent)
        return target

    def switch(self, number: int) -> None:
        """The one step that changes what is installed."""
        self.write(overlay.POINTER, f"{number}\n")

    def write(self, name: str, text: str) -> None:
        """Replace a file beside the generations whole."""
        replace_file(self.home / name, [text.encode()])

    def prune(self, kept: int = KEPT) -> list[int]:
        """Remove the oldest; never the one in force or the one that a rollback leads to."""
        now = self.current()
        newest = self.numbers()[-kept:] if kept else []
        gone = [n for n in self.numbers() if n not in (now.number, now.parent, *newest)]
        aside = self.home / "staging"
        try:
            for number in gone:  # out of the way in one step: half of one could be gone back to
                aside.mkdir(exist_ok=True)
                os.rename(self.folder(number), aside / f"{number}.gone")
        except OSError as error:
            log.warning("old generations are kept: %s", error)
        shutil.rmtree(aside, ignore_errors=True)
        return gone

    def accept_base(self, number: int) -> None:
        """The environment as it is now was found to fit: say no more that it has changed."""
        file = self.folder(number) / overlay.BASE
        replace_file(file, [f"{overlay.fingerprint()}\n".encode()])


def _dist(facts: Mapping[str, Any], files: Mapping[str, Any]) -> Dist:
    own: dict[str, Any] = {**facts, "requires": tuple(facts["requires"])}
    return Dist(**own, files={path: (str(sha), int(size)) for path, (sha, size) in files.items()})


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
