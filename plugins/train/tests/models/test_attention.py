"""Attention against its plain definition: shared heads, rotation, distance, documents apart."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.models import attention, positions  # noqa: E402
from llama_plugin_train.models.config import DecoderConfig  # noqa: E402
from llama_plugin_train.models.decoder import Decoder  # noqa: E402

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2}


def config(**changes: object) -> DecoderConfig:
    return DecoderConfig(**{**SIZES, "num_heads": 4, "max_positions": 64, **changes})


def plain(layer: attention.SelfAttention, x, c: DecoderConfig, see, turned: bool):
    """One query, one head at a time."""
    length, size = x.shape[0], c.head_width
    qkv = x @ layer.qkv_proj.weight.T
    q, k, v = qkv.split([c.num_heads * size, c.kv_heads * size, c.kv_heads * size], -1)
    out = torch.zeros(length, c.num_heads * size)
    slopes = positions.alibi_slopes(c.num_heads)
    for head in range(c.num_heads):
        shared = head // (c.num_heads // c.kv_heads)
        mine = [t[:, i * size : (i + 1) * size] for t, i in ((q, head), (k, shared), (v, shared))]
        for i in range(length):
            query = spin(mine[0][i], i, c) if turned else mine[0][i]
            scores = torch.full((length,), -math.inf)
            for j in range(length):
                if see(i, j):
                    key = spin(mine[1][j], j, c) if turned else mine[1][j]
                    scores[j] = query @ key / math.sqrt(size)
                    if c.positions == "alibi":
                        scores[j] -= slopes[head] * abs(i - j)
            out[i, head * size : (head + 1) * size] = scores.softmax(0) @ mine[2]
    return out @ layer.o_proj.weight.T


def spin(x, position: int, c: DecoderConfig):
    """Pairs (i, i + D/2) as complex numbers, turned by position · theta^(-2i/D)."""
    half = len(x) // 2
    angles = position * c.rope_theta ** (-torch.arange(half) * 2.0 / len(x))
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat((turned.real, turned.imag))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("kind", ["rope", "alibi", "none"])
@pytest.mark.parametrize("causal", [True, False])
def test_it_is_the_plain_definition(kv_heads: int, kind: str, causal: bool) -> None:
    torch.manual_seed(kv_heads)
    c = config(num_kv_heads=kv_heads, positions=kind)
    layer = attention.SelfAttention(c)
    x = torch.randn(1, 7, 32)
    where = torch.arange(7)[None]
    view = attention.self_view(c, where, None, causal=causal, dtype=torch.float32)
    expected = plain(layer, x[0], c, lambda i, j: j <= i or not causal, kind == "rope")
    torch.testing.assert_close(layer(x, view)[0], expected, atol=1e-5, rtol=1e-5)


def test_documents_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    c = config(positions="none")
    layer = attention.SelfAttention(c)
    x, ids = torch.randn(1, 7, 32), torch.tensor([[1, 1, 1, 2, 2, 1, 3]])
    view = attention.self_view(c, torch.arange(7)[None], ids, causal=True, dtype=torch.float32)
    same = ids[0].tolist()
    expected = plain(layer, x[0], c, lambda i, j: j <= i and same[i] == same[j], False)
    torch.testing.assert_close(layer(x, view)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("causal", [True, False])
def test_flex_attention_sees_the_same_documents(kv_heads: int, causal: bool) -> None:
    """Forward alone: PyTorch has no backward of it on processors."""
    torch.manual_seed(kv_heads)
    c = config(num_kv_heads=kv_heads)
    layer = attention.SelfAttention(c)
    x = torch.randn(2, 150, 32)
    ids = torch.randint(0, 4, (2, 150)).sort(1).values
    where = torch.arange(150).expand(2, -1)
    told = {"causal": causal, "dtype": torch.float32}
    with torch.no_grad():
        masked, flexed = (
            layer(x, attention.self_view(c, where, ids, kernel=kernel, **told))
            for kernel in ("sdpa", "flex")
        )
    torch.testing.assert_close(flexed, masked, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flex_attention_learns_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Decoder(config(num_heads=2, num_kv_heads=1, max_positions=512)).cuda()
    tokens = torch.randint(0, 64, (2, 300), device="cuda")
    ids = torch.randint(0, 4, (2, 300), device="cuda").sort(1).values
    found = []
    for kernel in ("sdpa", "flex"):
        model.attention = kernel
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            hidden = model(tokens, None, ids)
        hidden.float().square().mean().backward()
        found.append([each.grad for each in model.parameters()])
        model.zero_grad(set_to_none=True)
    bound = 1e-4 if dtype == torch.float32 else 0.05
    for masked, flexed in zip(*found, strict=True):
        assert (flexed - masked).norm() <= bound * masked.norm()


def test_a_row_of_one_document_needs_no_mask() -> None:
    c = config()
    assert (
        attention.self_view(c, torch.arange(7)[None], None, causal=True, dtype=torch.float32).bias
        is None
    )


def test_text_that_has_nothing_to_read_is_still_a_number() -> None:
    torch.manual_seed(0)
    layer = attention.CrossAttention(config())
    view = attention.cross_view(torch.zeros(1, 3), torch.zeros(1, 5), torch.float32)
    assert layer(torch.randn(1, 3, 32), torch.randn(1, 5, 32), view).isfinite().all()


def test_slopes_are_the_papers() -> None:
    assert positions.alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    twelve = positions.alibi_slopes(12)
    assert twelve[:8] == positions.alibi_slopes(8)
    assert twelve[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_sinusoids_are_the_papers() -> None:
    found = positions.sinusoids(torch.tensor([[0, 5]]), 8)[0]
    assert found[0].tolist() == [0, 1] * 4
    for pair in range(4):
        angle = 5 / 10000 ** (2 * pair / 8)
        assert found[1, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert found[1, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
