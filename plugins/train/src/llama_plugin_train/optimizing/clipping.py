"""Gradients that are too long are shortened, all by one factor, so that their direction stays."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], longest: float | None = None) -> Tensor:
    """The norm of all gradients together, before they were shortened to `longest`.

    A norm that is no number is given back as it is, and the gradients are left for whoever asks.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    norm = torch.stack(torch._foreach_norm(grads)).norm()
    if longest is not None and norm.isfinite() and norm > longest:
        torch._foreach_mul_(grads, longest / norm)
    return norm
