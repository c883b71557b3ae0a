"""The folder of a run: all that is needed to make it again, and what came of it.

    run.json        configuration, seeds, versions, digests of the data; sealed, written once
    metrics.jsonl   a line for each measured step
    changes.jsonl   what was changed while it ran
    checkpoints/    a `folder` storage, unless another was named
    model/          the export, made by others
    scratch/        staging; emptied when the run is opened

One process owns a run at a time; a second is refused while the first lives.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.durable import replace_file
from llama_plugin_train.runs.changes import Changes
from llama_plugin_train.runs.faults import RunError
from llama_plugin_train.runs.journal import Journal
from llama_plugin_train.sealed import read_sealed, seal

FORMAT, VERSION = "llama-train-run", 1
_NAMED = ("llama-core", "llama-plugin-train", "torch", "numpy", "tokenizers", "safetensors")


class RunDirectory:
    """One run's folder, held by this process until it is closed."""

    def __init__(self, path: Path, announcements: Announcements | None = None) -> None:
        """Open a run that is there; `create` makes a new one."""
        self.path = path
        self.announcements = announcements or Announcements()
        if not (path / "run.json").is_file():
            raise RunError(
                f"{path} holds no run: there is no run.json",
                remedy="Name the folder of a run, or begin a new one.",
            )
        self.facts = _checked(read_sealed(path / "run.json"), path)
        self._lock = _Lock(path / "lock")
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.metrics = Journal(path / "metrics.jsonl", announcements=self.announcements)
        log = Journal(path / "changes.jsonl", durable=True, announcements=self.announcements)
        self._changes_journal = log
        self.changes = Changes(log)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        config: Mapping[str, Any],
        seeds: Mapping[str, int],
        sources: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        announcements: Announcements | None = None,
    ) -> RunDirectory:
        """Make a new run. `sources` are digests by name; `files` are texts to keep beside run.json,
        the configuration as it was written, say."""
        if _never_trained(path):
            _Lock(path / "lock").release()  # or another process is about to
            if announcements is not None:
                announcements.note(f"{path} holds a run that never took a step: it begins anew")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(
                f"{path} is there already and not empty",
                remedy="Resume it, or choose another folder for a new run.",
            )
        body = {
            "format": FORMAT,
            "version": VERSION,
            "config": config,
            "seeds": seeds,
            "sources": sources,
            "versions": versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, text in (files or {}).items():
                replace_file(path / name, [text.encode()])
            replace_file(path / "run.json", [seal(body)])
        except (TypeError, ValueError) as error:
            raise RunError(f"the configuration of a run must be JSON: {error}") from error
        except OSError as error:
            raise RunError(f"cannot make the run {path}: {error.strerror}") from error
        return cls(path, announcements)

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def checkpoints(self) -> Path:
        """The root of the storage of checkpoints, where no other is named."""
        return self.path / "checkpoints"

    def close(self) -> None:
        self.metrics.close()
        self._changes_journal.close()
        self._lock.release()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def changed_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """The packages that are not as they were when the run began: then and now."""
        then, now = self.facts["versions"], versions()
        names = sorted({*then, *now})
        pairs = {name: (then.get(name), now.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def resumed(self, step: int) -> None:
        """Tell the metrics that what follows was measured after going back to a step."""
        self.metrics.append({"resumed_at": step})


def _never_trained(path: Path) -> bool:
    """Whether a run was begun there and refused, for its texts say, before its first step."""
    later = ("metrics.jsonl", "changes.jsonl", "checkpoints", "model")
    return (path / "run.json").is_file() and not any((path / one).exists() for one in later)


def effective(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Metrics as if the run had never been interrupted: what was gone back over counts once."""
    kept: list[Mapping[str, Any]] = []
    for record in records:
        if "resumed_at" in record:
            step = record["resumed_at"]
            kept = [one for one in kept if one.get("step", step) <= step]
        else:
            kept.append(record)
    yield from kept


def versions() -> dict[str, str]:
    """What the arithmetic of a run depends on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _checked(body: dict[str, Any], path: Path) -> dict[str, Any]:
    if body.get("format") != FORMAT or body.get("version") != VERSION:
        raise RunError(
            f"{path}/run.json is no description of a run in version {VERSION}",
            remedy="Use the version of llama-plugin-train that wrote it.",
        )
    return body


class _Lock:
    """A lock that ends with the process that holds it, however that ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        try:
            _take(self._file.fileno())
        except OSError as error:
            self._file.close()
            raise RunError(
                f"the run in {path.parent} is in use by another process",
                remedy="Stop that process first, with `llama train stop`.",
            ) from error

    def release(self) -> None:
        self._file.close()


def _take(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
