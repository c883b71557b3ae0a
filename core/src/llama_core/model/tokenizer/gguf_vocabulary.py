"""The vocabulary in GGUF metadata: `tokenizer.ggml.*` keys into a `Vocabulary`, and the ends.

It knows the keys and their defaults. The values come checked for type by the reader of the file;
whether they fit together is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llama_core.errors import did_you_mean
from llama_core.model.tokenizer.vocabulary import Kind, TokenizerError, Vocabulary

PREFIX = "tokenizer.ggml."
_MODELS = {"llama": "spm", "gpt2": "bpe", "t5": "unigram"}
# Tokens that end a turn. Files converted before there was a key for them only have the text.
_TURN_ENDS = {
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>", "<|return|>", "<|end_of_role|>",
}  # fmt: skip


def read_gguf_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that the metadata describes."""
    name = _get(metadata, "model", str, "")
    if name not in _MODELS:
        near = did_you_mean(name, _MODELS) or f"known: {', '.join(_MODELS)}"
        raise TokenizerError(f"the file's tokenizer is of the unknown model '{name}'", remedy=near)
    spm = name != "gpt2"
    pieces = _strings(metadata, "tokens")
    found = Vocabulary(
        model=_MODELS[name],  # type: ignore[arg-type]
        pieces=pieces,
        scores=_numbers(metadata, "scores") if spm else (),
        kinds=_kinds(metadata),
        merges=_strings(metadata, "merges") if not spm else (),
        pre=_get(metadata, "pre", str, "default"),
        unknown=_id(metadata, "unknown_token_id", 0 if spm else None, len(pieces)),
        bos=_id(metadata, "bos_token_id", 1 if spm else None, len(pieces)),
        eos=_id(metadata, "eos_token_id", 2 if spm else None, len(pieces)),
        add_bos=_get(metadata, "add_bos_token", bool, name == "llama"),
        add_eos=_get(metadata, "add_eos_token", bool, name == "t5"),
        prefix_space=_get(metadata, "add_space_prefix", bool, spm),
        squeeze_spaces=_get(metadata, "remove_extra_whitespaces", bool, False),
        byte_fallback=spm,
        charsmap=_charsmap(metadata),
    )
    if faults := found.faults():
        raise TokenizerError(f"the file's tokenizer is malformed: {'; '.join(faults)}")
    return found


def ends(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> list[int]:
    """All tokens after which generation stops, the vocabulary's own first."""
    count = len(vocabulary.pieces)
    named = (_id(metadata, key, None, count) for key in ("eot_token_id", "eom_token_id"))
    found = dict.fromkeys([vocabulary.eos, *named])
    found |= {i: None for i, piece in vocabulary.of_kind(Kind.CONTROL) if piece in _TURN_ENDS}
    return [index for index in found if index is not None]


def _get(metadata: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = metadata.get(PREFIX + key, default)
    if value is not None and not isinstance(value, kind):
        raise TokenizerError(f"'{PREFIX}{key}' is {type(value).__name__}, not {kind.__name__}")
    return value


def _strings(metadata: Mapping[str, Any], key: str) -> Sequence[str]:
    value = metadata.get(PREFIX + key)
    if value is None or isinstance(value, str) or not isinstance(value, Sequence):
        raise TokenizerError(f"'{PREFIX}{key}' is no list of texts")
    if not all(isinstance(one, str) for one in value):
        raise TokenizerError(f"'{PREFIX}{key}' is no list of texts")
    return value


def _numbers(metadata: Mapping[str, Any], key: str) -> list[float]:
    value = metadata.get(PREFIX + key, ())
    try:
        return [] if isinstance(value, str) else [float(one) for one in value]
    except (TypeError, ValueError):
        raise TokenizerError(f"'{PREFIX}{key}' is no list of numbers") from None


def _kinds(metadata: Mapping[str, Any]) -> list[int]:
    found = _numbers(metadata, "token_type")
    if not all(kind in Kind.__members__.values() for kind in found):
        raise TokenizerError(f"'{PREFIX}token_type' holds kinds that there are not")
    return [int(kind) for kind in found]


def _charsmap(metadata: Mapping[str, Any]) -> bytes:
    """A table of SentencePiece's, which files hold as an array of bytes."""
    found = metadata.get(f"{PREFIX}precompiled_charsmap", b"")
    if isinstance(found, np.ndarray) and found.dtype.itemsize == 1:
        return found.tobytes()
    if not isinstance(found, bytes):
        raise TokenizerError(f"'{PREFIX}precompiled_charsmap' is no array of bytes")
    return found


def _id(metadata: Mapping[str, Any], key: str, default: int | None, count: int) -> int | None:
    value = _get(metadata, key, int, default)
    if value is None or (key not in {k.removeprefix(PREFIX) for k in metadata} and value >= count):
        return None
    if value == 0xFFFFFFFF:  # written for "none"
        return None
    if not 0 <= value < count:
        raise TokenizerError(f"'{PREFIX}{key}' is {value}, of {count} tokens")
    return int(value)
