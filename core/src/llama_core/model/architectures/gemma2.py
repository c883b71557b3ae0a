"""Gemma 2: Gemma 1 with norms after the blocks too, soft caps, a window in every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import PositiveFloat

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import (
    ACTIVATIONS,
    Count,
    Fn,
    Length,
    Size,
    TextConfig,
    read,
)
from llama_core.model.graph import Graph

NAMES = {
    **blocks.LLAMA_NAMES,
    "post_attention_layernorm": "attn_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


class Config(TextConfig):
    num_attention_heads: Count = 8
    num_key_value_heads: Count | None = 4
    head_dim: Size | None = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: Length = 8192
    tie_word_embeddings: bool = True
    query_pre_attn_scalar: PositiveFloat = 256
    sliding_window: Length | None = 4096
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0

    @property
    def fn(self) -> Fn:
        return ACTIVATIONS.get(self.hidden_activation, "gelu_tanh")

    def is_local(self, layer: int) -> bool:
        return self.slides(layer, layer % 2 == 0)

    def window(self, layer: int) -> int | None:
        return self.sliding_window if self.is_local(layer) else None


class Gemma2:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "gemma2")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed(scale=c.hidden_size**0.5)
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x, offset=1.0)
            h = blocks.attention(
                b,
                i,
                h,
                rope,
                bias=c.attention_bias,
                out_bias=c.attention_bias,
                window=c.window(i),
                scale=c.query_pre_attn_scalar**-0.5,
                softcap=c.attn_logit_softcapping,
            )
            h = b.norm(f"layers.{i}.attn_post_norm", h, offset=1.0)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x, offset=1.0)
            h = blocks.gated_mlp(b, i, h)
            h = b.norm(f"layers.{i}.mlp_post_norm", h, offset=1.0)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        x = blocks.gather_and_norm(b, x, offset=1.0)
        return b.finish("gemma2", x, softcap=c.final_logit_softcapping)

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor, NAMES)
