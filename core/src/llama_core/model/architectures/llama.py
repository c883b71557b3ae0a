"""Llama 1 to 3.2, and what is built like it: TinyLlama, SmolLM, Yi, Vicuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    mlp_bias: bool = False


class Llama:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "llama")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, bias=c.attention_bias, out_bias=c.attention_bias)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            h = blocks.gated_mlp(b, i, h, bias=c.mlp_bias)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("llama", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
