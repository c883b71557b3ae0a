"""The causal language model: Llama by default, GPT-2 or a mixture of experts by configuration.

It ends at hidden states. `head` is the matrix that makes logits of them; a loss multiplies with it
in chunks, since the logits of a whole batch are larger than everything else together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llama_plugin_train.models.attention import Kernel, self_view
from llama_plugin_train.models.blocks import Block, initialize, norm
from llama_plugin_train.models.config import DecoderConfig
from llama_plugin_train.models.embedding import Embedding
from llama_plugin_train.models.mixture import Mixture


class Decoder(nn.Module):
    """Legend: B rows, T tokens, M hidden size, V words."""

    attention: Kernel = "sdpa"

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = norm(config)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialize(self, config)

    @property
    def head(self) -> Tensor:
        """What hidden states are multiplied with to give logits [V, M]."""
        weight: Tensor = self.embed.tokens.weight if self.config.tied else self.lm_head.weight
        return weight

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Normed hidden states [B, T, M]. Without segments a row is one document."""
        positions_BT = self.embed.positions_of(tokens_BT, positions_BT)
        x_BTM = self.embed(tokens_BT, positions_BT)
        view = self_view(
            self.config,
            positions_BT,
            segments_BT,
            causal=True,
            dtype=x_BTM.dtype,
            kernel=self.attention,
        )
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
        """Hidden states: what DDP, FSDP and `torch.compile` wrap."""
        return self.hidden(tokens_BT, positions_BT, segments_BT)

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """All of them [B, T, V], for looking at; training has no use for it."""
        return self.hidden(tokens_BT) @ self.head.T

    def balance(self) -> Tensor | None:
        """How unevenly experts were used in the last batch, on average; None without experts."""
        found = [m.balance for m in self.modules() if isinstance(m, Mixture)]
        told = [each for each in found if each is not None]
        return torch.stack(told).mean() if told else None
