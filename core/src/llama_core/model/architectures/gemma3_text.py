"""Gemma 3, its text part: Gemma 2 with normed q and k; windowed layers have their own rope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.errors import ConfigError
from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Count, Length, Rope, merged, read
from llama_core.model.architectures.gemma2 import NAMES
from llama_core.model.architectures.gemma2 import Config as Gemma2Config
from llama_core.model.graph import Graph


class Config(Gemma2Config):
    vocab_size: int = 262_208
    max_position_embeddings: Length = 131_072
    sliding_window_pattern: Count = 6
    rope_local_base_freq: float = 10_000.0
    final_logit_softcapping: float | None = None  # scores are not capped, whatever a file says
    use_bidirectional_attention: bool | None = None

    def is_local(self, layer: int) -> bool:
        return self.slides(layer, (layer + 1) % self.sliding_window_pattern != 0)

    def ropes(self) -> tuple[Rope, Rope]:
        """For layers with a window, and for those that see everything: only these are scaled."""
        nested = self.rope_parameters or {}
        bases = {"rope_theta": self.rope_local_base_freq}, {"rope_theta": self.rope_theta or 1e6}
        local = merged(bases[0], nested.get("sliding_attention"))
        whole = merged(bases[1], nested.get("full_attention"), self.rope_scaling)
        return self.rope_from(local), self.rope_from(whole)


class Gemma3Text:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "gemma3_text")
        if c.use_bidirectional_attention:
            raise ConfigError(
                "this Gemma 3 attends in both directions: it is an encoder, not a language model"
            )
        b, (local, whole) = blocks.Builder(c), c.ropes()
        x = b.embed(scale=c.hidden_size**0.5)
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x, offset=1.0)
            h = blocks.attention(
                b,
                i,
                h,
                local if c.is_local(i) else whole,
                bias=c.attention_bias,
                out_bias=c.attention_bias,
                norm="head",
                norm_offset=1.0,
                window=c.window(i),
                scale=c.query_pre_attn_scalar**-0.5,
            )
            h = b.norm(f"layers.{i}.attn_post_norm", h, offset=1.0)
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x, offset=1.0)
            h = blocks.gated_mlp(b, i, h)
            h = b.norm(f"layers.{i}.mlp_post_norm", h, offset=1.0)
            x = b.add("add", f"layers.{i}.mlp_add", x, h)
        x = blocks.gather_and_norm(b, x, offset=1.0)
        return b.finish("gemma3_text", x, softcap=c.final_logit_softcapping)

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor, NAMES)
