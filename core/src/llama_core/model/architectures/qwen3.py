"""Qwen 3: a norm on each head of q and k, no bias unless asked for, heads of 128."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Size, read
from llama_core.model.architectures.qwen2 import Config as Qwen2Config
from llama_core.model.graph import Graph


class Config(Qwen2Config):
    head_dim: Size | None = 128


class Qwen3:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "qwen3")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(
                b,
                i,
                h,
                rope,
                bias=c.attention_bias,
                out_bias=c.attention_bias,
                norm="head",
                window=c.window(i),
            )
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            x = b.add("add", f"layers.{i}.mlp_add", x, blocks.gated_mlp(b, i, h))
        return b.finish("qwen3", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
