"""Tensors that do not fit are said in the file's own names, before anything is asked to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.contracts.format import ModelFiles
from llama_core.discovery import discover
from llama_core.engine import compiling
from llama_core.engine.finding import build_model, find_model
from llama_core.engine.fitting import check_fit
from llama_core.engine.load import load
from llama_core.model.architectures.blocks import LLAMA_NAMES
from llama_core.model.graph import GraphError
from llama_core.model.weights import RenamedWeights

from .tinymodel import tiny_model

THEIRS = {new: name for name, new in LLAMA_NAMES.items()}


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


def stored(name: str) -> str:
    path = ".".join(THEIRS.get(part, part) for part in name.split("."))
    return path if path.startswith("lm_head") else f"model.{path}"


def said(plugins: Plugins, files: ModelFiles, rename: Callable[[str], str | None]) -> str:
    files = replace(files, weights=RenamedWeights(files.weights, rename))
    with pytest.raises(GraphError) as caught:
        check_fit(*build_model(plugins, files), files)
    return str(caught.value)


def test_the_names_are_the_files_and_only_what_is_unread_is_suggested(
    tmp_path: Path, plugins: Plugins
) -> None:
    files = find_model(plugins, tiny_model(tmp_path / "tiny"))
    whole = "layers.1.attn.q_proj.weight"
    theirs = "model.layers.1.self_attn.q_proj.weight"
    cut = said(plugins, files, lambda name: None if name == whole else stored(name))
    assert f"{theirs} [32, 32] is missing. Take config and weights" in cut
    spelt = said(plugins, files, lambda n: stored(n) + ("j" if n == whole else ""))
    assert f"{theirs} [32, 32] is missing (did you mean '{theirs}j'?)" in spelt
    assert f"{theirs}j is left over" in spelt


def test_names_of_another_kind_of_model_are_a_hint_at_its_type(
    tmp_path: Path, plugins: Plugins
) -> None:
    files = find_model(plugins, tiny_model(tmp_path / "tiny"))
    other = said(plugins, files, lambda name: f"transformer.{name.replace('attn', 'a')}")
    assert "of another kind than its config says, llama? Correct model_type" in other


def test_it_is_said_before_a_backend_is_chosen(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path / "tiny")
    config = folder / "config.json"
    config.write_text(
        config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    monkeypatch.setattr(compiling, "choose_backend", lambda *_, **__: pytest.fail("chosen"))
    with pytest.raises(GraphError, match=r"do not fit llama: 9 problems: .*layers\.2\."):
        load(folder, plugins=plugins)
