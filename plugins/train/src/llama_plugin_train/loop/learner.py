"""A model with its loss around it: one module, which DDP and FSDP wrap and every pass goes through.

The head is multiplied inside the loss, so it has to be inside what they wrap. Loss and products are
computed in the device's type, sums and weights in float32.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llama_core.announce import Announcements
from llama_core.errors import ConfigError
from llama_plugin_train.loop.machine import Machine
from llama_plugin_train.loop.sections import TrainSection
from llama_plugin_train.objective.linear_cross_entropy import Loss, next_token_loss


class Learner(nn.Module):
    """Rows in, their loss out. `weight` is what all losses of the step are divided by together."""

    def __init__(self, model: nn.Module, told: TrainSection, machine: Machine) -> None:
        super().__init__()
        self.model: Any = model
        self.told, self.machine = told, machine

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        weights_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        weight: float = 1.0,
    ) -> Loss | Tensor:
        """Without targets, the logits after the last token of each row [B, V]."""
        with self.machine.autocast():
            hidden_BTM = self.model(tokens_BT, positions_BT, segments_BT)
        if targets_BT is None:
            last_BV: Tensor = hidden_BTM[:, -1].float() @ self.model.head.float().T
            return last_BV
        loss = next_token_loss(
            hidden_BTM.to(self.machine.dtype),
            self.model.head,
            targets_BT,
            weights_BT,
            chunk=self.told.chunk,
            z_loss=self.told.z_loss,
            weight=weight,
        )
        balance = self.model.balance()
        if balance is None or not self.told.balance:
            return loss
        share = loss.weight_sum / max(weight, 1.0)
        return loss._replace(total=loss.total + self.told.balance * share * balance)


def prepare(model: Any, told: TrainSection, announcements: Announcements) -> None:
    """What is done to a model before it is wrapped: its attention, recomputing, compiling."""
    if told.attention == "flex" and next(model.parameters()).device.type != "cuda":
        raise ConfigError(
            "train.attention='flex' trains on GPUs alone, and this run has none",
            remedy="Leave it at 'sdpa'.",
        )
    model.attention = told.attention
    if told.recompute:
        for block in model.blocks:
            # No block draws random numbers, so none have to be drawn again.
            again = partial(
                checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
            )
            block.forward = again
    if told.compile:
        if shutil.which("c++") is None and not torch.cuda.is_available():
            raise ConfigError(
                "train.compile needs a C++ compiler, and there is none here",
                remedy="Install one, or leave the model as it is.",
            )
        announcements.note("the model is compiled by torch: the first steps take a while")
        model.compile()
