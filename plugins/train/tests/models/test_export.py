"""A folder that we write is read by core, by transformers and by us, and all say the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from llama_plugin_train.models.config import (  # noqa: E402
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
)
from llama_plugin_train.models.export import load_folder, save_folder, save_own  # noqa: E402
from llama_plugin_train.models.names import stored  # noqa: E402

from llama_core.errors import ConfigError, LlamaError  # noqa: E402

SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_layers": 2}
SIZES |= {"num_heads": 4, "max_positions": 64, "initial_std": 0.3}
LLAMAS = [
    pytest.param({}, id="llama"),
    pytest.param({"num_kv_heads": 2, "tied": False, "rope_theta": 500.0}, id="shared-heads"),
    pytest.param({"num_kv_heads": 1, "head_size": 16, "bias": True}, id="wide-heads"),
    pytest.param({"num_experts": 4, "num_kv_heads": 2, "tied": False}, id="experts"),
]
GPT2S = [
    pytest.param({"bias": True}, id="gpt2"),
    pytest.param({"tied": False}, id="gpt2-without-biases"),
]
GPT2 = {"positions": "learned", "norm": "layer", "mlp": "gelu"}
TOKENS = [5, 17, 3, 90, 41, 41, 8, 0, 95, 12]


def folder_of(folder: Path, **changes: object):
    torch.manual_seed(0)
    config = DecoderConfig(**{**SIZES, **changes})
    model = config.build().eval()
    with torch.no_grad():  # norms of exactly one and biases of zero would hide a mistake
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_folder(model, config, folder)
    return model


def ours(model) -> np.ndarray:
    with torch.no_grad():
        return model.logits(torch.tensor([TOKENS]))[0].numpy()


def theirs(folder: Path) -> np.ndarray:
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        return model.eval()(torch.tensor([TOKENS])).logits[0].numpy()


@pytest.mark.parametrize("changes", LLAMAS)
def test_core_and_transformers_give_our_logits(changes: dict, tmp_path: Path, core_logits) -> None:
    model = folder_of(tmp_path / "model", **changes)
    np.testing.assert_allclose(theirs(tmp_path / "model"), ours(model), atol=1e-5, rtol=1e-5)
    core = core_logits(tmp_path / "model", TOKENS)
    np.testing.assert_allclose(core, ours(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", GPT2S)
def test_transformers_gives_our_logits_of_a_gpt2(changes: dict, tmp_path: Path) -> None:
    model = folder_of(tmp_path / "model", **GPT2, **changes)
    np.testing.assert_allclose(theirs(tmp_path / "model"), ours(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [*LLAMAS, pytest.param({**GPT2, "bias": True}, id="gpt2")])
def test_what_was_written_is_read_again(changes: dict, tmp_path: Path) -> None:
    model = folder_of(tmp_path / "model", **changes)
    config, again = load_folder(tmp_path / "model")
    np.testing.assert_array_equal(ours(again), ours(model))
    assert config.count_parameters() == model.config.count_parameters()


@pytest.mark.parametrize("changes", [*LLAMAS, pytest.param({**GPT2, "bias": True}, id="gpt2")])
def test_nothing_of_the_model_is_left_out(changes: dict) -> None:
    config = DecoderConfig(**{**SIZES, **changes})
    counts = dict.fromkeys(config.build().state_dict(), 0)
    arrays = config.build().state_dict()
    for one in stored(config):
        part = arrays[one.ours] if one.expert is None else arrays[one.ours][one.expert]
        counts[one.ours] += len(part[slice(*one.rows)] if one.rows else part) * part[0].numel()
    assert counts == {name: value.numel() for name, value in arrays.items()}


def test_what_transformers_wrote_is_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    transformers.LlamaForCausalLM(given).save_pretrained(tmp_path / "model")
    _, model = load_folder(tmp_path / "model")
    np.testing.assert_allclose(theirs(tmp_path / "model"), ours(model), atol=1e-5, rtol=1e-5)


def test_the_other_kinds_are_kept_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokens = torch.tensor([TOKENS])
    encoder = EncoderConfig(**SIZES, num_classes=3).build().eval()
    save_own(encoder, encoder.config, tmp_path / "encoder")
    config, again = load_folder(tmp_path / "encoder")
    assert config == encoder.config
    assert torch.equal(again(tokens), encoder(tokens))
    both = EncoderDecoderConfig(**SIZES, num_encoder_layers=1).build().eval()
    save_own(both, both.config, tmp_path / "both")
    assert torch.equal(load_folder(tmp_path / "both")[1](tokens, tokens), both(tokens, tokens))


def test_ids_of_tokens_are_those_given_and_no_others(tmp_path: Path) -> None:
    config = DecoderConfig(**SIZES)
    save_folder(config.build(), config, tmp_path / "none")
    save_folder(config.build(), config, tmp_path / "two", generation={"eos_token_id": [2, 7]})
    for name, expected in (("none", None), ("two", [2, 7])):
        about = transformers.AutoConfig.from_pretrained(tmp_path / name)
        assert about.eos_token_id == expected
        assert about.bos_token_id is None
    assert json.loads((tmp_path / "two" / "generation_config.json").read_text()) == {
        "eos_token_id": [2, 7]
    }


@pytest.mark.parametrize("changes", [{"positions": "alibi"}, {"mlp": "gelu"}, {"norm": "layer"}])
def test_what_nobody_builds_is_refused(changes: dict, tmp_path: Path) -> None:
    config = DecoderConfig(**SIZES, **changes)
    with pytest.raises(LlamaError, match="no architecture has"):
        save_folder(config.build(), config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_foreign_folder_is_refused_by_its_word(tmp_path: Path) -> None:
    folder_of(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    about = json.loads(path.read_text())
    for change, why in (
        ({"model_type": "mamba"}, "'mamba'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"mlp_bias": True}, "only one of"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "yarn"),
    ):
        path.write_text(json.dumps({**about, **change}))
        with pytest.raises(ConfigError, match=why):
            load_folder(tmp_path / "model")
    path.write_text(json.dumps({**about, "num_hidden_layers": 3}))
    with pytest.raises(LlamaError, match="lacks 9 of"):
        load_folder(tmp_path / "model")
    path.write_text(json.dumps({**about, "vocab_size": 97}))
    with pytest.raises(LlamaError, match="shape"):
        load_folder(tmp_path / "model")
