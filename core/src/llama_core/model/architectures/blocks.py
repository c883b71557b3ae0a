"""What architectures are put together from: a builder of graphs, attention, MLPs, and names.

Every block adds nodes under a path ("layers.3.attn") and gives the name of its value. A weight's
name is its node's with the role behind it: `layers.3.attn.q_proj.weight`. Blocks know the ops and
the config's common words; which block stands where, and with which quirk, each architecture says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llama_core.errors import ConfigError
from llama_core.model import ops
from llama_core.model.architectures.config import Rope, TextConfig
from llama_core.model.graph import FrozenMap, Graph, Node


class Builder:
    """Collects the nodes of a graph, and the shapes of the weights they name."""

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(
        self,
        op: str,
        name: str,
        *inputs: str,
        weights: Mapping[str, tuple[int, ...]] | None = None,
        **attrs: Any,
    ) -> str:
        """One node. `weights` gives shapes by role; the names follow from the node's."""
        weights = weights or {}
        names = {role: f"{name}.{role}" for role in weights}
        self.shapes |= {names[role]: shape for role, shape in weights.items()}
        self.nodes.append(ops.node(op, name, inputs, names, **attrs))
        return name

    def embed(self, scale: float = 1.0) -> str:
        shape = (self.config.vocab_size, self.config.hidden_size)
        x = self.add("embed", "embed", "tokens", weights={"weight": shape})
        return x if scale == 1.0 else self.add("mul", "embed_scale", x, by=scale)

    def linear(self, name: str, x: str, inner: int, outer: int, bias: bool = False) -> str:
        weights: dict[str, tuple[int, ...]] = {"weight": (outer, inner)}
        if bias:
            weights["bias"] = (outer,)
        return self.add("linear", name, x, weights=weights)

    def norm(self, name: str, x: str, width: int | None = None, offset: float = 0.0) -> str:
        """An RMS norm over the hidden size, or over parts of the given width."""
        weights = {"weight": (width or self.config.hidden_size,)}
        return self.add(
            "rms_norm", name, x, weights=weights, eps=self.config.rms_norm_eps, offset=offset
        )

    def finish(
        self, architecture: str, x: str, *, softcap: float | None = None, scale: float = 1.0
    ) -> Graph:
        """Logits of the wanted rows from their normed hidden state."""
        c = self.config
        if c.tie_word_embeddings:
            head = ops.node("linear", "lm_head", (x,), {"weight": "embed.weight"})
            self.nodes.append(head)
            logits = head.name
        else:
            logits = self.linear("lm_head", x, c.hidden_size, c.vocab_size)
        if scale != 1.0:
            logits = self.add("mul", "logits_scale", logits, by=scale)
        if softcap is not None:
            logits = self.add("softcap", "logits_cap", logits, cap=softcap)
        return Graph(
            architecture,
            c.vocab_size,
            c.hidden_size,
            c.context,
            tuple(self.nodes),
            FrozenMap(self.shapes),
            FrozenMap({"logits": logits, "hidden": x}),
        ).validate()


