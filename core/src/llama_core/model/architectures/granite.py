"""Granite: Llama with constants on embeddings, attention, residual branches and logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import PositiveFloat

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    mlp_bias: bool = False
    embedding_multiplier: float = 1.0
    attention_multiplier: PositiveFloat = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: PositiveFloat = 1.0


class Granite:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "granite")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed(scale=c.embedding_multiplier)
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(
                b,
                i,
                h,
                rope,
                bias=c.attention_bias,
                out_bias=c.attention_bias,
                scale=c.attention_multiplier,
            )
            h = b.add("mul", f"layers.{i}.attn_scale", h, by=c.residual_multiplier)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            h = blocks.gated_mlp(b, i, h, bias=c.mlp_bias)
            h = b.add("mul", f"layers.{i}.mlp_scale", h, by=c.residual_multiplier)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("granite", blocks.gather_and_norm(b, x), scale=1 / c.logits_scaling)

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
