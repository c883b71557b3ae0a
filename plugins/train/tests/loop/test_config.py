"""A configuration says everything that is wrong with it, and writes itself as it reads."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop.config import SIZES, TrainConfig
from llama_plugin_train.loop.estimate import check_memory, estimate
from llama_plugin_train.loop.writing import commented

from llama_core.errors import ConfigError, LlamaError


def test_the_commented_file_reads_as_the_defaults() -> None:
    assert TrainConfig.from_dict(tomllib.loads(commented())) == TrainConfig()


def test_a_changed_configuration_is_written_as_it_is() -> None:
    changed = {"train": {"steps": 700, "quantize": "4"}, "data": {"held_out": [{"name": "other"}]}}
    config = TrainConfig.from_dict(changed)
    assert TrainConfig.from_dict(tomllib.loads(commented(config))) == config


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"trian": {}}, ["'trian' is not known: did you mean 'train'?"]),
    ({"train": {"stps": 3}}, ["'train.stps' is not known: did you mean 'steps'?"]),
    ({"train": {"batch_size": 0}}, ["train.batch_size is 0, not 1 or more"]),
    ({"train": {"steps": 2.5}}, ["train.steps is a whole number, not 2.5"]),
    ({"train": {"compile": 1}}, ["train.compile is true or false, not 1"]),
    ({"train": {"quantize": 4}}, ['train.quantize is a text, not 4: write "4"']),
    ({"tokenizer": {"vocab_size": 100}}, ["vocab_size is 100, not from 259 to 4194304"]),
    (
        {"model": {"start": "x", "hidden_size": 8}},
        ["leave out model.hidden_size"],
    ),
    ({"train": {"dtype": "bf17"}}, ["train.dtype is bf17: did you mean 'bf16'?"]),
    ({"train": {"clip": float("inf")}}, ["train.clip is inf"]),
    ({"train": {"clip": float("nan")}}, ["train.clip is nan"]),
    ({"train": 3}, ["train is a section, not 3"]),
    ({"model": {"hidden_sise": 64}}, ["no 'hidden_sise'", "did you mean 'hidden_size'"]),
    ({"model": {"hidden_size": 64}}, ["lacks 'intermediate_size', 'num_layers', and 'num_heads'"]),
    ({"model": {**SIZES, "hidden_size": 65}}, ["hidden_size 65 does not divide"]),
    ({"model": {**SIZES, "kind": "encoder"}}, ["a run trains decoders"]),
    ({"train": {"steps": 50}}, ["100 steps of warm-up", "lower schedule.warmup_steps"]),
    ({"data": {"length": 5000}}, ["data.length 5000 is more than model.max_positions 1024"]),
    ({"data": {"sources": [{"nam": "x"}]}}, ["'data.sources[0].nam' is not known"]),
    ({"data": {"sources": []}}, ["data.sources is empty"]),
    ({"data": {"sources": [{"paths": "a.txt"}]}}, ["data.sources[0].paths is a list, not a.txt"]),
    ({"data": {"held_out": [{}]}}, ["two sources are called 'text'"]),
    ({"optimizer": {"betas": [0.9]}}, ["optimizer.betas has 1 values, not 2"]),
    ({"evaluation": {"every": 5}}, ["data.held_out has no source to measure"]),
    ({"evaluation": {"sample_every": 5}}, ["evaluation.prompts is empty"]),
    ({"distributed": {"ranks": 3}}, ["batch_size 16 does not divide into 3 ranks"]),
    (
        {"distributed": {"ranks": 2, "strategy": "fsdp"}, "optimizer": {"name": "muon"}},
        ["muon needs whole matrices"],
    ),
    (
        {"train": {"steps": 0, "dtype": "x"}, "schedule": {"floor": 2}},
        ["train.steps", "train.dtype", "schedule.floor is 2, not from 0 to 1"],
    ),
]


@pytest.mark.parametrize(("given", "complaints"), WRONG)
def test_mistakes_are_named(given: dict[str, Any], complaints: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(given)
    for complaint in complaints:
        assert complaint.lower() in str(caught.value).lower()


def test_a_file_is_read_with_overrides_and_its_paths_are_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[data]\nsources = [{name = "a", paths = ["a.txt", "/b.txt"]}]\n')
    config = TrainConfig.read(path, {"train.steps": 300, "schedule.name": "wsd"})
    assert config.train.steps == 300
    assert config.schedule.name == "wsd"
    assert config.data.sources[0].paths == (str(tmp_path / "a.txt"), "/b.txt")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("[train", "is not TOML"), (b"\xff\xfe", "is not TOML"), (None, "No such")],
)
def test_a_file_that_is_no_configuration_is_named(
    tmp_path: Path, text: str | bytes | None, complaint: str
) -> None:
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=complaint) as caught:
        TrainConfig.read(path)
    assert str(path) in str(caught.value)


def test_an_override_through_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[train]\nsteps = 400\n")
    with pytest.raises(ConfigError, match="steps is no section"):
        TrainConfig.read(path, {"train.steps.more": 1})


def test_an_estimate_counts_what_is_trained() -> None:
    config = TrainConfig()
    shape = config.decoder(config.tokenizer.vocab_size)
    found = estimate(config)
    assert found.parameters == sum(p.numel() for p in shape.build().parameters())
    assert found.tokens == 1000 * 16 * 256
    assert found.flops_per_step == shape.flops_per_token(256) * 16 * 256
    assert found.seconds(found.flops) == 1
    twice = estimate(TrainConfig.from_dict({"train": {"batch_size": 32}}))
    assert twice.activations_bytes == 2 * found.activations_bytes
    thrifty = estimate(TrainConfig.from_dict({"train": {"recompute": True}}))
    assert thrifty.activations_bytes < found.activations_bytes / 2


def test_a_run_that_does_not_fit_is_refused_with_what_would_help() -> None:
    huge = estimate(TrainConfig.from_dict({"train": {"batch_size": 1 << 20}}))
    with pytest.raises(LlamaError, match=r"takes about .* GiB of memory and 8.0 GiB are free") as e:
        check_memory(huge, 8 << 30)
    assert "batch_size" in str(e.value)
    check_memory(estimate(TrainConfig()), 8 << 30)
    check_memory(huge, None)
