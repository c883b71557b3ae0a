"""How large a model is and what a token costs it, counted from its configuration alone.

The rules of counting: a product of [m, k] and [k, n] is 2mkn operations; the backward pass costs
twice the forward one; attention counts the whole square of its row, as kernels' own tables do, so
that utilizations compare with those others publish. Norms, activations and additions are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_plugin_train.models.config import (
        DecoderConfig,
        EncoderConfig,
        EncoderDecoderConfig,
        ModelConfig,
    )


def parameters(config: ModelConfig) -> int:
    """Every number that is trained."""
    c = config
    total = c.vocab_size * c.hidden_size
    total += c.max_positions * c.hidden_size if c.positions == "learned" else 0
    if c.kind == "encoder-decoder":
        total += _stack(c, _encoder_layers(c)) + _stack(c, c.num_layers, cross=True)
    else:
        total += _stack(c, c.num_layers)
    if c.kind == "encoder":
        total += _masked_head(c) + _num_classes(c) * (c.hidden_size + 1)
    return total + (0 if c.tied else c.vocab_size * c.hidden_size)


def training_flops(config: ModelConfig, length: int) -> int:
    """Forward and backward, for one token of the rows. An encoder-decoder is given a text and
    another of the same length; a token there is one of each."""
    c = config
    square = 4 * length * c.num_heads * c.head_width  # scores and their sums, for one query
    once = _block_products(c) + square
    forward = c.num_layers * once + 2 * c.vocab_size * c.hidden_size
    if c.kind == "encoder-decoder":
        crossing = 2 * _attention_weights(c) + square
        forward += _encoder_layers(c) * once + c.num_layers * crossing
    if c.kind == "encoder":
        forward += 2 * c.hidden_size**2
    return 3 * forward


def _stack(c: ModelConfig, num_layers: int, cross: bool = False) -> int:
    attentions = 2 if cross else 1
    norm = c.hidden_size * (2 if c.norm == "layer" else 1)
    attention = _attention_weights(c) + (_attention_biases(c) if c.bias else 0)
    block = attentions * (attention + norm) + norm + _mlp_weights(c, _num_experts(c) or 1)
    block += _mlp_biases(c) if c.bias else 0
    return num_layers * (block + _num_experts(c) * c.hidden_size) + norm


def _block_products(c: ModelConfig) -> int:
    experts = _num_experts(c)
    active = _experts_per_token(c) if experts else 1
    return 2 * (_attention_weights(c) + _mlp_weights(c, active) + experts * c.hidden_size)


def _attention_weights(c: ModelConfig) -> int:
    return c.hidden_size * c.head_width * 2 * (c.num_heads + c.kv_heads)


def _attention_biases(c: ModelConfig) -> int:
    return c.head_width * (c.num_heads + 2 * c.kv_heads) + c.hidden_size


def _mlp_weights(c: ModelConfig, experts: int) -> int:
    return experts * c.hidden_size * c.intermediate_size * (3 if c.mlp == "swiglu" else 2)


def _mlp_biases(c: ModelConfig) -> int:
    return c.intermediate_size * (2 if c.mlp == "swiglu" else 1) + c.hidden_size


def _masked_head(c: ModelConfig) -> int:
    norm = c.hidden_size * (2 if c.norm == "layer" else 1)
    return c.hidden_size**2 + (c.hidden_size if c.bias else 0) + norm


def _num_experts(c: ModelConfig | DecoderConfig) -> int:
    return getattr(c, "num_experts", 0)


def _experts_per_token(c: ModelConfig | DecoderConfig) -> int:
    return getattr(c, "experts_per_token", 0)


def _encoder_layers(c: ModelConfig | EncoderDecoderConfig) -> int:
    return getattr(c, "num_encoder_layers", 0)


def _num_classes(c: ModelConfig | EncoderConfig) -> int:
    return getattr(c, "num_classes", 0)
