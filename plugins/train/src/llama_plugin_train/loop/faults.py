"""Steps that go wrong: what is told, and when it is so bad that the run goes back."""

from __future__ import annotations

import math
from collections.abc import Iterator

from llama_plugin_train.loop.events import Warned
from llama_plugin_train.loop.sections import TrainSection
from llama_plugin_train.loop.state import State
from llama_plugin_train.runs.faults import RunError

_MEMORY = 0.9  # how much of the usual loss is kept at each report


class Faults:
    """What one run bears; asked at reports, for only then is the device waited for."""

    def __init__(self, told: TrainSection) -> None:
        self._told = told
        self._rollbacks = self._in_a_row = 0

    def notice(self, state: State) -> Iterator[Warned]:
        """What was skipped since the last report."""
        numbers = state.parts.guard.read()
        self._in_a_row = int(numbers["in_a_row"])
        for what, why in (
            ("overflow", "gradients were too large for fp16; the loss is scaled less"),
            ("nan", "the gradient was no number"),
            ("spike", f"the gradient was over {self._told.spike:g} times as long as usual"),
        ):
            if new := int(numbers[what] - state.watch.skipped.get(what, 0)):
                state.watch.skipped[what] = int(numbers[what])
                steps = "a step was" if new == 1 else f"{new} steps were"
                yield Warned(step=state.step, what=what, message=f"{steps} skipped: {why}")

    def unbearable(self, state: State, loss: float) -> str | None:
        """Why the run should go back, or None; then the loss counts as usual."""
        if self._in_a_row >= self._told.rollback_after:
            return f"{self._in_a_row} steps in a row were skipped"
        usual, most = state.watch.usual, self._told.loss_spike
        if most and usual is not None and loss > usual + most:
            return f"the loss rose to {loss:.4g}, from {usual:.4g} as usual"
        if math.isfinite(loss):
            known = loss if usual is None else usual
            state.watch.usual = _MEMORY * known + (1 - _MEMORY) * loss
        return None

    def count_rollback(self, why: str, step: int | None) -> None:
        """One more; an error where there is nothing to go back to, or it was done too often."""
        if step is None:
            raise RunError(
                f"{why}, and there is no checkpoint to go back to",
                remedy="Begin again with a lower rate, a longer warm-up, or earlier checkpoints.",
            )
        if self._rollbacks >= self._told.rollbacks:
            raise RunError(
                f"{why}, and the run went back as often as it may: {self._rollbacks}",
                remedy="Go on from the last checkpoint with a lower rate, or look at the data.",
            )
        self._rollbacks += 1
