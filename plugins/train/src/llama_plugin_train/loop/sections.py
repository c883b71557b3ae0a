"""The sections of a run's configuration: what may be said, its defaults, bounds and meaning.

Each field carries its own meaning, so the file that `llama train init` writes, the errors and the
reading of a file all follow from these classes. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

INFINITE = float("inf")


def told(default: Any, meaning: str, *, least: float = -INFINITE, most: float = INFINITE) -> Any:
    """A field with its meaning, and the bounds of its number."""
    about = {"meaning": meaning, "least": least, "most": most}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """What is trained. `settings` are the words of a model's configuration, without vocab_size,
    which the tokenizer says."""

    start: str | None = told(
        None, "a model's folder to begin from: weights, tokenizer, and sizes in place of any here"
    )
    settings: Mapping[str, Any] = told({}, "the model's sizes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSection:
    """A tokenizer that is there, or how to train one."""

    path: str | None = told(None, "a folder with tokenizer.json; none: one is trained")
    kind: Literal["bpe", "unigram"] = told("bpe", "of the tokenizer that is trained")
    vocab_size: int = told(4096, "its tokens", least=259, most=1 << 22)
    min_frequency: int = told(2, "how often a pair must occur to be merged", least=1)
    specials: tuple[str, ...] = told((), "more special tokens")
    paths: tuple[str, ...] = told((), "what to train it on; empty: all of the data's sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSection:
    """Files that are one source of rows."""

    name: str = told("text", "what the source is called")
    paths: tuple[str, ...] = told(("text.txt",), "files and folders, relative to this file")
    format: Literal["text", "jsonl", "parquet"] | None = told(None, "by default as files end")
    separator: str | None = told(None, "what parts the documents of a text; none: a file is one")
    text_field: str = told("text", "of JSON lines and Parquet: where a text is")
    messages_field: str = told("messages", "where a conversation is; its answers are learnt")
    weight: float = told(1.0, "its share of the rows, beside the others'", least=1e-6)
    packing: Literal["cut", "whole"] = told("cut", "cut: no token lost; whole: no document cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """What is learnt from."""

    length: int = told(256, "tokens of a row", least=1, most=1 << 24)
    shuffle: bool = told(True, "rows come in another order in every epoch")
    workers: int = told(1, "processes that tokenize", least=1, most=1024)
    cache: str | None = told(None, "where shards are kept; none: in the run's own folder")
    sources: tuple[SourceSection, ...] = told((SourceSection(),), "what is learnt")
    held_out: tuple[SourceSection, ...] = told((), "what is only measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSection:
    """How the rate goes: warm-up, then as named."""

    name: Literal["cosine", "wsd", "constant"] = told("cosine", "wsd: stay, then fall at the end")
    warmup_steps: int = told(100, "steps in which the rate rises", least=0)
    decay_steps: int = told(0, "the last steps, in which wsd falls", least=0)
    floor: float = told(0.1, "what the rate ends at, as a part of the highest", least=0, most=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSection:
    """The steps themselves."""

    steps: int = told(1000, "optimizer steps", least=1)
    batch_size: int = told(16, "rows of one pass, of all ranks together", least=1)
    accumulation: int = told(1, "passes that make one step", least=1)
    seed: int = told(0, "of weights, order of rows and samples", least=0, most=(1 << 63) - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = told("auto", "auto: a GPU where there is one")
    dtype: Literal["auto", "float32", "bf16", "fp16"] = told(
        "auto", "of the products; auto: bf16 where the device has it, else float32"
    )
    clip: float = told(1.0, "the longest gradient; 0: any", least=0)
    z_loss: float = told(0.0, "how much logits are kept from growing", least=0)
    balance: float = told(0.01, "how much experts are kept equally busy", least=0)
    average: float = told(0.0, "decay of a slow average of the weights; 0: none", least=0, most=1)
    export_average: bool = told(True, "evaluate and export the average, where there is one")
    quantize: str | None = told(
        None, 'train for "8", "4", "2", "1.58" or "1" bits, or an encoding such as "q4:g32"'
    )
    recompute: bool = told(False, "keep no activations inside blocks: less memory, a third slower")
    compile: bool = told(False, "let torch compile the model; the first steps are slow")
    attention: Literal["sdpa", "flex"] = told(
        "sdpa", "flex: PyTorch's FlexAttention skips what lies between documents; on GPUs alone"
    )
    chunk: int | None = told(
        None, "rows of logits held at once; none: what suits the cache", least=1
    )
    threads: int | None = told(None, "of the processor, for each rank", least=1, most=4096)
    log_every: int = told(10, "steps between reports", least=1)
    spike: float = told(
        20.0, "a step whose gradient is so many times as long as usual is skipped; 0: none", least=0
    )
    loss_spike: float = told(
        0.0, "a report so many nats above the usual goes back to a checkpoint; 0: none", least=0
    )
    rollback_after: int = told(20, "steps skipped in a row before going back", least=1)
    rollbacks: int = told(3, "how often the run may go back before it fails", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsSection:
    """What is kept of the run, to go on from."""

    every: int = told(500, "steps between checkpoints; 0: only at the end", least=0)
    keep: int = told(2, "the newest that are kept", least=1)
    keep_every: int = told(0, "steps whose checkpoints are kept for ever; 0: none", least=0)
    background: bool = told(True, "write them while the run goes on")
    skip_damaged: bool = told(
        False, "go on from the newest whole one, and delete damaged ones after it"
    )
    storage: str = told("folder", "where: the name of a storage")
    options: Mapping[str, Any] = told({}, "what that storage is told; empty: in the run's folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSection:
    """What is looked at on the way."""

    every: int = told(0, "steps between evaluations of the held-out sources; 0: none", least=0)
    batches: int = told(0, "how many batches; 0: all", least=0)
    patience: int = told(0, "evaluations without a better one before the run ends; 0: any", least=0)
    sample_every: int = told(0, "steps between samples; 0: none", least=0)
    prompts: tuple[str, ...] = told((), "what samples begin with")
    as_chat: bool = told(False, "prompts are what a user says")
    sample_tokens: int = told(64, "of one sample", least=1, most=1 << 16)
    temperature: float = told(0.0, "of samples; 0: always the likeliest token", least=0, most=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSection:
    """How the run is watched, and spoken to, while it runs."""

    enabled: bool = told(True, "listen for commands on loopback")
    port: int = told(0, "0: any that is free", least=0, most=65535)
    tensorboard: bool = told(False, "write the numbers for TensorBoard too")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedSection:
    """Several processes that train one model."""

    ranks: int = told(1, "processes", least=1, most=1 << 16)
    strategy: Literal["ddp", "fsdp", "tensor"] = told(
        "ddp",
        "ddp: each has the whole model; fsdp: each a part of every weight; tensor: each some heads",
    )
    launcher: str = told("torchrun", "what starts them")
    restarts: int = told(3, "how often all begin again after one has died", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSection:
    """How weights move."""

    name: Literal["adamw", "muon"] = told(
        "adamw", "muon moves the blocks' matrices, adamw the rest"
    )
    rate: float = told(1e-3, "the highest rate", least=1e-12, most=10)
    betas: tuple[float, float] = told(
        (0.9, 0.95), "what AdamW's two averages keep", least=0, most=1
    )
    eps: float = told(1e-8, "AdamW's guard against division by nothing", least=1e-30, most=1)
    weight_decay: float = told(0.1, "of matrices", least=0, most=100)
    momentum: float = told(0.95, "Muon's", least=0, most=1)
