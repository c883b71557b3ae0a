"""Cross-entropy of a linear head, some rows at a time, so that no one holds all the logits.

The gradient is worked out on the way forward, while a chunk's probabilities are at hand: the
backward pass only scales it. So the memory is that of one chunk, the head is multiplied three times
(not four, as where logits are computed again), and no pass over the logits is made that the kernel
for softmax does not make anyway.

Legend: R rows (tokens), M hidden size, V words, C rows of a chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from llama_core.errors import LlamaError

# Logits of one chunk, as many as stay near a processor's last cache.
CHUNK_NUMBERS = 1 << 23


class Loss(NamedTuple):
    """What a batch gave. `total` has the gradient; the others are for telling."""

    total: Tensor  # (Σ w·nll + z_loss · Σ w·z) / weight
    nll_sum: Tensor  # Σ w·nll
    weight_sum: Tensor  # Σ w
    z: Tensor  # Σ w·z, z = (log Σ exp logits)²


def next_token_loss(
    hidden_BTM: Tensor,
    head_VM: Tensor,
    targets_BT: Tensor,
    weights_BT: Tensor | None = None,
    *,
    chunk: int | None = None,
    z_loss: float = 0.0,
    weight: Tensor | float | None = None,
) -> Loss:
    """How unlikely the targets are, on average over their weights.

    A weight of 0 masks a target. `weight` is what the sum is divided by, by default the weights of
    these rows; with accumulation or several ranks it is that of the whole step.
    """
    targets_R = targets_BT.reshape(-1)
    hidden_RM = hidden_BTM.reshape(-1, hidden_BTM.shape[-1])
    if len(targets_R) != len(hidden_RM):
        raise LlamaError(f"{len(targets_R)} targets for {len(hidden_RM)} hidden states")
    weights_R = (
        torch.ones(len(targets_R), device=targets_R.device)
        if weights_BT is None
        else weights_BT.reshape(-1).float()
    )
    weight_sum = weights_R.sum()
    # What is masked needs no logits. On an accelerator finding it would stop the queue.
    if targets_R.device.type == "cpu" and not bool((wanted := weights_R != 0).all()):
        hidden_RM, targets_R, weights_R = hidden_RM[wanted], targets_R[wanted], weights_R[wanted]
    targets_R = targets_R.masked_fill(weights_R == 0, 0)
    chunk = chunk or max(1, CHUNK_NUMBERS // len(head_VM))
    total, nll_sum, z = _LinearCrossEntropy.apply(
        hidden_RM, head_VM, targets_R, weights_R, chunk, z_loss
    )
    by = weight_sum if weight is None else torch.as_tensor(weight, device=total.device)
    # Nothing wanted is a loss of 0, not 0/0.
    return Loss(total / torch.where(by == 0, 1.0, by), nll_sum, weight_sum, z)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RM: Tensor,
        head_VM: Tensor,
        targets_R: Tensor,
        weights_R: Tensor,
        chunk: int,
        z_loss: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        for_hidden, for_head = ctx.needs_input_grad[:2]
        narrow_VM = head_VM.to(hidden_RM.dtype)
        grad_hidden = torch.empty_like(hidden_RM) if for_hidden else None
        grad_head = None
        nll_R, z_R = torch.empty_like(weights_R), torch.empty_like(weights_R)
        # One chunk's memory serves all: fresh pages would cost more than the passes over them.
        held_CV = hidden_RM.new_empty(min(chunk, len(hidden_RM)), len(head_VM))
        for start in range(0, len(hidden_RM), chunk):
            rows = slice(start, start + chunk)
            hidden_CM, targets_C1 = hidden_RM[rows], targets_R[rows, None]
            logits_CV = torch.mm(hidden_CM, narrow_VM.T, out=held_CV[: len(hidden_CM)]).float()
            wanted_C1 = logits_CV.gather(1, targets_C1)
            if not (for_hidden or for_head):
                lse_C1 = logits_CV.logsumexp(1, keepdim=True)
                nll_R[rows], z_R[rows] = (lse_C1 - wanted_C1)[:, 0], lse_C1[:, 0].square()
                continue
            top_C1 = logits_CV.amax(1, keepdim=True)
            chances_CV = logits_CV.sub_(top_C1).exp_()
            sums_C1 = chances_CV.sum(1, keepdim=True)
            lse_C1 = top_C1 + sums_C1.log()
            nll_R[rows], z_R[rows] = (lse_C1 - wanted_C1)[:, 0], lse_C1[:, 0].square()
            # d(w·(nll + z_loss·z)) = w·(steep·p - onehot): the row's factors go to the narrow
            # hidden states instead of the wide chances, which spares a pass over them.
            steep_C1 = 1 + 2 * z_loss * lse_C1
            factor_C1 = weights_R[rows, None] * steep_C1 / sums_C1
            chances_CV.scatter_add_(1, targets_C1, -sums_C1 / steep_C1)
            if chances_CV.dtype != hidden_CM.dtype:
                factor_C1 = factor_C1 * sums_C1  # chances above 1 would not fit in 16 bits
                chances_CV = (chances_CV / sums_C1).to(hidden_CM.dtype)
            factor_C1 = factor_C1.to(hidden_CM.dtype)
            if grad_hidden is not None:
                torch.mm(chances_CV, narrow_VM, out=grad_hidden[rows]).mul_(factor_C1)
            if for_head:
                scaled_CM = hidden_CM * factor_C1
                if grad_head is None:
                    grad_head = (chances_CV.T @ scaled_CM).to(head_VM.dtype)
                elif head_VM.dtype == hidden_CM.dtype:
                    grad_head.addmm_(chances_CV.T, scaled_CM)
                else:
                    grad_head += chances_CV.T @ scaled_CM
            del logits_CV, chances_CV
        if for_head and grad_head is None:
            grad_head = torch.zeros_like(head_VM)
        ctx.grads = (grad_hidden, grad_head)
        nll_sum, z = torch.dot(nll_R, weights_R), torch.dot(z_R, weights_R)
        ctx.mark_non_differentiable(nll_sum, z)
        return nll_sum + z_loss * z, nll_sum.clone(), z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradient of this loss was already taken; compute the loss anew")
        by, (hidden, head) = grads[0], ctx.grads
        ctx.grads = None
        out = [None if each is None else each.mul_(by.to(each.dtype)) for each in (hidden, head)]
        return (*out, None, None, None, None)
