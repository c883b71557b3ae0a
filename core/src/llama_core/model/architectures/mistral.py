"""Mistral: Llama with a sliding window in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Length, Size, TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Length = 4096 * 32
    sliding_window: Length | None = 4096


class Mistral:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "mistral")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, window=c.sliding_window)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            x = b.add("add", f"layers.{i}.mlp_add", x, blocks.gated_mlp(b, i, h))
        return b.finish("mistral", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
