"""Checkpoints of a run on its storage: who writes, when it is done, and what is read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.contracts.storage import SPEC
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.events import Checkpoint, Event, Warned
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.loop.spreading import Spread
from llama_plugin_train.loop.state import State
from llama_plugin_train.runs import CheckpointError, Checkpoints

_SKIP = (
    "From the newest that is whole: llama train --resume RUN --set checkpoints.skip_damaged=true"
)


def checkpoints(
    config: TrainConfig,
    folder: Path,
    plugins: Plugins,
    announcements: Announcements | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Checkpoints:
    """Those of the run in a folder, on the storage that its configuration names."""
    told = config.checkpoints
    options = told.options or {"root": str(folder / "checkpoints")}
    return Checkpoints(
        plugins.create(SPEC, told.storage, options),
        folder / "scratch",
        keep=told.keep,
        keep_every=told.keep_every,
        identity=identity,
        announcements=announcements,
    )


class Keeping:
    """One run's checkpoints while it runs; all ranks ask for the same at the same step."""

    def __init__(
        self,
        found: Checkpoints,
        spread: Spread,
        ranks: Ranks,
        emit: Callable[[Event], None],
        *,
        background: bool,
    ) -> None:
        self._checkpoints, self._spread, self._ranks = found, spread, ranks
        self._emit, self._background = emit, background and not spread.all_write
        self._under_way: tuple[int, str, float] | None = None

    def latest(self, *, whole: bool = False) -> int | None:
        """The newest step, the same on every rank. With `whole`, the newest that is not damaged;
        damaged ones after it are deleted, for their steps are saved again."""
        newest = self._checkpoints.latest() if self._ranks.first else None
        if whole and newest is not None:
            good = self._checkpoints.latest_good()
            for step in self._checkpoints.steps():
                if good is None or step > good:
                    self._checkpoints.discard(step)
            newest = good
        found: int | None = self._ranks.agree(newest)
        return found

    def save(self, state: State, reason: str, *, wait: bool = False) -> None:
        """Save a step unless it is saved. In the background where the configuration says so; what
        goes wrong there is told by `settle`, and otherwise raised."""
        self.settle(wait=True)
        if self._ranks.agree(self._ranks.first and state.step in self._checkpoints.steps()):
            return
        began = time.perf_counter()
        given, facts = self._spread.saved(state.arrays()), state.facts()
        if self._spread.all_write:
            self._write_together(state.step, given, facts)
        elif self._ranks.first and self._background and not wait:
            self._checkpoints.save_async(state.step, given, facts)
            self._under_way = (state.step, reason, began)
            return
        elif self._ranks.first:
            self._checkpoints.save(state.step, given, facts)
        self._done(state.step, reason, began)

    def save_if_possible(self, state: State, reason: str) -> None:
        """Save, and tell where that fails: a run does not end over a disk that is full for now."""
        try:
            self.save(state, reason)
        except LlamaError as error:
            self._emit(Warned(step=state.step, what="checkpoint", message=str(error)))

    def _write_together(
        self, step: int, given: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        """Every rank its part, then the first the manifest; where one fails, all do."""
        rank, count = self._ranks.rank, self._ranks.count
        acts = [lambda: self._checkpoints.write_part(step, rank, count, given)]
        acts.append(lambda: self._checkpoints.commit(step, count, facts) if rank == 0 else None)
        for act in acts:
            fault = None
            try:
                act()
            except LlamaError as error:
                fault = error
            if self._ranks.most(fault is not None):
                raise fault or CheckpointError(f"another rank could not save step {step}")

    def settle(self, *, wait: bool = False) -> None:
        """Tell of a save in the background that has ended; with `wait`, see it end first."""
        if self._under_way is None or (self._checkpoints.saving and not wait):
            return
        (step, reason, began), self._under_way = self._under_way, None
        try:
            self._checkpoints.wait()
        except LlamaError as error:
            self._emit(Warned(step=step, what="checkpoint", message=str(error)))
        else:
            self._done(step, reason, began)

    def load(self, state: State, step: int) -> dict[str, Any]:
        """Make a state that of a checkpoint, whose facts are given back; the data stays where it
        is."""
        try:
            _, facts = self._checkpoints.load(step, {})
            like = state.like(facts)
            arrays, facts = self._checkpoints.load(step, self._spread.regions(like))
        except LlamaError as error:  # of the storage, or of what was in it
            error.remedy = error.remedy or _SKIP
            raise
        state.take(self._spread.received(like, arrays), facts)
        return facts

    def _done(self, step: int, reason: str, began: float) -> None:
        took = time.perf_counter() - began
        self._emit(Checkpoint(step=step, location=f"step-{step:010}", seconds=took, reason=reason))
