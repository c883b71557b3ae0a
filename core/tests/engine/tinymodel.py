"""A model folder with random weights and a tokenizer of bytes: all that `llama run` needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.model import architectures
from llama_core.model.generated import random_weights

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 258,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "tie_word_embeddings": False,
}


def tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write it; gives the folder."""
    graph = architectures.create("llama").build(CONFIG)
    weights = random_weights(graph, seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    source = folder.parent / f"{folder.name}-tokenizer"
    source.mkdir(parents=True)
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>"})
    )
    files = ModelFiles(
        path=source,
        format="safetensors",
        config=CONFIG,
        weights=weights,
        tokenizer={"kind": "huggingface", "path": str(source / "tokenizer.json"), "config": {}},
    )
    SafetensorsFormat().save(files, folder)
    return folder
