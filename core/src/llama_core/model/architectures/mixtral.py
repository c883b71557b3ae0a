"""Mixtral: Mistral with eight experts in place of the MLP; the chosen two share one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Count, Length, TextConfig, read
from llama_core.model.graph import Graph

NAMES = {
    **blocks.LLAMA_NAMES,
    "block_sparse_moe": "mlp",
    "gate": "router",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
}


class Config(TextConfig):
    num_key_value_heads: Count | None = 8
    max_position_embeddings: Length = 4096 * 32
    rms_norm_eps: float = 1e-5
    num_local_experts: Count = 8
    num_experts_per_tok: Count = 2


class Mixtral:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "mixtral")
        b, rope = blocks.Builder(c), c.rope(default_theta=1e6)
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, window=c.sliding_window)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            h = blocks.experts(
                b,
                i,
                h,
                num=c.num_local_experts,
                top_k=c.num_experts_per_tok,
                width=c.intermediate_size,
                normalize=True,
            )
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("mixtral", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor, NAMES)
