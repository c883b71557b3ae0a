"""Muon: momentum whose matrix is made orthogonal before it moves a weight.

Every direction of the step gets about the same length, so that rare ones are learned too. It is for
matrices between hidden states; tables and vectors are moved by AdamW. A fused matrix is taken apart
first, and equal shapes are worked on together.

Legend: Z matrices of one shape, N rows, K columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# Keller Jordan's quintic: steepest at 0 among those that bring every singular value near 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(x_ZNK: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly.

    Singular values come to lie in 0.6 to 1.25; those that were nothing beside the others stay less.
    """
    tall = x_ZNK.shape[-2] > x_ZNK.shape[-1]
    x = x_ZNK.mT if tall else x_ZNK
    # bf16 is enough for a direction, and on an accelerator many times faster.
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.mT if tall else x).to(x_ZNK.dtype)


class Muon(torch.optim.Optimizer):
    """`widths` of a parameter are the rows of the matrices fused in it.

    The step's root mean square is made AdamW's (0.2·√max(N, K), as Moonlight found), so that both
    use one rate and one decay.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        widths: Sequence[tuple[int, ...]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.steps = steps
        self.widths = dict(zip(self.param_groups[0]["params"], widths, strict=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        moved = [p for p in group["params"] if p.grad is not None]
        if not moved:
            return
        grads = [p.grad for p in moved]
        momenta = [self._momentum(p) for p in moved]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov's
        if group["weight_decay"]:
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
        self._move(moved, ahead, group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum

    def _move(self, parameters: list[Tensor], ahead: Sequence[Tensor], rate: float) -> None:
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, way in zip(parameters, ahead, strict=True):
            widths = list(self.widths[parameter])
            for to, part in zip(parameter.split(widths, -2), way.split(widths, -2), strict=True):
                for one, direction in zip(_matrices(to), _matrices(part), strict=True):
                    alike[one.shape].append((one, direction))
        for shape, pairs in alike.items():
            steps = orthogonalize(torch.stack([way for _, way in pairs]), self.steps)
            by = -rate * 0.2 * max(shape) ** 0.5
            torch._foreach_add_([to for to, _ in pairs], list(steps.unbind()), alpha=by)


def _matrices(x: Tensor) -> tuple[Tensor, ...]:
    return (x,) if x.ndim == 2 else x.unbind(0)
