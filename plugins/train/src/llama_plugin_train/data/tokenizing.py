"""Documents to tokens on several processes, in the order they were read whoever was faster."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from llama_plugin_train.data.faults import DataError
from llama_plugin_train.data.readers import Document
from llama_plugin_train.tokens.encoder import ConversationError, Encoder

BATCH_CHARACTERS = 1 << 19
_AHEAD = 3  # batches for each process that are read before the first of them is written

Tokens = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of some documents one after another, and where each document ends."""

    tokens: Tokens
    weights: Tokens | None  # where there is a conversation among them
    ends: Tokens  # of the documents that end here
    num_bytes: int  # of their text, about
    left_out: list[str] = field(default_factory=list)


def encoded(found: Iterable[Document], encoder: Encoder, num_workers: int) -> Iterator[Encoded]:
    """The documents in batches. One process is this one."""
    batches = _batches(found)
    if num_workers <= 1:
        for batch in batches:
            yield _encode(encoder, batch)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=_alone) as pool:
        waiting: deque[Future[Encoded]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(_work, encoder.folder, encoder.digest, batch))
                if len(waiting) >= _AHEAD * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that tokenized died, as happens when memory runs out",
                remedy="Use fewer processes.",
            ) from error


def _batches(found: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in found:
        batch.append(document)
        size += _size(document)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(document: Document) -> int:
    """About how many bytes of a file it was."""
    if document.messages is None:
        return len(document.text)
    return sum(len(str(message)) for message in document.messages)


def _alone() -> None:
    """Each process is one worker: the library's own threads would fight over the cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@lru_cache(maxsize=1)
def _opened(folder: Path, digest: str) -> Encoder:
    encoder = Encoder(folder)
    if encoder.digest != digest:
        raise DataError(f"the tokenizer in {folder} was changed while it was used")
    return encoder


def _work(folder: Path, digest: str, batch: list[Document]) -> Encoded:
    return _encode(_opened(folder, digest), batch)


def _encode(encoder: Encoder, batch: list[Document]) -> Encoded:
    """A text ends with the token for that; a conversation as its template ends it."""
    of_texts = iter(encoder.encode_texts([one.text for one in batch if one.messages is None]))
    tokens: list[int] = []
    weights: list[int] = []
    ends: list[int] = []
    left_out: list[str] = []
    chats = False
    for one in batch:
        if one.messages is None:
            ids = next(of_texts)
            tokens += ids
            if not one.more:
                tokens.append(encoder.document_end)
            weights += [1] * (len(tokens) - len(weights))
        else:
            chats = True
            try:
                ids, learnt = encoder.encode_chat(one.messages)
            except ConversationError as error:
                left_out.append(f"{one.where}: {error.message}")
                continue
            tokens += ids
            weights += learnt
        if not one.more:
            ends.append(len(tokens))
    return Encoded(
        np.array(tokens, np.uint32),
        np.array(weights, np.uint8) if chats else None,
        np.array(ends, np.int64),
        sum(_size(one) for one in batch),
        left_out,
    )
