"""A tokenizer that was trained here, and corpora made of a few words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.data import Corpus, Shards, prepare
from llama_plugin_train.tokens import Encoder, TokenizerConfig, train_tokenizer

WORDS = ["the", "fox", "saw", "a", "red", "bird", "in", "old", "trees", "and", "sang", "12", "7"]


def sentences(count: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(3, 40))) + "." for _ in range(count)]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("tokenizer") / "made"
    train_tokenizer(TokenizerConfig(vocab_size=300), sentences(300), folder)
    return Encoder(folder)


Make = Callable[..., Shards]


@pytest.fixture
def make(encoder: Encoder, tmp_path: Path) -> Make:
    """Shards of some texts, one document each."""

    def made(texts: Sequence[str], name: str = "some", shard_tokens: int = 1 << 24) -> Shards:
        path = tmp_path / f"{name}.txt"
        path.write_text("<end>".join(texts), "utf-8")
        corpus = Corpus(name, (path,), separator="<end>")
        return prepare(corpus, encoder, tmp_path / "cache", shard_tokens=shard_tokens)

    return made
