"""Whether a step may be taken, and by how much its gradients are shortened; decided on the device.

A gradient that is no number, or many times as long as usual, is not followed. The numbers of the
guard are tensors, so that deciding needs no wait for an accelerator; a report reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llama_plugin_train.optimizing.muon import Muon
from llama_plugin_train.optimizing.optimizer import Optimizer

_MEMORY = 0.98  # how much of what is usual is kept at each step
_LEARNING = 20  # steps before anything is unusual
_FIRST_SCALE, _GOOD_STEPS = 65536.0, 2000.0  # fp16's loss is scaled, doubled after so many steps


class Guard:
    """`scaled`: the loss is multiplied by `scale`, so that fp16's small gradients are not zero."""

    def __init__(self, device: torch.device, *, spike: float, scaled: bool) -> None:
        self.spike, self.scaled = spike, scaled
        first = {"scale": _FIRST_SCALE if scaled else 1.0}
        names = ("usual", "seen", "nan", "spike", "overflow", "in_a_row", "good", "scale")
        self._numbers = {
            name: torch.full((), first.get(name, 0.0), device=device) for name in names
        }

    @property
    def scale(self) -> Tensor:
        return self._numbers["scale"]

    def admit(self, norm: Tensor, clip: float) -> tuple[Tensor, Tensor]:
        """What the gradients are to be divided by, and 1 where the step must not be taken.

        `norm` is that of the gradients as they are, of the scaled loss.
        """
        n = self._numbers
        true = norm.float() / n["scale"]
        finite = true.isfinite()
        unusual = torch.zeros_like(finite)
        if self.spike:
            known = (n["seen"] >= _LEARNING) & (n["usual"] > 0)
            unusual = known & (true > self.spike * n["usual"]) & finite
        bad = ~finite | unusual
        longer = (true / clip).clamp(min=1) if clip else torch.ones_like(true)
        divisor = torch.where(bad, 1.0, longer * n["scale"])
        self._remember(true, finite, bad)
        return divisor, bad.float()

    def _remember(self, true: Tensor, finite: Tensor, bad: Tensor) -> None:
        n = self._numbers
        # An unusual one counts as the longest usual: what has become usual is soon let through.
        known = n["seen"] >= _LEARNING
        length = torch.where(known & bad, self.spike * n["usual"], true) if self.spike else true
        keep = (n["seen"] / (n["seen"] + 1)).clamp(max=_MEMORY)
        usual = torch.where(finite, keep * n["usual"] + (1 - keep) * length, n["usual"])
        # fp16 looks for its scale by overflowing, which says nothing about the run.
        looking = ~finite & (n["scale"] > 1)
        n["in_a_row"] = torch.where(looking, n["in_a_row"], bad * (n["in_a_row"] + 1))
        n["spike"] = n["spike"] + (bad & finite)
        n["overflow"] = n["overflow"] + looking
        n["nan"] = n["nan"] + (~finite & ~looking)
        n["seen"], n["usual"] = n["seen"] + finite, usual
        if self.scaled:
            full = n["good"] + 1 >= _GOOD_STEPS
            grown = torch.where(full, 2 * n["scale"], n["scale"])
            n["scale"] = torch.where(finite, grown, (n["scale"] / 2).clamp(min=1))
            n["good"] = torch.where(finite & ~full, n["good"] + 1, 0.0)

    def read(self) -> dict[str, float]:
        """The numbers on the host; waits for the device."""
        return {name: value.item() for name, value in self._numbers.items()}

    def state_arrays(self) -> dict[str, Tensor]:
        return dict(self._numbers)

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        for name, value in self._numbers.items():
            self._numbers[name] = arrays[name].to(value.device, copy=True)


def step_unless(optimizer: Optimizer, bad: Tensor, divisor: Tensor) -> None:
    """Move the weights by the divided gradients, or not at all.

    AdamW's kernel does both by itself and nobody waits; for Muon the answer is looked at.
    """
    for part in optimizer.parts:
        if isinstance(part, Muon):
            if bool(bad):
                continue
            grads = [p.grad for group in part.param_groups for p in group["params"]]
            torch._foreach_div_([grad for grad in grads if grad is not None], divisor)
        else:
            adamw: Any = part
            adamw.found_inf, adamw.grad_scale = bad, divisor
        part.step()
