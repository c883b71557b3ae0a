"""`--dry-run`: what a run would take. Sizes are counted, time is measured on one batch.

The batch is of random tokens and goes through the very model, forward and back; what tokenizes,
evaluates and saves comes on top.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import ConfigError, plain
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.estimate import Estimate, check_memory, estimate
from llama_plugin_train.loop.preparing import corpus
from llama_plugin_train.metrics.lines import duration, size
from llama_plugin_train.models.config import DecoderConfig
from llama_plugin_train.tokens import Encoder

if TYPE_CHECKING:
    from llama_plugin_train.loop.machine import Machine


def fitting(
    config: TrainConfig, run: Path | None = None
) -> tuple[Estimate, DecoderConfig, Machine]:
    """What is counted; a run that does not fit into memory is an error that says why. `run` is the
    folder of one that goes on."""
    import torch

    from llama_plugin_train.loop.machine import Machine

    machine = Machine(config.train)
    shape = _shape(config, run)
    wanted = estimate(config, shape=shape, half=machine.dtype != torch.float32)
    check_memory(wanted, machine.free_bytes())
    return wanted, shape, machine


def estimated(config: TrainConfig, run: Path | None = None) -> dict[str, Any]:
    """What is counted and what is measured."""
    wanted, shape, machine = fitting(config, run)
    free = machine.free_bytes()
    per_step = _batch_seconds(config, shape, machine) * config.train.accumulation
    return {
        **wanted.to_json(),
        "vocab_size": shape.vocab_size,
        "vocab_size_known": config.model.start is not None or _tokenizer(config, run) is not None,
        "free_bytes": free,
        "steps": config.train.steps,
        "device": str(machine.device),
        "dtype": str(machine.dtype).removeprefix("torch."),
        "ranks": config.distributed.ranks,
        "source_bytes": sum(_bytes(config)),
        "seconds_per_step": per_step,
        "seconds": per_step * config.train.steps,
    }


def _tokenizer(config: TrainConfig, run: Path | None) -> Path | None:
    """The tokenizer that is there; None: it is yet to be trained, and may come out smaller."""
    if config.tokenizer.path is not None:
        return Path(config.tokenizer.path)
    made = None if run is None else run / "tokenizer"
    return made if made is not None and made.is_dir() else None


def _shape(config: TrainConfig, run: Path | None) -> DecoderConfig:
    if config.model.start is not None:
        from llama_plugin_train.models.export import load_folder

        found, _ = load_folder(Path(config.model.start))
        if not isinstance(found, DecoderConfig):
            raise ConfigError(
                f"a run trains decoders, and {config.model.start} holds another model"
            )
        return found
    if (tokenizer := _tokenizer(config, run)) is not None:
        return config.decoder(Encoder(tokenizer).vocab_size)
    return config.decoder(config.tokenizer.vocab_size)


def _batch_seconds(config: TrainConfig, shape: DecoderConfig, machine: Machine) -> float:
    """One batch of one rank, forward and back, the second time."""
    import torch

    from llama_plugin_train.loop.learner import Learner

    alone = config.distributed.ranks if config.distributed.strategy != "tensor" else 1
    rows = config.train.batch_size // alone
    learner = Learner(shape.build().to(machine.device), config.train, machine)
    made = torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocab_size, (rows, config.data.length + 1), generator=made)
    tokens = tokens.to(machine.device)
    for _ in range(2):  # the first one also finds its kernels
        began = time.perf_counter()
        learner(tokens[:, :-1], tokens[:, 1:]).total.backward()
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        took = time.perf_counter() - began
    return took


def _bytes(config: TrainConfig) -> Iterator[int]:
    for source in config.data.sources:
        yield from (Path(file).stat().st_size for file in corpus(source).files())


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The numbers in words."""
    where = f"{facts['device']} in {facts['dtype']}"
    if facts["ranks"] > 1:
        where += f", {facts['ranks']} ranks"
    asked = f", if the texts give the {facts['vocab_size']:,} tokens that are asked for"
    known = facts["vocab_size_known"]
    yield f"model     {facts['parameters']:,} parameters{'' if known else asked}"
    yield (
        f"tokens    {facts['tokens']:,}: {facts['steps']:,} steps of {facts['tokens_per_step']:,}"
    )
    yield f"sources   {size(facts['source_bytes'])}, before they are tokenized"
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "base")
    named = ", ".join(f"{part} {size(facts[f'{part}_bytes'])}" for part in parts)
    free = f" of {size(facts['free_bytes'])} that are free" if facts["free_bytes"] else ""
    yield f"memory    about {size(facts['memory_bytes'])}{free}: {named}"
    yield f"disk      {size(facts['checkpoint_bytes'])} a checkpoint"
    yield (
        f"time      about {duration(facts['seconds'])} on {plain(where)}: "
        f"{facts['seconds_per_step']:.3f} s a step, as one batch of random tokens took"
    )
