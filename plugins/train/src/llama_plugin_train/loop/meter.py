"""What the steps between two reports gave and took: losses, and where the seconds went.

Losses are added up where they are; only a report waits for the device.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from llama_plugin_train.loop.events import Times
from llama_plugin_train.loop.ranks import Ranks

_PHASES = ("data", "forward", "backward", "optimizer")


class Meter:
    """Sums since the last report; with several `data_ranks`, others have losses of their own."""

    def __init__(self, device: torch.device, ranks: Ranks, data_ranks: int) -> None:
        self._ranks, self._apart = ranks, data_ranks > 1
        self._nll = torch.zeros((), device=device)
        self._last = torch.zeros((), device=device)
        self.norm = torch.zeros((), device=device)
        self.weight = self.last_weight = 0.0
        self.begin()

    def begin(self) -> None:
        """Count seconds and steps from now on."""
        self.steps = self.tokens = 0
        self._laps: defaultdict[str, float] = defaultdict(float)
        self._since = self._lap = time.perf_counter()

    def lap(self, phase: str | None = None) -> None:
        """Count what passed since the last lap as this phase's; as nobody's without one."""
        now = time.perf_counter()
        if phase is not None:
            self._laps[phase] += now - self._lap
        self._lap = now

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside is not part of any step."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def step(self, nll: Tensor, norm: Tensor, weight: float, tokens: int) -> None:
        """A step was taken: Σ w·nll of this rank, the gradient's length, Σ w and tokens of all
        ranks."""
        self._last, self.last_weight, self.norm = nll, weight, norm
        self._nll = self._nll + nll
        self.weight += weight
        self.steps += 1
        self.tokens += tokens

    def losses(self) -> tuple[float, float]:
        """Mean loss since the last report, and that of the last step. Waits for the device."""
        both = torch.stack((self._nll, self._last))
        both = self._ranks.sum_(both) if self._apart else both
        mean, last = both.tolist()
        return mean / max(self.weight, 1e-9), last / max(self.last_weight, 1e-9)

    def seconds(self) -> tuple[float, Times]:
        """Of one step, and of its phases."""
        steps = max(self.steps, 1)
        whole = (time.perf_counter() - self._since) / steps
        phases = {phase: self._laps[phase] / steps for phase in _PHASES}
        return whole, Times(**phases, other=max(whole - sum(phases.values()), 0.0))

    def clear(self) -> None:
        """A report was made."""
        self._nll = torch.zeros_like(self._nll)
        self.weight = 0.0
        self.begin()

    # -----------------------------------------------------------------------------------------
    # Resuming
    # -----------------------------------------------------------------------------------------

    def state_arrays(self) -> dict[str, Tensor]:
        """The sum of all ranks; it goes to the first, so that it stays the same from now on."""
        if self._apart:
            self._ranks.sum_(self._nll)
        whole = {"nll": self._nll.clone()}
        if not self._ranks.first and self._apart:
            self._nll = torch.zeros_like(self._nll)
        return whole

    def load_arrays(self, arrays: Mapping[str, Tensor], weight: float) -> None:
        here = self._ranks.first or not self._apart
        given = arrays["nll"].to(self._nll.device, copy=True)
        self._nll = given if here else torch.zeros_like(self._nll)
        self.weight = weight
        self.begin()
