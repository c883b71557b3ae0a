"""The conformance suites, for the backend in every type and for the provider of programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_core.testing import BackendContract, ProgramContract, WholeProgramContract

torch = pytest.importorskip("torch", reason="torch is not installed")


class TestBackend(BackendContract):
    provides = "torch"
    options = ({}, {"dtype": "f32"})
    tolerance = 1e-5
    loose = 1e-5


class TestBackendIn16Bits(BackendContract):
    provides = "torch"
    options = ({"dtype": "bf16"}, {"dtype": "f16"})
    tolerance = 0.05
    loose = 0.05


class TestTransformers(ProgramContract):
    provides = "transformers"
    options = ({}, {"dtype": "bf16"}, {"attention": "eager"})
    loose = 0.05

    def model(self, folder: Path) -> tuple[Path, Mapping[str, Any]]:
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.3,
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        return folder, json.loads((folder / "config.json").read_text())


class TestTransformersThatReadBothWays(WholeProgramContract):
    provides = "transformers"
    loose = 1e-4

    def model(self, folder: Path) -> tuple[Path, Mapping[str, Any]]:
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            initializer_range=0.3,
        )
        transformers.BertModel(config).save_pretrained(folder)
        return folder, json.loads((folder / "config.json").read_text())
