"""The encoder: sees the whole text at once, and answers with words, a class, or a vector.

Padding is a segment of its own: tokens of segment 0 are left out of every mean, and nobody else
sees them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_plugin_train.models.attention import self_view
from llama_plugin_train.models.blocks import Block, initialize, norm
from llama_plugin_train.models.config import EncoderConfig
from llama_plugin_train.models.embedding import Embedding
from llama_plugin_train.models.linear import Linear


class Encoder(nn.Module):
    """Legend: B rows, T tokens, M hidden size, V words, C classes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = norm(config)
        self.transform = Linear(config.hidden_size, (config.hidden_size,), config.bias)
        self.transform_norm = norm(config)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.num_classes:
            self.classifier = nn.Linear(config.hidden_size, config.num_classes)
        initialize(self, config)

    @property
    def head(self) -> Tensor:
        """What transformed states are multiplied with to give the masked words' logits [V, M]."""
        weight: Tensor = self.embed.tokens.weight if self.config.tied else self.lm_head.weight
        return weight

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Normed hidden states [B, T, M]."""
        positions_BT = self.embed.positions_of(tokens_BT, positions_BT)
        x_BTM = self.embed(tokens_BT, positions_BT)
        view = self_view(self.config, positions_BT, segments_BT, causal=False, dtype=x_BTM.dtype)
        for block in self.blocks:
            x_BTM = block(x_BTM, view)
        hidden_BTM: Tensor = self.norm(x_BTM)
        return hidden_BTM

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Transformed states, which `head` makes words of."""
        hidden_BTM = self.hidden(tokens_BT, positions_BT, segments_BT)
        words_BTM: Tensor = self.transform_norm(functional.gelu(self.transform(hidden_BTM)))
        return words_BTM

    def embeddings(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        """One vector of length 1 for each row [B, M]: of its first token, or the mean of all."""
        return functional.normalize(self._pooled(tokens_BT, segments_BT), dim=-1)

    def classes(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        """One score for each class and row [B, C]."""
        scores_BC: Tensor = self.classifier(self._pooled(tokens_BT, segments_BT))
        return scores_BC

    def _pooled(self, tokens_BT: Tensor, segments_BT: Tensor | None) -> Tensor:
        hidden_BTM = self.hidden(tokens_BT, None, segments_BT)
        if self.config.pooling == "first":
            return hidden_BTM[:, 0]
        if segments_BT is None:
            return hidden_BTM.mean(1)
        text_BT1 = (segments_BT != 0)[..., None].to(hidden_BTM.dtype)
        return (hidden_BTM * text_BT1).sum(1) / text_BT1.sum(1).clamp(min=1)


def padding_segments(tokens_BT: Tensor, padding: int) -> Tensor:
    """Segment 1 where there is text and 0 where there is padding."""
    return (tokens_BT != padding).to(torch.int32)
