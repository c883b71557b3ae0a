"""What our tensors are called in a Hugging Face folder, and which of its architectures a model is.

A mapping is a list of `Stored`: one tensor of the file, and the rows of ours that it is. Writing
and reading walk the same list, so they cannot disagree. It knows names and shapes, not numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llama_core.errors import LlamaError
from llama_plugin_train.models.config import DecoderConfig, ModelConfig


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: rows [start, stop) of one of ours, turned where the file has it so."""

    name: str
    ours: str
    rows: tuple[int, int] | None = None
    expert: int | None = None
    turned: bool = False


def architecture(config: ModelConfig) -> str:
    """The `model_type` that is built as this model is; an error says why there is none."""
    if not isinstance(config, DecoderConfig):
        raise LlamaError(
            f"transformers has no architecture that is built as this {config.kind}",
            remedy="Keep it with save_own, which load_folder reads again.",
        )
    llama = (config.positions, config.norm, config.mlp) == ("rope", "rms", "swiglu")
    if llama:
        return "mixtral" if config.num_experts else "llama"
    gpt2 = (config.positions, config.norm, config.mlp) == ("learned", "layer", "gelu")
    plain = config.kv_heads == config.num_heads and config.head_size is None
    if gpt2 and plain and not config.num_experts:
        return "gpt2"
    raise LlamaError(
        f"no architecture has {config.positions} positions, {config.norm} norms and a "
        f"{config.mlp} MLP with {config.kv_heads} of {config.num_heads} heads for keys",
        remedy="Llama is rope, rms and swiglu; GPT-2 is learned, layer and gelu, all heads equal.",
    )


def stored(config: DecoderConfig) -> Iterator[Stored]:
    """Every tensor of the file."""
    kind = architecture(config)
    yield from _gpt2(config) if kind == "gpt2" else _llama(config)
    if not config.tied:
        yield Stored("lm_head.weight", "lm_head.weight")


def _llama(c: DecoderConfig) -> Iterator[Stored]:
    yield Stored("model.embed_tokens.weight", "embed.tokens.weight")
    yield Stored("model.norm.weight", "norm.weight")
    for i in range(c.num_layers):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        yield Stored(f"{theirs}.input_layernorm.weight", f"{ours}.attn_norm.weight")
        yield Stored(f"{theirs}.post_attention_layernorm.weight", f"{ours}.mlp_norm.weight")
        for role in ("weight", "bias") if c.bias else ("weight",):
            start = 0
            for part, heads in (("q", c.num_heads), ("k", c.kv_heads), ("v", c.kv_heads)):
                rows = (start, start := start + heads * c.head_width)
                name = f"{theirs}.self_attn.{part}_proj.{role}"
                yield Stored(name, f"{ours}.attn.qkv_proj.{role}", rows)
            yield Stored(f"{theirs}.self_attn.o_proj.{role}", f"{ours}.attn.o_proj.{role}")
        yield from _experts(c, theirs, ours) if c.num_experts else _gated(c, theirs, ours)


def _gated(c: DecoderConfig, theirs: str, ours: str) -> Iterator[Stored]:
    inner = c.intermediate_size
    for role in ("weight", "bias") if c.bias else ("weight",):
        fused = f"{ours}.mlp.gate_up_proj.{role}"
        yield Stored(f"{theirs}.mlp.gate_proj.{role}", fused, (0, inner))
        yield Stored(f"{theirs}.mlp.up_proj.{role}", fused, (inner, 2 * inner))
        yield Stored(f"{theirs}.mlp.down_proj.{role}", f"{ours}.mlp.down_proj.{role}")


def _experts(c: DecoderConfig, theirs: str, ours: str) -> Iterator[Stored]:
    inner, moe = c.intermediate_size, f"{theirs}.block_sparse_moe"
    yield Stored(f"{moe}.gate.weight", f"{ours}.mlp.router.weight")
    for expert in range(c.num_experts):
        path, fused = f"{moe}.experts.{expert}", f"{ours}.mlp.experts.gate_up_EIM"
        yield Stored(f"{path}.w1.weight", fused, (0, inner), expert)
        yield Stored(f"{path}.w3.weight", fused, (inner, 2 * inner), expert)
        yield Stored(f"{path}.w2.weight", f"{ours}.mlp.experts.down_EMI", None, expert)


def _gpt2(c: DecoderConfig) -> Iterator[Stored]:
    yield Stored("transformer.wte.weight", "embed.tokens.weight")
    yield Stored("transformer.wpe.weight", "embed.positions.weight")
    for role in ("weight", "bias"):
        yield Stored(f"transformer.ln_f.{role}", f"norm.{role}")
    linears = (
        ("attn.c_attn", "attn.qkv_proj"),
        ("attn.c_proj", "attn.o_proj"),
        ("mlp.c_fc", "mlp.up_proj"),
        ("mlp.c_proj", "mlp.down_proj"),
    )
    for i in range(c.num_layers):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        for role in ("weight", "bias"):
            yield Stored(f"{theirs}.ln_1.{role}", f"{ours}.attn_norm.{role}")
            yield Stored(f"{theirs}.ln_2.{role}", f"{ours}.mlp_norm.{role}")
            for their, our in linears:
                name = f"{theirs}.{their}.{role}"
                yield Stored(name, f"{ours}.{our}.{role}", turned=role == "weight")
