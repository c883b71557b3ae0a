"""One text into another: an encoder reads, and a decoder writes while looking at what was read.

Legend: B rows, S tokens read, T tokens written, M hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llama_plugin_train.models.attention import cross_view, self_view
from llama_plugin_train.models.blocks import Block, initialize, norm
from llama_plugin_train.models.config import EncoderDecoderConfig
from llama_plugin_train.models.embedding import Embedding


class EncoderDecoder(nn.Module):
    """Both sides share the embedding. Segment 0 is padding, which the other side does not see."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        layers = config.num_encoder_layers
        self.encoder = nn.ModuleList(Block(config) for _ in range(layers))
        self.encoder_norm = norm(config)
        self.blocks = nn.ModuleList(Block(config, cross=True) for _ in range(config.num_layers))
        self.norm = norm(config)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialize(self, config)

    @property
    def head(self) -> Tensor:
        """What hidden states are multiplied with to give logits [V, M]."""
        weight: Tensor = self.embed.tokens.weight if self.config.tied else self.lm_head.weight
        return weight

    def encode(self, tokens_BS: Tensor, segments_BS: Tensor | None = None) -> Tensor:
        """What was read [B, S, M]."""
        positions_BS = self.embed.positions_of(tokens_BS, None)
        x_BSM = self.embed(tokens_BS, positions_BS)
        view = self_view(self.config, positions_BS, segments_BS, causal=False, dtype=x_BSM.dtype)
        for block in self.encoder:
            x_BSM = block(x_BSM, view)
        memory_BSM: Tensor = self.encoder_norm(x_BSM)
        return memory_BSM

    def decode(
        self, tokens_BT: Tensor, memory_BSM: Tensor, segments_BS: Tensor | None = None
    ) -> Tensor:
        """Hidden states of what is written, each token knowing those before it [B, T, M]."""
        positions_BT = self.embed.positions_of(tokens_BT, None)
        x_BTM = self.embed(tokens_BT, positions_BT)
        view = self_view(self.config, positions_BT, None, causal=True, dtype=x_BTM.dtype)
        read = cross_view(tokens_BT, segments_BS, x_BTM.dtype)
        for block in self.blocks:
            x_BTM = block(x_BTM, view, memory_BSM, read)
        hidden_BTM: Tensor = self.norm(x_BTM)
        return hidden_BTM

    def forward(
        self, source_BS: Tensor, target_BT: Tensor, segments_BS: Tensor | None = None
    ) -> Tensor:
        """Teacher forcing: hidden states after each token of the right answer [B, T, M]."""
        return self.decode(target_BT, self.encode(source_BS, segments_BS), segments_BS)

    @torch.no_grad()
    def generate(
        self,
        source_BS: Tensor,
        *,
        start: int,
        end: int,
        max_tokens: int,
        segments_BS: Tensor | None = None,
    ) -> list[list[int]]:
        """The likeliest next token, again and again; each row up to its end, without it."""
        memory_BSM = self.encode(source_BS, segments_BS)
        written_BT = torch.full((len(source_BS), 1), start, device=source_BS.device)
        done_B = torch.zeros(len(source_BS), dtype=torch.bool, device=source_BS.device)
        for _ in range(max_tokens):
            last_BM = self.decode(written_BT, memory_BSM, segments_BS)[:, -1]
            next_B = (last_BM @ self.head.T).argmax(-1).masked_fill(done_B, end)
            written_BT = torch.cat((written_BT, next_B[:, None]), 1)
            done_B |= next_B == end
            if bool(done_B.all()):
                break
        rows = written_BT[:, 1:].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]
