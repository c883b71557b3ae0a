"""Checkpoints of a run on a storage: saved whole or not at all, checked when loaded, few kept.

A checkpoint is there when its manifest is, and that is put last; what a crash leaves without one is
no checkpoint and is swept away. One owner saves and deletes; with several ranks each writes its
parts, and the owner commits when all have.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.storage import Storage
from llama_core.errors import LlamaError
from llama_core.model.encodings import Plain
from llama_core.model.files.faults import ModelFileError
from llama_plugin_train.runs import manifest
from llama_plugin_train.runs.arrays import Held, Region, copy_overlap, give_back, hold
from llama_plugin_train.runs.faults import CheckpointError, ForeignCheckpoint
from llama_plugin_train.runs.parts import (
    Place,
    fetch_checked,
    read_description,
    read_part,
    write_parts,
)

_STEP = re.compile(r"step-(\d{10})/(.+)")


class Checkpoints:
    """All checkpoints of one run.

    `scratch` is where files are staged: on the same disk as the storage, where that is a folder.
    The newest `keep` are kept, and those whose step is a multiple of `keep_every`; none is deleted
    unless one that is kept was read back and found good. `identity` is what must be equal for a
    checkpoint to be of this run.
    """

    def __init__(
        self,
        storage: Storage,
        scratch: Path,
        *,
        keep: int = 2,
        keep_every: int = 0,
        identity: Mapping[str, Any] | None = None,
        announcements: Announcements | None = None,
    ) -> None:
        if keep < 1 or keep_every < 0:
            raise CheckpointError(
                f"cannot keep {keep} checkpoints, and each of {keep_every} steps",
                remedy="Keep at least one; 0 steps keeps no others.",
            )
        self.storage, self.scratch = storage, scratch
        self.keep, self.keep_every = keep, keep_every
        self.identity = dict(identity or {})
        self.announcements = announcements or Announcements()
        self._writing: _Writing | None = None

    # -----------------------------------------------------------------------------------------
    # Saving
    # -----------------------------------------------------------------------------------------

    def save(self, step: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Save a step; when this returns it survives a crash."""
        self.wait()
        self._save(step, hold(arrays, copy=False), facts)

    def save_async(self, step: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Copy the arrays and save the copies on a thread. What failed is raised by `wait`."""
        self.wait()
        self._refuse_again(step)
        held = hold(arrays, copy=True)
        frozen = manifest.frozen(facts)
        self._writing = _Writing(lambda: self._save(step, held, frozen))

    def wait(self) -> None:
        """Return when nothing is being saved, raising what went wrong with it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.finish()

    @property
    def saving(self) -> bool:
        """Whether a save is still under way on its thread."""
        return self._writing is not None and self._writing.under_way

    def write_part(self, step: int, rank: int, num_ranks: int, arrays: Mapping[str, Any]) -> None:
        """Put one rank's arrays or pieces; they count only once the owner has committed."""
        self._write(step, rank, num_ranks, hold(arrays, copy=False))

    def commit(self, step: int, num_ranks: int, facts: Mapping[str, Any]) -> None:
        """Make a checkpoint of what all ranks have put, and delete what need not be kept."""
        self._refuse_again(step)
        place = self._place(step)
        try:
            files = [
                entry for rank in range(num_ranks)
                for entry in read_description(place, rank, num_ranks)
            ]  # fmt: skip
            wanted = {entry["file"] for entry in files}
            for name in set(place.names()) - wanted:  # of an earlier attempt with other ranks
                self.storage.delete(f"{place.folder}/{name}")
            place.put(manifest.NAME, manifest.make(step, facts, self.identity, files))
        except (OSError, LlamaError) as error:
            raise self._failed(step, error) from error
        self._retain(step)

    def _save(self, step: int, held: Mapping[str, Held], facts: Mapping[str, Any]) -> None:
        try:
            self._write(step, 0, 1, held)
            self.commit(step, 1, facts)
        except CheckpointError:
            with suppress(LlamaError):  # `sweep` removes what cannot be removed now
                if step not in self.steps():
                    self._remove_files(step)
            raise

    def _write(self, step: int, rank: int, num_ranks: int, held: Mapping[str, Held]) -> None:
        self._refuse_again(step)
        try:
            write_parts(self._place(step), rank, num_ranks, held)
        except (OSError, LlamaError) as error:
            raise self._failed(step, error) from error

    def _refuse_again(self, step: int) -> None:
        if step in self.steps():
            raise CheckpointError(
                f"there is a checkpoint of step {step} already, and none is ever overwritten",
                remedy="Discard it first.",
            )

    def _failed(self, step: int, error: Exception) -> CheckpointError:
        if isinstance(error, CheckpointError):
            return error
        why = "; ".join(error.faults) if isinstance(error, ModelFileError) else str(error)
        if isinstance(error, OSError):
            why = error.strerror or why
        steps = self.steps()
        kept = f"The checkpoint of step {steps[-1]} is as it was" if steps else "None was there"
        return CheckpointError(
            f"cannot save the checkpoint of step {step}: {why}",
            remedy=f"{kept}; free some space or choose another place, and save again.",
        )

    # -----------------------------------------------------------------------------------------
    # Finding and loading
    # -----------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """The steps that were committed, in order; whether they are still good is not looked at."""
        found = (_STEP.fullmatch(name) for name in self.storage.list("step-"))
        return sorted(int(one[1]) for one in found if one is not None and one[2] == manifest.NAME)

    def latest(self) -> int | None:
        """The newest step, or None where nothing was saved yet; other programs' files are named."""
        if steps := self.steps():
            return steps[-1]
        foreign = [name for name in self.storage.list() if not _STEP.fullmatch(name)]
        if foreign:
            raise ForeignCheckpoint(
                f"there is no checkpoint of this trainer, but {_what(foreign)}",
                remedy="Choose an empty place for checkpoints, or the right one.",
            )
        return None

    def latest_good(self) -> int | None:
        """The newest step that passes `verify`; each damaged one before it is announced."""
        for step in reversed(self.steps()):
            faults = self.verify(step)
            if not faults:
                return step
            self.announcements.fallback(
                f"the checkpoint of step {step} cannot be used: {'; '.join(faults)}",
                remedy="The one before it is tried.",
            )
        return None

    def load(
        self, step: int, regions: Mapping[str, Region] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arrays and facts of a step: all and whole, or the regions asked for.

        Every file that is read is checked against the manifest before a number of it is used.
        """
        place = self._place(step)
        body = self._manifest(place)
        manifest.check_identity(place.folder, body["identity"], self.identity)
        about = {name: one for entry in body["files"] for name, one in entry["arrays"].items()}
        wanted = regions
        if wanted is None:
            wanted = {
                name: Region((0,) * len(one["shape"]), tuple(one["shape"]))
                for name, one in about.items()
            }
        if missing := sorted(set(wanted) - set(about)):
            raise CheckpointError(f"{place.folder} has no array named '{missing[0]}'")
        arrays = {
            name: np.empty(region.extent, Plain(about[name]["kind"]).dtype)
            for name, region in wanted.items()
        }
        for name, region in wanted.items():
            _check_region(name, region, about[name]["shape"])
        for entry in body["files"]:
            if not wanted.keys() & entry["arrays"].keys():
                continue
            for name, data in read_part(place, entry):
                if name in wanted:
                    at = tuple(entry["arrays"][name]["offset"])
                    copy_overlap(data, at, arrays[name], wanted[name].offset)
        given = {
            name: give_back(data, about[name]["kind"], about[name]["from_torch"])
            for name, data in arrays.items()
        }
        return given, dict(body["facts"])

    def verify(self, step: int) -> list[str]:
        """What is wrong with a checkpoint, each file by name; empty where it is whole."""
        place = self._place(step)
        try:
            body = self._manifest(place)
        except LlamaError as error:
            return [str(error)]
        faults = []
        for entry in body["files"]:
            try:
                with place.staging() as staged:
                    fetch_checked(place, entry, staged)
            except (LlamaError, OSError) as error:
                faults.append(str(error))
        return faults

    def _manifest(self, place: Place) -> dict[str, Any]:
        name = f"{place.folder}/{manifest.NAME}"
        body = manifest.read(place.get(manifest.NAME), name)
        if f"step-{body['step']:010}" != place.folder:
            raise ForeignCheckpoint(f"{name} is of step {body['step']}: it was moved here")
        return body

    # -----------------------------------------------------------------------------------------
    # Deleting
    # -----------------------------------------------------------------------------------------

    def discard(self, step: int) -> None:
        """Delete a checkpoint: its manifest first, so that no part of it is ever taken for one."""
        self.storage.delete(f"{self._place(step).folder}/{manifest.NAME}")
        self._remove_files(step)

    def sweep(self) -> None:
        """Remove what interrupted saves left; only while nobody saves."""
        committed = set(self.steps())
        found = [_STEP.fullmatch(name) for name in self.storage.list("step-")]
        for step in {int(one[1]) for one in found if one is not None} - committed:
            self._remove_files(step)

    def _remove_files(self, step: int) -> None:
        place = self._place(step)
        for name in place.names():
            self.storage.delete(f"{place.folder}/{name}")

    def _retain(self, step: int) -> None:
        steps = self.steps()
        kept = set(steps[-self.keep :]) | {step}
        kept |= {one for one in steps if self.keep_every and one % self.keep_every == 0}
        surplus = [one for one in steps if one not in kept]
        if not surplus:
            return
        if not any(not self.verify(one) for one in sorted(kept, reverse=True)):
            self.announcements.note(
                f"no checkpoint of the steps {sorted(kept)} could be read back whole, so none of "
                f"{surplus} is deleted",
                remedy="Check the disk.",
            )
            return
        try:
            for one in surplus:
                self.discard(one)
        except LlamaError as error:
            self.announcements.note(f"an old checkpoint could not be deleted: {error}")

    def _place(self, step: int) -> Place:
        if not 0 <= step < 10**10:
            raise CheckpointError(f"no step has the number {step}")
        return Place(self.storage, f"step-{step:010}", self.scratch)


class _Writing:
    """A save on its thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint")
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            self._error = error

    @property
    def under_way(self) -> bool:
        return self._thread.is_alive()

    def finish(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def _check_region(name: str, region: Region, shape: list[int]) -> None:
    inside = len(region.offset) == len(region.extent) == len(shape) and all(
        at >= 0 and extent >= 0 and at + extent <= whole
        for at, extent, whole in zip(region.offset, region.extent, shape, strict=True)
    )
    if not inside:
        raise CheckpointError(
            f"'{name}' has the shape {tuple(shape)}; the region at {region.offset} of shape "
            f"{region.extent} is not inside it"
        )


def _what(names: list[str]) -> str:
    """What files of other programs look like."""
    shown = f"'{names[0]}'" + (f" and {len(names) - 1} more files" if len(names) > 1 else "")
    if any(name.endswith((".pt", ".pth", ".bin", ".pkl", ".ckpt", ".distcp")) for name in names):
        return f"{shown}: pickles of torch, which are never opened here"
    if any(name.endswith("config.json") for name in names):
        return f"{shown}: a Hugging Face folder, a model to begin from and no run to resume"
    return shown
