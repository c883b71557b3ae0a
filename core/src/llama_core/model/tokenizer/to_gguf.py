"""A tokenizer as GGUF metadata, from tokenizer.json or a SentencePiece model.

Byte-level BPE is written with the name of the rule that cuts it into words, and refused where none
of the rules known is its own: a file that tokenizes differently would be worse than none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.model.files.jsontext import read_bytes
from llama_core.model.tokenizer.build import from_vocabulary
from llama_core.model.tokenizer.pretokenizers import RULES
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece
from llama_core.model.tokenizer.vocabulary import Kind, TokenizerError, Vocabulary

PREFIX = "tokenizer.ggml."
_MAX_FILE = 128 << 20


def gguf_metadata(source: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The `tokenizer.*` keys. `ids` are those of special tokens: `bos`, `eos`, `unknown`."""
    kind = source.get("kind")
    if kind == "gguf":
        return {k: v for k, v in source["metadata"].items() if k.startswith("tokenizer.")}
    if kind == "sentencepiece":
        path = Path(source["path"])
        return _of(read_sentencepiece(read_bytes(path, _MAX_FILE), path), ids)
    if kind == "huggingface":
        text = read_bytes(Path(source["path"]), _MAX_FILE)
        return _of(_from_json(json.loads(text)), ids)
    return {}


def _of(v: Vocabulary, ids: Mapping[str, int]) -> dict[str, Any]:
    model = {"spm": "llama", "bpe": "gpt2", "unigram": "t5"}[v.model]
    found: dict[str, Any] = {
        "model": model,
        "pre": v.pre,
        "tokens": list(v.pieces),
        "token_type": [int(kind) for kind in v.kinds],
    }
    if v.model == "bpe":
        found["merges"] = list(v.merges)
    else:
        found["scores"] = list(v.scores)
        found["add_space_prefix"] = v.prefix_space
        found["remove_extra_whitespaces"] = v.squeeze_spaces
        if v.charsmap:
            found["precompiled_charsmap"] = v.charsmap
    named = {"bos": v.bos, "eos": v.eos, "unknown": v.unknown} | dict(ids)
    found |= {f"{name}_token_id": index for name, index in named.items() if index is not None}
    found |= {"add_bos_token": v.add_bos, "add_eos_token": v.add_eos}
    return {PREFIX + key: value for key, value in found.items()}


def _from_json(state: Mapping[str, Any]) -> Vocabulary:
    model = state["model"]
    added = {token["id"]: token for token in state.get("added_tokens") or []}
    vocab = model["vocab"]
    if model["type"] == "Unigram":
        raise TokenizerError("a unigram tokenizer.json has no place in a GGUF file of a LLaMA")
    if model["type"] != "BPE":
        raise TokenizerError(f"a tokenizer of type {model['type']} has no place in a GGUF file")
    size = max([*vocab.values(), *added, -1]) + 1
    pieces = [f"[PAD{index}]" for index in range(size)]
    kinds = [Kind.UNUSED] * size
    for piece, index in vocab.items():
        pieces[index], kinds[index] = piece, Kind.NORMAL
    for index, token in added.items():
        pieces[index] = token["content"]
        kinds[index] = Kind.CONTROL if token.get("special") else Kind.USER
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    around = _around(state.get("post_processor"))
    if model.get("byte_fallback"):
        return _spm(state, pieces, kinds, merges, around)
    name = _rule_name(state, bool(model.get("ignore_merges")))
    return Vocabulary("bpe", pieces, (), kinds, merges, name, add_bos=around[0], add_eos=around[1])


def _spm(
    state: Mapping[str, Any],
    pieces: list[str],
    kinds: list[Kind],
    merges: list[str],
    around: tuple[bool, bool],
) -> Vocabulary:
    """Scores that rank the merges as their list does; a piece nothing merges to is never made."""
    rank: dict[str, int] = {}
    for index, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), index)
    unknown = state["model"].get("unk_token")
    for at, piece in enumerate(pieces):
        if piece == unknown:
            kinds[at] = Kind.UNKNOWN
        elif kinds[at] is Kind.NORMAL and len(piece) == 6 and piece.startswith("<0x"):
            kinds[at] = Kind.BYTE
    scores = [-float(rank.get(piece, len(merges))) for piece in pieces]
    unknown_id = pieces.index(unknown) if unknown in pieces else None
    text = json.dumps([state.get("normalizer"), state.get("pre_tokenizer")])
    prefixed = "Prepend" in text or ('"Metaspace"' in text and '"never"' not in text)
    return Vocabulary(
        "spm", pieces, scores, kinds, pre="default", unknown=unknown_id, add_bos=around[0],
        add_eos=around[1], prefix_space=prefixed,
    )  # fmt: skip


def _around(processor: Any) -> tuple[bool, bool]:
    """Whether a token is put before, and one after, every text."""
    if not isinstance(processor, Mapping):
        return False, False
    for one in [processor, *processor.get("processors", [])]:
        if one.get("type") == "TemplateProcessing":
            single = one["single"]
            return "SpecialToken" in single[0], "SpecialToken" in single[-1]
    return False, False


def _rule_name(state: Mapping[str, Any], ignore_merges: bool) -> str:
    """The name of the rule that builds this very tokenizer's way of cutting."""
    wanted = _cutting(state)
    for name, rule in RULES.items():
        if rule.ignore_merges != ignore_merges:
            continue
        probe = from_vocabulary(Vocabulary("bpe", ["a"], (), [1], (), name))
        if _cutting(json.loads(probe.to_str())) == wanted:
            return name
    raise TokenizerError(
        "no GGUF pre-tokenizer cuts text as this tokenizer.json does",
        remedy="Convert the model with llama.cpp, or keep it as a safetensors folder.",
    )


def _cutting(state: Mapping[str, Any]) -> Any:
    """What cuts the text into words, in a form that is equal for equal rules."""
    pre = state.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    found = []
    for step in steps:
        kind = step.get("type")
        if kind == "Split":
            found.append(step["pattern"].get("Regex", step["pattern"]))
        elif kind == "Digits" and step.get("individual_digits"):
            found.append("digits")
        elif kind == "ByteLevel":
            if step.get("use_regex", True):
                found.append(RULES["gpt-2"].splits[0][0])
            if step.get("add_prefix_space"):
                found.append("prefix")
        else:
            found.append(kind)
    normalizer = state.get("normalizer") or {}
    return found, normalizer.get("type")
