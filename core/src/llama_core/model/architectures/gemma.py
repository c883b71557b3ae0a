"""Gemma 1: scaled embeddings, norms that multiply by one plus the weight, GELU, wide heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Length, Size, TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    head_dim: Size | None = 256
    max_position_embeddings: Length = 8192
    tie_word_embeddings: bool = True


class Gemma:
    def build(self, config: Mapping[str, Any]) -> Graph:
        # Released files say "gelu" and mean its tanh form, which is what it was trained with.
        if config.get("hidden_act") in (None, "gelu"):
            config = {**config, "hidden_act": "gelu_pytorch_tanh"}
        c = read(Config, config, "gemma")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed(scale=c.hidden_size**0.5)
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x, offset=1.0)
            h = blocks.attention(b, i, h, rope, bias=c.attention_bias, out_bias=c.attention_bias)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x, offset=1.0)
            x = b.add("add", f"layers.{i}.mlp_add", x, blocks.gated_mlp(b, i, h))
        return b.finish("gemma", blocks.gather_and_norm(b, x, offset=1.0))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
