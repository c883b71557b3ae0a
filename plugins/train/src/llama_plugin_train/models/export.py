"""Models as folders: written for llama-core and transformers, and read again.

Core writes the folder, whole or not at all; here our tensors get their names, fused ones are taken
apart, and those that a quantized model computes with are encoded as it computed with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llama_core.announce import Announcements
from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError
from llama_core.model.encodings import parse_encoding
from llama_core.model.files.folder import FolderWeights
from llama_core.model.files.jsontext import read_object
from llama_core.model.files.save_folder import save_folder as write_folder
from llama_core.model.weights import DenseWeights, Tensor, TensorWeights, Weights, tensor
from llama_plugin_train.models.config import AnyConfig, DecoderConfig, ModelConfig
from llama_plugin_train.models.folder_config import OWN, from_folder, to_folder
from llama_plugin_train.models.names import Stored, stored

Encodings = Mapping[str, str]  # our names of weights to the encodings they are stored in
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def save_folder(
    model: torch.nn.Module,
    config: DecoderConfig,
    folder: Path,
    *,
    tokenizer: Path | None = None,
    generation: Mapping[str, Any] | None = None,
    encodings: Encodings | None = None,
    announcements: Announcements | None = None,
) -> None:
    """Write a new Hugging Face folder. `tokenizer` is a folder with a tokenizer's files;
    `generation` what generation_config.json says, ids of bos, eos and pad among it."""
    generation = dict(generation or {})
    arrays = _arrays(model)
    kinds = encodings or {}
    weights = {
        one.name: _encoded(_part(arrays, one), kinds.get(one.ours)) for one in stored(config)
    }
    about = to_folder(config, {word: generation[word] for word in _TOKENS if word in generation})
    _write(folder, about, TensorWeights(weights), generation, tokenizer, announcements)


def save_own(
    model: torch.nn.Module, config: ModelConfig, folder: Path, *, tokenizer: Path | None = None
) -> None:
    """Write a folder that only `load_folder` reads, for models that no other program builds."""
    about = {"model_type": OWN, "config": config.to_dict()}
    _write(folder, about, DenseWeights(_arrays(model)), {}, tokenizer, None)


def load_folder(folder: Path) -> tuple[AnyConfig, torch.nn.Module]:
    """The model of a folder that `save_folder`, `save_own` or transformers wrote, to train on.

    What is encoded is decoded: training goes on from the numbers as they were stored.
    """
    about = read_object(folder / "config.json")
    config = from_folder(about)
    weights = FolderWeights(folder, about.get("quantization_config") or {})
    model = config.build()
    arrays = model.state_dict()
    if about["model_type"] == OWN:
        wanted = [Stored(name, name) for name in arrays]
    else:
        assert isinstance(config, DecoderConfig)
        wanted = list(stored(config))
    missing = [one.name for one in wanted if one.name not in weights]
    if missing:
        raise LlamaError(f"{folder} lacks {len(missing)} of the model's tensors: {missing[0]}")
    with torch.no_grad():
        for one in wanted:
            place = _place(arrays[one.ours], one)
            given = torch.from_numpy(np.array(weights[one.name].decode()))
            given = given.T if one.turned else given
            if given.shape != place.shape:
                raise LlamaError(
                    f"{one.name} of {folder} has shape {list(given.shape)}, "
                    f"not {list(place.shape)}",
                    remedy="Take config.json and weights from the same place.",
                )
            place.copy_(given)
    return config, model


def _arrays(model: torch.nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {
        name: value.detach().to("cpu", torch.float32).numpy()
        for name, value in model.state_dict().items()
    }


def _place(ours: Any, one: Stored) -> Any:
    place = ours if one.expert is None else ours[one.expert]
    return place if one.rows is None else place[slice(*one.rows)]


def _part(arrays: Mapping[str, np.ndarray[Any, Any]], one: Stored) -> np.ndarray[Any, Any]:
    if one.ours not in arrays:  # GPT-2 has biases everywhere; a model without them has zeros there
        wide = arrays[one.ours.removesuffix("bias") + "weight"]
        return np.zeros(len(wide), np.float32)
    part = _place(arrays[one.ours], one)
    return np.ascontiguousarray(part.T if one.turned else part)


def _encoded(part: np.ndarray[Any, Any], kind: str | None) -> Tensor:
    if kind is None:
        return tensor(part)
    encoding = parse_encoding(kind)
    return Tensor(part.shape, encoding, encoding.encode(part))


def _write(
    folder: Path,
    about: Mapping[str, Any],
    weights: Weights,
    generation: Mapping[str, Any],
    tokenizer: Path | None,
    announcements: Announcements | None,
) -> None:
    words: dict[str, Any] = {}
    template = None
    if tokenizer is not None:
        words = {"kind": "huggingface", "path": str(tokenizer / "tokenizer.json"), "config": {}}
        if (tokenizer / "tokenizer_config.json").is_file():
            words["config"] = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
        if (tokenizer / "chat_template.jinja").is_file():
            template = (tokenizer / "chat_template.jinja").read_text("utf-8")
    files = ModelFiles(folder, "safetensors", about, weights, generation, words, template)
    write_folder(files, folder, announcements)
