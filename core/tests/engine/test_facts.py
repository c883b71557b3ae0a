"""What is said of a model that nobody loaded, without a tensor read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.builtin.gguf_format import GgufFormat
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.facts import facts, graph_of
from llama_core.engine.finding import find_model
from llama_core.model.architectures.blocks import LLAMA_NAMES
from llama_core.model.files import gguf_weights, open_model
from llama_core.model.files.disk import disk_bytes
from llama_core.model.graph import Graph
from llama_core.model.weights import RenamedWeights, Tensor, Weights

from .tinymodel import tiny_model


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


@pytest.fixture
def file(tmp_path: Path, plugins: Plugins) -> Path:
    """The small model as a GGUF file, its rows of q and k interleaved as llama.cpp has them."""
    old = {new: name for name, new in LLAMA_NAMES.items()}

    def stored(name: str) -> str:
        path = ".".join(old.get(part, part) for part in name.split("."))
        return path if path.startswith("lm_head") else f"model.{path}"

    source = find_model(plugins, tiny_model(tmp_path / "tiny"))
    source = replace(source, weights=RenamedWeights(source.weights, stored))
    GgufFormat().save(source, tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_no_tensor_of_a_gguf_file_is_read(
    file: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> Tensor:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(gguf_weights, "take_rows", read)
    monkeypatch.setattr(Tensor, "decode", read)
    files = find_model(plugins, file)
    found = facts(plugins, files, graph_of(plugins, files))
    assert found["format"] == "gguf"
    assert found["tokenizer"] == "gguf"
    assert (found["layers"], found["parameters"]) == (2, 32_032)
    assert found["encodings"]["f32"] == {"tensors": 21, "parameters": 32_032, "bytes": 128_128}
    assert found["disk_bytes"] == file.stat().st_size


def test_what_is_told_of_a_tensor_is_what_it_is(file: Path) -> None:
    weights = open_model(file, {"gguf": GgufFormat()}).weights
    for name, tensor in weights.items():
        assert weights.about(name) == (tensor.shape, tensor.encoding)
        assert weights.bytes_of(name) == tensor.num_bytes


@pytest.mark.parametrize("encoding", ["q4:g32", "gguf:q8_0", "f16", "q8:row", "nf4:g64"])
def test_a_rewrite_is_told_without_being_computed(
    file: Path, plugins: Plugins, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reencoded() -> tuple[Graph, Weights]:
        options = {"encoding": encoding, "only": "*.q_proj"}
        return graph_of(plugins, files, [("reencode", options)])

    files = find_model(plugins, file)
    weights = reencoded()[1]
    real = {name: one.num_bytes for name, one in weights.items()}
    monkeypatch.setattr(Tensor, "encoded", lambda *_: pytest.fail("a tensor was encoded"))
    graph, weights = reencoded()
    assert {name: weights.bytes_of(name) for name in weights} == real
    found = facts(plugins, files, (graph, weights))
    assert found["encodings"][encoding]["tensors"] == 2
    assert found["rewrites"] == [f"reencode({encoding}, *.q_proj)"]


def test_all_parts_of_a_split_file_count(tmp_path: Path) -> None:
    sizes = {"a-00001-of-00002.gguf": 3, "a-00002-of-00002.gguf": 5, "b-00001-of-00002.gguf": 7}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
    assert disk_bytes(tmp_path / "a-00001-of-00002.gguf") == 8
    assert disk_bytes(tmp_path) == 15
