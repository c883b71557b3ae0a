"""The decoder as a whole: causality, packing, initial size, counts that are true."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.models.config import (  # noqa: E402
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    from_dict,
)
from llama_plugin_train.models.mixture import _balance  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from llama_core.errors import ConfigError, LlamaError  # noqa: E402

SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_layers": 2}
SIZES |= {"num_heads": 4, "num_kv_heads": 2, "max_positions": 64, "initial_std": 0.2}
KINDS = [
    pytest.param({"positions": "rope"}, id="llama"),
    pytest.param({"positions": "alibi"}, id="alibi"),
    pytest.param({"positions": "sinusoidal"}, id="sinusoidal"),
    pytest.param({"positions": "none", "tied": False}, id="none"),
    pytest.param({"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True}, id="gpt2"),
    pytest.param({"num_experts": 4, "experts_per_token": 2}, id="experts"),
]


def build(**changes: object):
    torch.manual_seed(0)
    return DecoderConfig(**{**SIZES, **changes}).build().eval()


@pytest.mark.parametrize("changes", KINDS)
def test_packed_documents_are_as_each_alone(changes: dict) -> None:
    model = build(**changes)
    generator = torch.Generator().manual_seed(1)
    documents = [torch.randint(96, (n,), generator=generator) for n in (5, 9, 1, 6)]
    where = torch.cat([torch.arange(len(each)) for each in documents])[None]
    ids = torch.cat([torch.full((len(each),), n) for n, each in enumerate(documents)])[None]
    with torch.no_grad():
        together = model.hidden(torch.cat(documents)[None], where, ids) @ model.head.T
        alone = torch.cat([model.logits(each[None])[0] for each in documents])
    torch.testing.assert_close(together[0], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", KINDS)
def test_nothing_later_is_seen(changes: dict) -> None:
    model = build(**changes)
    tokens = torch.arange(12)[None] % 96
    other = tokens.clone()
    other[0, 7:] = 50
    with torch.no_grad():
        one, two = model.logits(tokens), model.logits(other)
    torch.testing.assert_close(one[:, :7], two[:, :7], atol=1e-5, rtol=1e-5)
    assert (one[:, 7:] - two[:, 7:]).abs().max() > 0.01


@pytest.mark.parametrize("changes", [p for p in KINDS if p.id != "none"])
def test_order_matters(changes: dict) -> None:
    """Without positions only causality tells the order, and the last token sees a bag of words."""
    model = build(**changes)
    with torch.no_grad():
        one, two = (model.logits(torch.tensor([[a, b, 9]]))[0, -1] for a, b in ((3, 4), (4, 3)))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("changes", KINDS)
def test_parameters_are_counted_right(changes: dict) -> None:
    model = build(**changes)
    assert model.config.count_parameters() == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("changes", KINDS)
def test_operations_are_counted_right(changes: dict) -> None:
    """Against torch's own counter, with attention as plain products: fused ones compute again."""
    model = build(**changes).train()
    tokens = torch.zeros(2, 24, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (model.hidden(tokens) @ model.head.T).sum().backward()
    counted = counter.get_total_flops() / tokens.numel()
    assert counted == pytest.approx(model.config.flops_per_token(24), rel=1e-9)


def test_parameters_of_the_other_kinds_are_counted_right() -> None:
    for changes in ({}, {"norm": "layer", "mlp": "gelu", "bias": True, "tied": False}):
        for config in (
            EncoderConfig(**{**SIZES, **changes}, num_classes=3, positions="learned"),
            EncoderDecoderConfig(**{**SIZES, **changes}, num_encoder_layers=3),
        ):
            model = config.build()
            assert config.count_parameters() == sum(p.numel() for p in model.parameters())


def test_operations_of_the_other_kinds_are_counted_right() -> None:
    tokens = torch.zeros(2, 24, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH):
        encoder = EncoderConfig(**SIZES).build()
        with FlopCounterMode(display=False) as counter:
            (encoder(tokens) @ encoder.head.T).sum().backward()
        expected = encoder.config.flops_per_token(24)
        assert counter.get_total_flops() / tokens.numel() == pytest.approx(expected, rel=1e-9)
        both = EncoderDecoderConfig(**SIZES, num_encoder_layers=3).build()
        with FlopCounterMode(display=False) as counter:
            (both(tokens, tokens) @ both.head.T).sum().backward()
        expected = both.config.flops_per_token(24)
        assert counter.get_total_flops() / tokens.numel() == pytest.approx(expected, rel=1e-9)


def test_a_new_model_knows_nothing() -> None:
    """The first loss is that of guessing, or initialization is wrong."""
    model = build(initial_std=0.02, num_layers=4)
    tokens = torch.arange(64)[None] % 96
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model.logits(tokens)[0, :-1], tokens[0, 1:])
    assert loss.item() == pytest.approx(torch.tensor(96.0).log().item(), abs=0.1)


def test_the_sum_of_branches_does_not_grow_with_depth() -> None:
    sizes = []
    for layers in (2, 32):
        model = build(num_layers=layers, initial_std=0.02)
        ends = [b.mlp.down_proj.weight.std() for b in model.blocks]
        sizes.append(torch.stack(ends).square().sum().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_a_row_that_is_too_long_is_refused() -> None:
    with pytest.raises(LlamaError, match="65 tokens, and the model has 64 positions"):
        build().logits(torch.zeros(1, 65, dtype=torch.long))


def test_balance_is_one_where_experts_share_evenly_and_their_number_where_one_does_all() -> None:
    likes = torch.full((8, 4), 0.25)
    chosen = torch.arange(8)[:, None] % 4
    assert _balance(likes, chosen).item() == pytest.approx(1)
    alone = torch.tensor([1.0, 0, 0, 0]).expand(8, 4)
    assert _balance(alone, torch.zeros(8, 1, dtype=torch.long)).item() == pytest.approx(4)


def test_balance_is_told_of_the_last_batch_and_can_be_learned_from() -> None:
    assert build().balance() is None
    model = build(num_experts=4, experts_per_token=1)
    model(torch.arange(64)[None])
    model.balance().backward()
    assert all(b.mlp.router.weight.grad.abs().max() > 0 for b in model.blocks)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_heads": 3, "num_kv_heads": 1}, "does not divide"),
        ({"num_kv_heads": 3}, "cannot share"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"head_size": 7}, "rope turns pairs"),
        ({"positions": "ropes"}, "'ropes', not one of rope"),
        ({"num_experts": 2, "experts_per_token": 3}, "3 of 2 experts"),
        ({"norm_eps": float("nan")}, "norm_eps"),
        ({"rope_theta": "big"}, "rope_theta is 'big'"),
        ({"num_layers": 2.0}, "num_layers is 2.0"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        DecoderConfig(**{**SIZES, **changes})


def test_a_configuration_is_read_as_it_was_written() -> None:
    for config in (
        DecoderConfig(**SIZES, num_experts=4),
        EncoderConfig(**SIZES, num_classes=2),
        EncoderDecoderConfig(**SIZES, num_encoder_layers=1),
    ):
        assert from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="num_layers"):
        from_dict({**SIZES, "num_layer": 3})
    with pytest.raises(ConfigError, match="lacks.*vocab_size"):
        from_dict({k: v for k, v in SIZES.items() if k != "vocab_size"})