def attention(
    b: Builder,
    layer: int,
    x: str,
    rope: Rope,
    *,
    bias: bool = False,  # of the projections to q, k and v
    out_bias: bool = False,
    fused: bool = False,  # the checkpoint holds q, k and v as one tensor
    norm: str | None = None,  # of q and k: each "head", or the whole "row"
    norm_offset: float = 0.0,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> str:
    """Projections, norms and rotation of q and k, attention, projection back."""
    c, path = b.config, f"layers.{layer}.attn"
    size = c.head_size
    widths = {"q": c.num_attention_heads * size, "k": c.num_kv_heads * size}
    widths["v"] = widths["k"]
    parts = _projections(b, path, x, widths, bias, fused)
    for part in ("q", "k"):
        if norm is not None:
            width = size if norm == "head" else widths[part]
            parts[part] = b.norm(f"{path}.{part}_norm", parts[part], width, norm_offset)
        parts[part] = b.add(
            "rope",
            f"{path}.{part}_rope",
            parts[part],
            "positions",
            head_dim=size,
            rotary_dim=rope.rotary_dim,
            theta=rope.theta,
            scaling=rope.scaling,
        )
    read = b.add(
        "attention",
        f"{path}.core",
        *parts.values(),
        layer=layer,
        num_heads=c.num_attention_heads,
        num_kv_heads=c.num_kv_heads,
        head_dim=size,
        scale=size**-0.5 if scale is None else scale,
        window=window,
        softcap=softcap,
    )
    return b.linear(f"{path}.o_proj", read, widths["q"], c.hidden_size, out_bias)


def _projections(
    b: Builder, path: str, x: str, widths: Mapping[str, int], bias: bool, fused: bool
) -> dict[str, str]:
    hidden = b.config.hidden_size
    if not fused:
        return {p: b.linear(f"{path}.{p}_proj", x, hidden, n, bias) for p, n in widths.items()}
    whole = b.linear(f"{path}.qkv_proj", x, hidden, sum(widths.values()), bias)
    parts, start = {}, 0
    for part, width in widths.items():
        name = f"{path}.{part}_part"
        parts[part] = b.add("slice", name, whole, start=start, stop=start + width)
        start += width
    return parts


def gated_mlp(
    b: Builder,
    layer: int,
    x: str,
    *,
    fn: str | None = None,
    bias: bool = False,
    fused: bool = False,  # the checkpoint holds gate and up as one tensor
    width: int | None = None,
) -> str:
    """down(fn(gate(x)) · up(x))"""
    c, path = b.config, f"layers.{layer}.mlp"
    inner = width or c.intermediate_size
    if fused:
        whole = b.linear(f"{path}.gate_up_proj", x, c.hidden_size, 2 * inner, bias)
        gate = b.add("slice", f"{path}.gate_part", whole, start=0, stop=inner)
        up = b.add("slice", f"{path}.up_part", whole, start=inner, stop=2 * inner)
    else:
        gate = b.linear(f"{path}.gate_proj", x, c.hidden_size, inner, bias)
        up = b.linear(f"{path}.up_proj", x, c.hidden_size, inner, bias)
    glu = b.add("glu", f"{path}.glu", gate, up, fn=fn or c.fn)
    return b.linear(f"{path}.down_proj", glu, inner, c.hidden_size, bias)


def experts(
    b: Builder, layer: int, x: str, *, num: int, top_k: int, width: int, normalize: bool
) -> str:
    """A router, and for each row its best experts, each a gated MLP of its own."""
    c, path = b.config, f"layers.{layer}.mlp"
    if num * c.num_hidden_layers > MOST_EXPERTS:
        raise ConfigError(f"{num} experts in each of {c.num_hidden_layers} layers are too many")
    scores = b.linear(f"{path}.router", x, c.hidden_size, num)
    roles: dict[str, str] = {}
    for expert in range(num):
        for role in ("gate", "up", "down"):
            name = f"{path}.experts.{expert}.{role}_proj.weight"
            roles[f"{role}.{expert}"] = name
            down = role == "down"
            b.shapes[name] = (c.hidden_size, width) if down else (width, c.hidden_size)
    node = ops.node(
        "moe",
        f"{path}.experts",
        (x, scores),
        roles,
        num_experts=num,
        top_k=top_k,
        normalize=normalize,
        fn=c.fn,
    )
    b.nodes.append(node)
    return node.name


def gather_and_norm(b: Builder, x: str, offset: float = 0.0) -> str:
    """The rows that are to give something, normed."""
    return b.norm("norm", b.add("gather", "wanted", x, "rows"), offset=offset)


MOST_EXPERTS = 1 << 16  # in the whole model; a bound against hostile files
PREFIX = re.compile(r"^(?:model\.)?(?:language_model\.)?(?:model\.)?")
NOT_TEXT = ("vision_tower.", "multi_modal_projector.", "vision_model.", "audio_tower.")
LLAMA_NAMES: Mapping[str, str] = {
    "embed_tokens": "embed",
    "self_attn": "attn",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "mlp_norm",
}


def rename(tensor: str, names: Mapping[str, str] = LLAMA_NAMES) -> str | None:
    """A checkpoint's name, each part of the path put into our words."""
    bare = PREFIX.sub("", tensor)
    if bare.startswith(NOT_TEXT) or bare.endswith("rotary_emb.inv_freq"):
        return None
    return ".".join(names.get(part, part) for part in bare.split("."))
