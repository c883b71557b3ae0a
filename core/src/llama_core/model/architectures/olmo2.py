"""OLMo 2: norms after the blocks instead of before, and over the whole of q and of k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import TextConfig, read
from llama_core.model.graph import Graph

NAMES = {
    **blocks.LLAMA_NAMES,
    "post_attention_layernorm": "attn_post_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


class Config(TextConfig):
    rms_norm_eps: float = 1e-5


class Olmo2:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "olmo2")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = blocks.attention(
                b, i, x, rope, bias=c.attention_bias, out_bias=c.attention_bias, norm="row"
            )
            h = b.norm(f"layers.{i}.attn_post_norm", h)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_post_norm", blocks.gated_mlp(b, i, x))
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        return b.finish("olmo2", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor, NAMES)
