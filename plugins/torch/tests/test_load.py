"""`load` with the provider of transformers' models: by rule, by name, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.load import Loaded, choose_device, load
from llama_core.engine.request import Params
from llama_core.errors import ConfigError, LlamaError, MissingCapability, StrictError

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import llama_plugin_torch
import torch
import transformers
from llama_plugin_torch import plugin
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SIZES = {"vocab_size": 260, "max_position_embeddings": 64, "initializer_range": 0.3}
ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def folder_of(folder: Path, kind: str, **extra: Any) -> Path:
    """A random model of the library's own, with a tokenizer of bytes."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **ENDS, **extra})
    transformers.AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={one: n for n, one in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an architecture that has no graph here."""
    return folder_of(tmp_path_factory.mktemp("gpt2"), "gpt2", n_embd=32, n_layer=2, n_head=4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("llama"), "llama", **LLAMA, **HEADS)


def with_torch(**settings: Any) -> Plugins:
    """This plugin beside the core's own, and nothing else that may be installed."""
    plugins = Plugins(discover([]), Config(**settings))
    manifest = Path(llama_plugin_torch.__file__).with_name("plugin.toml")
    plugins.register(plugin, tomllib.loads(manifest.read_text()))
    return plugins


@pytest.fixture
def plugins() -> Plugins:
    return with_torch()


def ask(loaded: Loaded, text: str, count: int = 12) -> list[int]:
    answer = loaded.engine.generate(loaded.request(text, Params(max_tokens=count)))
    return answer.choices[0].tokens


def test_an_unknown_architecture_runs_as_the_library_runs_it(gpt2: Path, plugins: Plugins) -> None:
    with load(gpt2, plugins=plugins) as loaded:
        assert loaded.graph is None
        assert (loaded.choice.kind, loaded.choice.name) == ("program", "transformers")
        assert "no architecture 'gpt2'" in loaded.choice.reason
        assert loaded.plan.devices == (choose_device(loaded.choice, True).id,)
        prompt = loaded.tokenizer.encode("Once upon a time")
        found = ask(loaded, "Once upon a time")
    assert any("'transformers' runs it instead" in said for said in plugins.announcements.counts)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt2)
    with torch.inference_mode():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert found == out[0, len(prompt) :].tolist()


def test_strict_forbids_the_fallback_and_allows_what_was_asked_for(gpt2: Path) -> None:
    with pytest.raises(StrictError, match="'transformers' runs it instead"):
        load(gpt2, plugins=with_torch(strict=True))
    with load(gpt2, plugins=with_torch(strict=True), program="transformers") as loaded:
        assert loaded.choice.reason == "asked for by name"


def test_by_graph_and_by_the_library_a_model_answers_alike(llama: Path, plugins: Plugins) -> None:
    with load(llama, plugins=plugins, backend="reference") as loaded:
        expected = ask(loaded, "Hello")
    with load(llama, plugins=plugins, program="transformers") as loaded:
        assert ask(loaded, "Hello") == expected


def test_no_learned_position_is_passed(gpt2: Path, plugins: Plugins) -> None:
    with load(gpt2, plugins=plugins) as loaded:
        assert loaded.context_length == 64
        assert len(ask(loaded, "abcd", 60)) == 60
        with pytest.raises(LlamaError, match="from 1 to 60"):
            ask(loaded, "abcd", 61)
    with pytest.raises(ConfigError, match="the model was made for 64"):
        load(gpt2, plugins=plugins, context=65)


def test_what_needs_a_graph_is_refused_with_the_reason(gpt2: Path, plugins: Plugins) -> None:
    with pytest.raises(MissingCapability, match="rewrites change a graph"):
        load(gpt2, plugins=plugins, rewrite=[("fuse", {})])
    with pytest.raises(MissingCapability, match="backend 'torch' was asked for"):
        load(gpt2, plugins=plugins, backend="torch")
    with pytest.raises(ConfigError, match="rewrites change a graph"):
        load(gpt2, plugins=plugins, rewrite=[("fuse", {})], program="transformers")


def test_options_reach_the_provider(llama: Path, plugins: Plugins) -> None:
    options = {"dtype": "f16"}
    with load(llama, plugins=plugins, program="transformers", program_options=options) as loaded:
        assert loaded.program.kv.groups[0].bytes_per_token == 2 * 2 * 2 * 8 * 2
    with pytest.raises(LlamaError, match="f12"):
        load(llama, plugins=plugins, program="transformers", program_options={"dtype": "f12"})


def test_a_single_file_is_not_the_librarys(llama: Path, plugins: Plugins) -> None:
    with pytest.raises(MissingCapability, match="the library opens folders"):
        load(llama / "model.safetensors", plugins=plugins, program="transformers")
