"""SentencePiece `.model` files: a walk over the protocol buffer, field by field.

It reads the pieces and the few settings that say how text is cut; unknown fields are skipped, and
every length is checked against the bytes that are left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_core.model.tokenizer.vocabulary import Kind, TokenizerError, Vocabulary

_MAX_PIECES = 300_000  # each takes some 260 bytes once it is a tokenizer


def read_sentencepiece(data: bytes, path: Path) -> Vocabulary:
    """The vocabulary of a SentencePiece model."""
    try:
        return _model(data)
    except _Malformed as error:
        raise TokenizerError(
            f"{path} is not a SentencePiece model: {error}",
            remedy="Take tokenizer.json from the model's source, or download the file again.",
        ) from None


class _Malformed(Exception):
    pass


def _model(data: bytes) -> Vocabulary:
    pieces: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(memoryview(data)):
        if number not in (1, 2, 3):
            continue
        if not isinstance(value, memoryview):
            raise _Malformed(f"field {number} is not a message")
        if number == 1:
            one = dict(_fields(value))
            pieces.append(_text(one.get(1, b"")))
            scores.append(_float(one.get(2, b"\0\0\0\0")))
            kinds.append(_count(one.get(3, 1)))
            if len(pieces) > _MAX_PIECES:
                raise _Malformed(f"more than {_MAX_PIECES} pieces")
        elif number == 2:
            trainer |= dict(_fields(value))
        else:
            normalizer |= dict(_fields(value))
    kind = _count(trainer.get(3, 1))
    if kind not in (1, 2):
        raise _Malformed(f"its type {kind} is neither unigram nor BPE")
    found = Vocabulary(
        model="unigram" if kind == 1 else "spm",
        pieces=pieces,
        scores=scores,
        kinds=kinds,
        unknown=_id(trainer, 40, 0, len(pieces)),
        bos=_id(trainer, 41, 1, len(pieces)),
        eos=_id(trainer, 42, 2, len(pieces)),
        add_bos=True,
        prefix_space=bool(_count(normalizer.get(3, 1))),
        squeeze_spaces=bool(_count(normalizer.get(4, 1))),
        escape_spaces=bool(_count(normalizer.get(5, 1))),
        byte_fallback=bool(_count(trainer.get(35, 0))) or Kind.BYTE in kinds,
        charsmap=bytes(_bytes(normalizer.get(2, b""))),
    )
    if faults := found.faults():
        raise _Malformed("; ".join(faults))
    return found


def _id(trainer: dict[int, Any], field: int, default: int, count: int) -> int | None:
    """An id, or None where the model says that it has none."""
    value = _count(trainer.get(field, default)) & 0xFFFFFFFF
    return value if value < count else None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with their values: whole numbers, or the bytes of everything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed(f"wire type {wire} at byte {at}")
        if length > len(data) - at:
            raise _Malformed(f"a field of {length} bytes where {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Malformed("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _Malformed(f"a number too long before byte {at}")


def _bytes(value: object) -> bytes | memoryview:
    if isinstance(value, (bytes, memoryview)):
        return value
    raise _Malformed("a number where bytes belong")


def _text(value: object) -> str:
    try:
        return bytes(_bytes(value)).decode("utf-8")
    except UnicodeDecodeError:
        raise _Malformed("a piece that is not UTF-8") from None


def _float(value: object) -> float:
    data = _bytes(value)
    if len(data) != 4:
        raise _Malformed("a score that is not a float")
    return float(struct.unpack("<f", data)[0])


def _count(value: object) -> int:
    if isinstance(value, int):
        return value
    raise _Malformed("bytes where a number belongs")
