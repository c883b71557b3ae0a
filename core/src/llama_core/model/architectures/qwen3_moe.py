"""Qwen 3 with experts: its attention; a layer is a mixture or a plain MLP as the config says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Count, Length, Size, TextConfig, read
from llama_core.model.graph import Graph

NAMES = {**blocks.LLAMA_NAMES, "gate": "router"}


class Config(TextConfig):
    num_key_value_heads: Count | None = 4
    max_position_embeddings: Length = 32768
    use_sliding_window: bool = False
    sliding_window: Length | None = 4096
    num_experts: Count = 128
    num_experts_per_tok: Count = 8
    moe_intermediate_size: Size = 768
    norm_topk_prob: bool = False
    decoder_sparse_step: Count = 1
    mlp_only_layers: list[int] | None = None

    def is_mixture(self, layer: int) -> bool:
        plain = layer in (self.mlp_only_layers or ())
        return not plain and (layer + 1) % self.decoder_sparse_step == 0


class Qwen3Moe:
    def build(self, config: Mapping[str, Any]) -> Graph:
        if config.get("num_experts") is None:  # newer files have the name that Mixtral gave it
            config = {**config, "num_experts": config.get("num_local_experts")}
        c = read(Config, config, "qwen3_moe")
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
                window=c.sliding_window if c.use_sliding_window else None,
            )
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            if c.is_mixture(i):
                h = blocks.experts(
                    b,
                    i,
                    h,
                    num=c.num_experts,
                    top_k=c.num_experts_per_tok,
                    width=c.moe_intermediate_size,
                    normalize=c.norm_topk_prob,
                )
            else:
                h = blocks.gated_mlp(b, i, h)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("qwen3_moe", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor, NAMES)
