"""What stands ready before the first step: the tokenizer, and shards of every source.

Both are found again where they were made before. With several ranks the first makes them, and the
others open what it made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llama_core.announce import Announcements
from llama_core.errors import LlamaError
from llama_plugin_train.data import Corpus, Source, prepare
from llama_plugin_train.data.readers import texts
from llama_plugin_train.data.shards import Progress
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.sections import SourceSection
from llama_plugin_train.tokens import Encoder, TokenizerConfig, train_tokenizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """What rows are made of."""

    encoder: Encoder
    sources: list[Source]
    held_out: list[Source]


def ready(
    config: TrainConfig,
    folder: Path,
    announcements: Announcements | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make what is missing; `folder` is the run's. `progress` is that of `data.prepare`."""
    encoder = Encoder(_tokenizer(config, folder, announcements))
    cache = Path(config.data.cache) if config.data.cache else folder / "data"

    def shards(one: SourceSection) -> Source:
        made = prepare(
            corpus(one),
            encoder,
            cache,
            num_workers=config.data.workers,
            announcements=announcements,
            progress=progress,
        )
        return Source(made, one.weight, one.packing)

    return Prepared(
        encoder,
        [shards(one) for one in config.data.sources],
        [shards(one) for one in config.data.held_out],
    )


def corpus(one: SourceSection) -> Corpus:
    """The files of a source."""
    return Corpus(
        one.name,
        tuple(Path(path) for path in one.paths),
        one.format,
        one.separator,
        one.text_field,
        one.messages_field,
    )


def digests(config: TrainConfig) -> dict[str, str]:
    """Each file that is learnt from or measured, with its digest: what a run is known by."""
    everything = [corpus(one) for one in (*config.data.sources, *config.data.held_out)]
    return {one["path"]: one["sha256"] for each in everything for one in each.digests()}


def _tokenizer(config: TrainConfig, folder: Path, announcements: Announcements | None) -> Path:
    if config.tokenizer.path is not None:
        return Path(config.tokenizer.path)
    if config.model.start is not None:
        return Path(config.model.start)
    place = folder / "tokenizer"
    if not place.is_dir():
        about = config.tokenizer
        wanted = TokenizerConfig(
            about.vocab_size,
            about.kind,
            about.specials,
            min_frequency=about.min_frequency,
            max_length=config.model.settings.get("max_positions", config.data.length),
        )
        read = [Corpus("tokenizer", tuple(Path(path) for path in about.paths))]
        if not about.paths:
            read = [corpus(one) for one in config.data.sources]
        train_tokenizer(wanted, (text for one in read for text in texts(one)), place, announcements)
    return place


def check_vocabulary(encoder: Encoder, vocab_size: int) -> None:
    """A model that begins from a folder must know every token of the tokenizer."""
    if encoder.vocab_size > vocab_size:
        raise LlamaError(
            f"the tokenizer has {encoder.vocab_size} tokens and the model {vocab_size}",
            remedy="Begin from a folder with its own tokenizer: leave tokenizer.path out.",
        )
