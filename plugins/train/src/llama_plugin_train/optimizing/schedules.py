"""How the rate goes with time: pure functions from a step to a factor of the highest rate.

Steps count from 0. Every schedule first warms up, linearly and never at 0, so that the first step
already learns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from llama_core.errors import ConfigError, did_you_mean, sentence

Name = Literal["constant", "cosine", "wsd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`wsd` warms up, stays, and decays linearly in the last `decay_steps`."""

    name: Name = "cosine"
    steps: int
    warmup_steps: int = 0
    decay_steps: int = 0
    floor: float = 0.1  # what it ends at, as a factor

    def __post_init__(self) -> None:
        names = get_args(Name)
        if self.name not in names:
            near = did_you_mean(self.name, names)
            remedy = sentence(near) if near else f"Known: {', '.join(names)}."
            raise ConfigError(f"there is no schedule '{self.name}'", remedy=remedy)
        if self.steps < 1 or self.warmup_steps < 0 or self.decay_steps < 0:
            raise ConfigError(
                f"a schedule of {self.steps} steps, {self.warmup_steps} of them warm-up and "
                f"{self.decay_steps} decay, counts backwards"
            )
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ConfigError(
                f"{self.warmup_steps} steps of warm-up and {self.decay_steps} of decay do not fit "
                f"into {self.steps}",
                remedy="Train longer, or lower schedule.warmup_steps and schedule.decay_steps.",
            )
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"a schedule ends between 0 and 1 of its rate, not at {self.floor}")

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.name == "constant":
            return 1.0
        if self.name == "cosine":
            done = _done(step, self.warmup_steps, self.steps)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
        done = _done(step, self.steps - self.decay_steps, self.steps) if self.decay_steps else 0.0
        return 1 - (1 - self.floor) * done


def _done(step: int, start: int, end: int) -> float:
    """How far a stretch of steps is done: 0 at its first, 1 at its last and from there on."""
    return min(max((step - start) / max(end - 1 - start, 1), 0.0), 1.0)
