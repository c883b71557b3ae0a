"""What a run will take, from its configuration alone: memory, operations, time, tokens.

Sizes are added up as the modules make them; allocators and libraries take some more. Nothing is
allocated, so a run that does not fit is told so and not killed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from llama_core.errors import LlamaError
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.models.config import DecoderConfig

_CHUNK_NUMBERS = 1 << 23  # of logits at once, as the loss has it
_BASE_BYTES = 400 << 20  # interpreter and torch itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """For one rank, but for tokens and operations, which are of all."""

    parameters: int
    tokens_per_step: int
    tokens: int
    flops_per_step: int
    flops: int
    weights_bytes: int  # with the average
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    base_bytes: int
    checkpoint_bytes: int  # on disk, each

    @property
    def memory_bytes(self) -> int:
        """The most that is held at once, about."""
        held = self.weights_bytes + self.optimizer_bytes + self.base_bytes
        return held + self.gradients_bytes + self.activations_bytes + self.logits_bytes

    def seconds(self, flops_per_second: float) -> float:
        """All steps, on ranks that together do so many operations a second."""
        return self.flops / flops_per_second

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "memory_bytes": self.memory_bytes}


def estimate(
    config: TrainConfig, *, shape: DecoderConfig | None = None, half: bool = False
) -> Estimate:
    """`shape` where the model begins from a folder; `half` where products are of 16 bits."""
    shape = shape or config.decoder(config.tokenizer.vocab_size)
    ranks, strategy = config.distributed.ranks, config.distributed.strategy
    parameters = shape.count_parameters()
    held = -(-parameters // ranks) if strategy != "ddp" else parameters
    slots = 1 if config.optimizer.name == "muon" else 2  # of most weights
    copies = 1 + (config.train.average > 0)
    per_step = config.tokens_per_step
    flops = shape.flops_per_token(config.data.length) * per_step
    rows = config.train.batch_size // (1 if strategy == "tensor" else ranks)
    width = 2 if half else 4
    return Estimate(
        parameters=parameters,
        tokens_per_step=per_step,
        tokens=per_step * config.train.steps,
        flops_per_step=flops,
        flops=flops * config.train.steps,
        weights_bytes=4 * held * copies,
        gradients_bytes=4 * held,
        optimizer_bytes=4 * held * slots,
        activations_bytes=_activations(config, shape, rows, width),
        logits_bytes=_logits(config, shape, rows, width),
        base_bytes=_BASE_BYTES,
        checkpoint_bytes=4 * parameters * (copies + slots),
    )


def check_memory(wanted: Estimate, free_bytes: int | None) -> None:
    """An error, before anything is allocated, where a run will not fit."""
    if free_bytes is None or wanted.memory_bytes <= free_bytes:
        return
    raise LlamaError(
        f"this run takes about {_gib(wanted.memory_bytes)} of memory and {_gib(free_bytes)} are "
        f"free: {_gib(wanted.weights_bytes + wanted.gradients_bytes + wanted.optimizer_bytes)} for "
        f"weights, gradients and optimizer, {_gib(wanted.activations_bytes)} for activations",
        remedy="Choose a smaller train.batch_size (and more accumulation), train.recompute, or a "
        "smaller model.",
    )


def _activations(config: TrainConfig, shape: DecoderConfig, rows: int, width: int) -> int:
    tokens = rows * config.data.length
    heads = (shape.num_heads + 2 * shape.kv_heads) * shape.head_width
    inner = shape.intermediate_size
    # What the backward pass needs again: norms' inputs and outputs, queries to values before and
    # after turning, what attention gives, and the MLP's inner numbers.
    block = 4 * shape.hidden_size + 2 * heads + shape.num_heads * shape.head_width
    block += (4 if shape.mlp == "swiglu" else 2) * inner * max(1, _active(shape))
    kept = shape.num_layers * (shape.hidden_size if config.train.recompute else block)
    if config.train.recompute:
        kept += block
    masks = rows * config.data.length**2 * 4 * 2  # where rows have several documents
    return tokens * kept * width + masks


def _active(shape: DecoderConfig) -> int:
    return shape.experts_per_token if shape.num_experts else 1


def _logits(config: TrainConfig, shape: DecoderConfig, rows: int, width: int) -> int:
    chunk = config.train.chunk or max(1, _CHUNK_NUMBERS // shape.vocab_size)
    chunk = min(chunk, rows * config.data.length)
    hidden = rows * config.data.length * shape.hidden_size * width  # its gradient
    return chunk * shape.vocab_size * 4 * 2 + hidden


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
