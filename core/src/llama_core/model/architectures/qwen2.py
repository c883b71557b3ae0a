"""Qwen 2 and 2.5: Llama with biases on q, k and v, and windows in the upper layers if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.model.architectures import blocks
from llama_core.model.architectures.config import Length, TextConfig, read
from llama_core.model.graph import Graph


class Config(TextConfig):
    max_position_embeddings: Length = 32768
    use_sliding_window: bool = False
    sliding_window: Length | None = 4096
    max_window_layers: int = 28

    def window(self, layer: int) -> int | None:
        slides = self.use_sliding_window and self.slides(layer, layer >= self.max_window_layers)
        return self.sliding_window if slides else None


class Qwen2:
    def build(self, config: Mapping[str, Any]) -> Graph:
        c = read(Config, config, "qwen2")
        b, rope = blocks.Builder(c), c.rope()
        x = b.embed()
        for i in range(c.num_hidden_layers):
            h = b.norm(f"layers.{i}.attn_norm", x)
            h = blocks.attention(b, i, h, rope, bias=True, window=c.window(i))
            x = b.add("add", f"layers.{i}.attn_add", x, h)
            h = b.norm(f"layers.{i}.mlp_norm", x)
            x = b.add("add", f"layers.{i}.mlp_add", x, blocks.gated_mlp(b, i, h))
        return b.finish("qwen2", blocks.gather_and_norm(b, x))

    def rename(self, tensor: str) -> str | None:
        return blocks.rename(tensor)
