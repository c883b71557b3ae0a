"""Learning to fill in words: which are hidden, and what stands in their place."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Masked(NamedTuple):
    """Inputs with gaps, what belongs there, and weight 1 where something was hidden."""

    inputs_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor


def mask_tokens(
    tokens_BT: Tensor,
    *,
    mask: int,
    vocab_size: int,
    generator: torch.Generator,
    fraction: float = 0.15,
    never_BT: Tensor | None = None,
) -> Masked:
    """Hide a fraction of the tokens, as BERT does.

    Of ten hidden ones eight become the mask, one a random token and one stays, so that a model
    cannot trust what it sees. `never_BT` marks what must not be hidden: padding, special tokens.
    """
    chance_BT = torch.rand(tokens_BT.shape, generator=generator)
    how_BT = torch.rand(tokens_BT.shape, generator=generator)
    random_BT = torch.randint(vocab_size, tokens_BT.shape, generator=generator)
    chance_BT, how_BT, random_BT = (
        each.to(tokens_BT.device) for each in (chance_BT, how_BT, random_BT)
    )
    hidden_BT = chance_BT < fraction
    if never_BT is not None:
        hidden_BT &= ~never_BT
    inputs_BT = tokens_BT.masked_fill(hidden_BT & (how_BT < 0.8), mask)
    inputs_BT = torch.where(hidden_BT & (how_BT >= 0.9), random_BT, inputs_BT)
    return Masked(inputs_BT, tokens_BT, hidden_BT.float())
