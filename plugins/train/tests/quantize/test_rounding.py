"""What a model computes with in training is what core decodes from what was stored, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.models.config import DecoderConfig  # noqa: E402
from llama_plugin_train.models.export import save_folder  # noqa: E402
from llama_plugin_train.objective.linear_cross_entropy import next_token_loss  # noqa: E402
from llama_plugin_train.optimizing.optimizer import Optimizer, OptimizerConfig  # noqa: E402
from llama_plugin_train.quantize.rounding import as_stored  # noqa: E402
from llama_plugin_train.quantize.training import (  # noqa: E402
    BY_BITS,
    encoding_of,
    encodings,
    quantize,
)

from llama_core.builtin.safetensors_format import SafetensorsFormat  # noqa: E402
from llama_core.errors import ConfigError, LlamaError  # noqa: E402
from llama_core.model.encodings import parse_encoding  # noqa: E402

OTHERS = ["q3:g32", "q8:row", "q1:row", "q4:g7", "q1:g7", "q5:g16:f32", "ternary:row", "ternary:g9"]
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 80, "num_layers": 2}
SIZES |= {"num_heads": 4, "num_kv_heads": 2, "max_positions": 32, "initial_std": 0.2}


def matrices():
    generator = np.random.default_rng(0)
    for shape in ((5, 288), (64, 128), (3, 1000), (2, 33), (4, 7), (1, 1)):
        x = generator.standard_normal(shape, np.float32)
        yield x
        yield x * np.float32(1e-6)  # scales that float16 only just holds
        yield np.rint(2 * x)  # ties, and zeros among them
        yield np.zeros_like(x)


@pytest.mark.parametrize("wanted", [*BY_BITS, *OTHERS])
def test_it_is_what_core_gives_back(wanted: str) -> None:
    encoding = encoding_of(wanted)
    for x in matrices():
        expected = encoding.decode(encoding.encode(x), x.shape)
        found = as_stored(torch.from_numpy(x), encoding).numpy()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [("nf4:g64", "ternary"), ("q4:g32:min", "offsets"), ("q4:g32/256", "two levels")],
)
def test_other_encodings_are_refused(wanted: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        encoding_of(wanted)


def test_weights_that_blew_up_are_told() -> None:
    with pytest.raises(LlamaError, match="grown so large"):
        as_stored(torch.full((2, 32), 1e9), parse_encoding("q4:g32"))
    with pytest.raises(LlamaError, match="not numbers"):
        as_stored(torch.full((2, 32), float("nan")), parse_encoding("ternary:g32"))


def test_the_gradient_goes_straight_through() -> None:
    torch.manual_seed(0)
    model = DecoderConfig(**SIZES).build()
    quantize(model, "4")
    linear = model.blocks[0].mlp.down_proj
    x = torch.randn(5, 80)
    y = torch.randn(5, 32)
    (linear(x) * y).sum().backward()
    torch.testing.assert_close(linear.weight.grad, y.T @ x)
    assert torch.equal(linear(x), x @ as_stored(linear.weight, parse_encoding("q4:g32")).T)


@pytest.mark.parametrize("bits", list(BY_BITS))
def test_a_model_trained_for_bits_is_stored_in_them_and_stays_itself(
    bits: str, tmp_path: Path, core_logits
) -> None:
    """It learns a text, and what core reads from the folder says the same as what was trained."""
    torch.manual_seed(0)
    config = DecoderConfig(**SIZES)
    model = config.build()
    quantize(model, bits)
    optimizer = Optimizer(model, OptimizerConfig(rate=1e-2, weight_decay=0.0))
    text = torch.randint(64, (1, 17), generator=torch.Generator().manual_seed(3))
    losses = []
    for _ in range(80):
        loss = next_token_loss(model(text[:, :-1]), model.head, text[:, 1:])
        losses.append(loss.total.item())
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.2 < 2 < losses[0]

    kinds = encodings(model)
    assert set(kinds.values()) == {BY_BITS[bits]}
    assert len(kinds) == 2 * 4
    save_folder(model, config, tmp_path / "model", encodings=kinds)
    weights = SafetensorsFormat().open(tmp_path / "model").weights
    stored = weights["model.layers.1.self_attn.k_proj.weight"]
    assert stored.encoding == parse_encoding(BY_BITS[bits])
    used = as_stored(model.blocks[1].attn.qkv_proj.weight.detach(), stored.encoding)
    np.testing.assert_array_equal(stored.decode(), used[32:48].numpy())
    with torch.no_grad():
        ours = model.logits(text[:, :-1])[0].numpy()
    core = core_logits(tmp_path / "model", text[0, :-1].tolist())
    np.testing.assert_allclose(core, ours, atol=1e-4, rtol=1e-4)


def test_experts_are_refused() -> None:
    model = DecoderConfig(**SIZES, num_experts=2, experts_per_token=1).build()
    with pytest.raises(ConfigError, match="experts cannot"):
        quantize(model, "4")
