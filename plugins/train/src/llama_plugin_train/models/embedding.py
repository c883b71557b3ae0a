"""Tokens to vectors, and, where positions are not part of attention, positions added to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llama_core.errors import LlamaError
from llama_plugin_train.models.config import ModelConfig
from llama_plugin_train.models.positions import sinusoids


class Embedding(nn.Module):
    """The table of tokens, and that of positions where they are learned."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_positions, config.hidden_size)

    def forward(self, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
        x_BTM = self.tokens(tokens_BT)
        if self.config.positions == "learned":
            return x_BTM + self.positions(positions_BT)
        if self.config.positions == "sinusoidal":
            # Embeddings start small; at their own size the sinusoids would drown them.
            by = self.config.initial_std
            return x_BTM + by * sinusoids(positions_BT, self.config.hidden_size).to(x_BTM.dtype)
        return x_BTM

    def positions_of(self, tokens_BT: Tensor, given_BT: Tensor | None) -> Tensor:
        """Those given, or from 0 on."""
        if given_BT is not None:
            return given_BT
        length = tokens_BT.shape[1]
        if length > self.config.max_positions:
            raise LlamaError(
                f"a row of {length} tokens, and the model has "
                f"{self.config.max_positions} positions",
                remedy="Cut the row, or build the model with more max_positions.",
            )
        return torch.arange(length, device=tokens_BT.device)[None]
