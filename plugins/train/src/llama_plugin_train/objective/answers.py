"""Learning to answer with a class, or with another text."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


def classification_loss(scores_BC: Tensor, labels_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over classes; `smoothing` of the chance goes to all of them evenly."""
    return functional.cross_entropy(scores_BC.float(), labels_B, label_smoothing=smoothing)


class Forced(NamedTuple):
    """What the decoder is shown, what it should say next, and weight 0 on padding."""

    inputs_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor


def teacher_forcing(answers_BT: Tensor, *, start: int, padding: int) -> Forced:
    """Show the right answer one token late. The answers' end is part of what is to be said."""
    first_B1 = torch.full_like(answers_BT[:, :1], start)
    inputs_BT = torch.cat((first_B1, answers_BT[:, :-1]), 1)
    return Forced(inputs_BT, answers_BT, (answers_BT != padding).float())
