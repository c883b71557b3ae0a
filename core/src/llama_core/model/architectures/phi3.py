"""Phi 3: q, k, v and gate, up stored as one tensor each; part of a head turned; two rope scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Length, TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    max_position_embeddings: Length = 4096
    rms_norm_eps: float = 1e-5


class Phi3:
    def build(self, config: Mapping[str, Any]) -> Graph:
        # "su" and "yarn" are what its first files called longrope.
        scaling = config.get("rope_scaling")
        if isinstance(scaling, Mapping) and "yarn" in (
            scaling.get("type"),
            scaling.get("rope_type"),
        ):
            config = {**config, "rope_scaling": {**scaling, "rope_type": "longrope"}}
        c = read(Config, config, "phi3")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, fused=True, window=c.sliding_window)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            h = blocks.gated_mlp(b, i, h, fused=True)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("phi3", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
