"""Reading documents out of files, one at a time: texts, JSON lines, Parquet.

A long text comes in pieces of bounded size, cut at ends of lines. What is not text says so, with
the file and the place.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.errors import plain
from llama_plugin_train.data.corpus import Corpus
from llama_plugin_train.data.faults import DataError

PIECE_CHARACTERS = 1 << 18
_LINE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Document:
    """A text or a conversation. `more` where the same text goes on in the next one."""

    where: str
    text: str = ""
    messages: list[Any] | None = None
    more: bool = False


def documents(corpus: Corpus) -> Iterator[Document]:
    """All documents of a corpus in order."""
    read = {"text": _text, "jsonl": _jsonl, "parquet": _parquet}
    for path in corpus.files():
        yield from read[corpus.format_of(path)](path, corpus)


def texts(corpus: Corpus) -> Iterator[str]:
    """All words of a corpus, for training a tokenizer; of conversations what is said in them."""
    for document in documents(corpus):
        if document.messages is None:
            yield document.text
        else:
            for message in document.messages:
                content = message.get("content") if isinstance(message, Mapping) else None
                if isinstance(content, str):
                    yield content


def _text(path: Path, corpus: Corpus) -> Iterator[Document]:
    separator, buffer, inside, number = corpus.separator, "", False, 1
    for chunk in _decoded(path):
        buffer += chunk
        if separator is not None:
            *whole, buffer = buffer.split(separator)
            for text in whole:
                if inside or text.strip():
                    yield Document(f"{path}, document {number}", text)
                inside, number = False, number + 1
        while len(buffer) > PIECE_CHARACTERS + len(separator or ""):
            at = buffer.rfind("\n", 0, PIECE_CHARACTERS) + 1 or PIECE_CHARACTERS
            yield Document(f"{path}, document {number}", buffer[:at], more=True)
            buffer, inside = buffer[at:], True
    if inside or buffer.strip():
        yield Document(f"{path}, document {number}", buffer)


def _decoded(path: Path) -> Iterator[str]:
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 18):
            _check_text(path, chunk, at)
            at += len(chunk)
            yield _decode(path, decoder, chunk, at, final=False)
    yield _decode(path, decoder, b"", at, final=True)


def _decode(
    path: Path, decoder: codecs.IncrementalDecoder, chunk: bytes, at: int, *, final: bool
) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise _binary(path, f"it is not UTF-8 near byte {at - len(chunk) + error.start}") from None


def _check_text(path: Path, chunk: bytes, at: int) -> None:
    if (zero := chunk.find(0)) >= 0:
        raise _binary(path, f"byte {at + zero} is zero")


def _binary(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is no text: {why}", remedy="Leave it out, or convert it to text in UTF-8."
    )


def _jsonl(path: Path, corpus: Corpus) -> Iterator[Document]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LINE_BYTES):
            number += 1
            where = f"line {number} of {path}"
            if number == 1:
                _check_text(path, line, 0)
            if line.strip():
                try:
                    record = json.loads(line.decode())
                except (ValueError, RecursionError) as error:
                    raise DataError(
                        f"{where} is no JSON: {plain(error)}",
                        remedy="Each line must be one JSON object.",
                    ) from None
                yield _record(record, where, corpus)


def _parquet(path: Path, corpus: Corpus) -> Iterator[Document]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            f"reading {path} needs pyarrow, which is not installed",
            remedy="pip install 'llama-plugin-train[parquet]'",
        ) from error
    fields = (corpus.text_field, corpus.messages_field)
    try:
        with parquet.ParquetFile(path) as file:
            columns = [one for one in fields if one in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=columns or None):
                for record in batch.to_pylist():
                    number += 1
                    yield _record(record, f"row {number} of {path}", corpus)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {plain(error)}") from error


def _record(record: object, where: str, corpus: Corpus) -> Document:
    found = record if isinstance(record, Mapping) else {}
    text, messages = found.get(corpus.text_field), found.get(corpus.messages_field)
    if isinstance(messages, list) and messages:
        return Document(where, messages=messages)
    if isinstance(text, str):
        return Document(where, text)
    keys = f"; it has {plain(', '.join(map(str, found)))}" if found else ""
    raise DataError(
        f"{where} has neither a text as '{corpus.text_field}' nor messages as "
        f"'{corpus.messages_field}'{keys}",
        remedy="Name the fields with text_field or messages_field.",
    )
