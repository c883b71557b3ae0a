"""Putting a run together: device, data, model, optimizer, each made ready for the next.

The first rank makes what is kept on disk; weights are made alike on every rank from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llama_core.announce import Announcements
from llama_core.errors import ConfigError
from llama_plugin_train.data import Source, Stream
from llama_plugin_train.data.shards import Progress
from llama_plugin_train.loop import learner as learning
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.feed import Feed
from llama_plugin_train.loop.guard import Guard
from llama_plugin_train.loop.machine import Machine
from llama_plugin_train.loop.preparing import Prepared, check_vocabulary, ready
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.loop.spreading import Replicated, Sharded, Spread
from llama_plugin_train.loop.tensor_parallel import Split
from llama_plugin_train.models.config import DecoderConfig
from llama_plugin_train.optimizing.averaging import Average
from llama_plugin_train.optimizing.optimizer import Optimizer, OptimizerConfig
from llama_plugin_train.quantize.training import quantize
from llama_plugin_train.tokens import Encoder


@dataclass(slots=True)
class Parts:
    """What a run consists of."""

    machine: Machine
    encoder: Encoder
    shape: DecoderConfig
    model: Any
    learner: learning.Learner
    spread: Spread
    optimizer: Optimizer
    average: Average | None
    guard: Guard
    feed: Feed
    held_out: Stream | None

    def identity(self, config: TrainConfig) -> dict[str, Any]:
        """What a checkpoint must have in common with this run."""
        return {
            "model": self.shape.to_dict(),
            "optimizer": config.optimizer.name,
            "average": config.train.average > 0,
            "quantize": config.train.quantize,
        }


def assemble(
    config: TrainConfig,
    folder: Path,
    ranks: Ranks,
    announcements: Announcements,
    progress: Progress | None = None,
) -> Parts:
    """Everything, at the very beginning."""
    machine = Machine(config.train)
    begun = None if config.model.start is None else _begun(config, Path(config.model.start))
    prepared = _prepared(config, folder, ranks, announcements, progress)
    torch.manual_seed(config.train.seed)
    shape, model = _model(config, prepared.encoder, begun)
    if config.train.quantize is not None:
        quantize(model, config.train.quantize)
    model.to(machine.device)
    learner = learning.Learner(model, config.train, machine)
    spread = _spread(config, learner, ranks, machine)
    learning.prepare(model, config.train, announcements)
    chosen = config.optimizer
    optimizer = Optimizer(
        model,
        OptimizerConfig(
            name=chosen.name,
            rate=chosen.rate,
            betas=chosen.betas,
            eps=chosen.eps,
            weight_decay=chosen.weight_decay,
            momentum=chosen.momentum,
        ),
    )
    stream = _stream(config, prepared.sources, spread, announcements)
    return Parts(
        machine,
        prepared.encoder,
        shape,
        model,
        learner,
        spread,
        optimizer,
        Average(model, config.train.average) if config.train.average else None,
        Guard(machine.device, spike=config.train.spike, scaled=machine.scaled),
        Feed(stream, machine.device),
        _stream(config, prepared.held_out, spread, announcements) if prepared.held_out else None,
    )


def _prepared(
    config: TrainConfig,
    folder: Path,
    ranks: Ranks,
    announcements: Announcements,
    progress: Progress | None,
) -> Prepared:
    if ranks.first:
        made = ready(config, folder, announcements, progress)
        ranks.wait()
        return made
    ranks.wait()
    return ready(config, folder)


def _begun(config: TrainConfig, folder: Path) -> tuple[DecoderConfig, Any]:
    """The model to begin from: refused before its texts are made into tokens."""
    from llama_plugin_train.models.export import load_folder

    found, model = load_folder(folder)
    if not isinstance(found, DecoderConfig):
        raise ConfigError(f"a run trains decoders, and {folder} holds another model")
    if config.data.length > found.max_positions:
        raise ConfigError(
            f"rows of {config.data.length} tokens, and the model in {folder} has "
            f"{found.max_positions} positions",
            remedy="Choose a shorter data.length.",
        )
    return found, model


def _model(
    config: TrainConfig, encoder: Encoder, begun: tuple[DecoderConfig, Any] | None
) -> tuple[DecoderConfig, Any]:
    if begun is None:
        shape = config.decoder(encoder.vocab_size)
        return shape, shape.build()
    check_vocabulary(encoder, begun[0].vocab_size)
    return begun


def _spread(
    config: TrainConfig, learner: learning.Learner, ranks: Ranks, machine: Machine
) -> Spread:
    if ranks.count == 1 or config.distributed.strategy == "ddp":
        return Replicated(learner, ranks)
    if config.distributed.strategy == "fsdp":
        return Sharded(learner, ranks, machine.device.type)
    return Split(learner, ranks)


def _stream(
    config: TrainConfig, sources: list[Source], spread: Spread, announcements: Announcements
) -> Stream:
    return Stream(
        sources,
        length=config.data.length,
        batch_size=config.train.batch_size // spread.data_ranks,
        seed=config.train.seed,
        rank=spread.data_rank,
        num_ranks=spread.data_ranks,
        shuffle=config.data.shuffle,
        announcements=announcements,
    )
