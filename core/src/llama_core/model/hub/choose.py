"""Which files of a repository make the model: safetensors and what belongs to them, or one GGUF.

Pure functions over names. Code and pickles are never chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch

from llama_core.errors import did_you_mean, sentence
from llama_core.model.files.disk import GGUF_PART
from llama_core.model.hub.reference import HubError, Reference

_BESIDE = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "special_tokens_map.json",
    "added_tokens.json", "chat_template.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "*.safetensors.index.json", "additional_chat_templates/*.jinja", "quantize_config.json",
    "quant_config.json", "adapter_config.json", "preprocessor_config.json",
)  # fmt: skip
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def choose_files(names: Sequence[str], reference: Reference) -> list[str]:
    """The files to pull, in the order of the repository."""
    if reference.file is not None:
        return _named(names, reference.file, reference)
    weights = [n for n in names if n.endswith(".safetensors") and "/" not in n]
    if weights:
        models = [n for n in weights if fnmatch(n, "model*.safetensors")]
        beside = [n for n in names if any(fnmatch(n, pattern) for pattern in _BESIDE)]
        return [n for n in names if n in set(models or weights) | set(beside)]
    models = _whole_ggufs(names)
    if len(models) == 1:
        return _parts(names, models[0])
    if models:
        raise HubError(
            f"{reference} holds {len(models)} GGUF models",
            remedy=f"Choose one: llama pull {reference}:{_label(models)}. "
            f"There are {', '.join(models[:20])}.",
        )
    if pickled := [n for n in names if n.endswith(_PICKLED)]:
        raise HubError(
            f"{reference} only holds {pickled[0]}, a pickle, which would run code when it is read",
            remedy="Choose a repository with safetensors, or convert it if you trust its source.",
        )
    raise HubError(f"{reference} holds neither safetensors nor GGUF files")


def _named(names: Sequence[str], wanted: str, reference: Reference) -> list[str]:
    if wanted in names:
        return _parts(names, wanted)
    models = _whole_ggufs(names)
    holding = [n for n in models if wanted.lower() in n.lower()]
    if len(holding) == 1:
        return _parts(names, holding[0])
    exact = [n for n in holding if re.search(rf"[-._]{re.escape(wanted)}[-._]", n, re.IGNORECASE)]
    if len(exact) == 1:
        return _parts(names, exact[0])
    if holding:
        raise HubError(
            f"'{wanted}' fits {len(holding)} files of {reference.repo}",
            remedy=f"Choose one of {', '.join(holding[:20])}.",
        )
    near = sentence(did_you_mean(wanted, names)) or f"There are {', '.join(list(names)[:20])}."
    raise HubError(f"{reference.repo} has no file '{wanted}'", remedy=near)


def _whole_ggufs(names: Sequence[str]) -> list[str]:
    """Models as files, of a split one its first part."""
    found = [n for n in names if n.endswith(".gguf") and "mmproj" not in n]
    return [n for n in found if not (m := GGUF_PART.fullmatch(n)) or int(m[2]) == 1]


def _parts(names: Sequence[str], first: str) -> list[str]:
    split = GGUF_PART.fullmatch(first)
    if split is None:
        return [first]
    stem, _, count = split.groups()
    parts = [f"{stem}-{n:05}-of-{count}.gguf" for n in range(1, min(int(count), 9999) + 1)]
    if missing := [part for part in parts if part not in set(names)]:
        raise HubError(f"{missing[0]} is missing from the repository")
    return parts


def _label(models: Sequence[str]) -> str:
    """A short name that tells one of the models from the others."""
    for model in models:
        if found := re.search(r"[-.]((?:I?Q\d|F16|BF16)\w*)\.gguf$", model, re.IGNORECASE):
            return found[1]
    return models[0]
