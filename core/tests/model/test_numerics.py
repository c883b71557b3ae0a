"""Every op against its formula, written out in plain Python, sizes odd and blocks with tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.model import numerics, ops
from llama_core.model.op import Call

DICE = np.random.default_rng(5)


def numbers(*shape: int) -> Any:
    return DICE.standard_normal(shape).astype(np.float32)


def run(op: str, *inputs: Any, weights: dict[str, Any] | None = None, **attrs: Any) -> Any:
    weights = weights or {}
    node = ops.node(
        op, "x", [str(i) for i in range(len(inputs))], dict.fromkeys(weights, "w"), **attrs
    )
    return ops.op(op).reference(Call(node, inputs, weights, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "inner", "outer"), [(1, 1, 1), (3, 7, 5), (2, 65, 33)])
def test_linear(rows: int, inner: int, outer: int) -> None:
    x, w, b = numbers(rows, inner), numbers(outer, inner), numbers(outer)
    y = run("linear", x, weights={"weight": w, "bias": b})
    for t in range(rows):
        for n in range(outer):
            exact = math.fsum(float(x[t, k]) * float(w[n, k]) for k in range(inner)) + float(b[n])
            assert y[t, n] == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(("act", "most"), [("q8", 127), ("q7", 63)])
@pytest.mark.parametrize("block", [1, 4, 5, 64])
def test_quantized_activations(block: int, act: str, most: int) -> None:
    x = numbers(3, 13)
    x[1, :5] = 0
    codes, scales = numerics.quantize_rows(x, block, most)
    y = numerics.in_precision(x, f"{act}:{block}")
    for t in range(3):
        for index, start in enumerate(range(0, 13, block)):
            part = x[t, start : start + block]
            widest = np.abs(part).max()
            scale = np.float32(widest / np.float32(most))
            assert scales[t, index] == scale
            for k, value in enumerate(part, start):
                inverse = np.float32(most) / widest if widest else np.float32(0)
                code = round(float(np.float32(value * inverse)))
                assert codes[t, k] == code
                assert y[t, k] == np.float32(code) * scale
    assert np.abs(codes).max() == most


def test_linear_in_eight_bits_is_the_linear_of_its_codes() -> None:
    x, w = numbers(2, 20), numbers(3, 20)
    y = run("linear", x, weights={"weight": w}, act="q8:8")
    codes, scales = numerics.quantize_rows(x, 8)
    for t in range(2):
        for n in range(3):
            sums = [
                float(scales[t, i])
                * float(codes[t, s : s + 8] @ w[n, s : s + 8].astype(np.float64))
                for i, s in enumerate(range(0, 20, 8))
            ]
            assert y[t, n] == pytest.approx(math.fsum(sums), rel=1e-5, abs=1e-5)


def test_static_activations() -> None:
    x = np.array([[0.0, 0.26, -0.24, 99.0, -99.0]], np.float32)
    y = numerics.in_precision(x, "static", np.array([0.5], np.float32))
    assert y.tolist() == [[0.0, 0.5, -0.0, 63.5, -63.5]]


def test_tiny_activations_do_not_overflow() -> None:
    x = np.full((1, 4), 1e-40, np.float32)
    assert np.array_equal(numerics.in_precision(x, "q8:4"), np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("width", [3, 9])
def test_rms_norm_over_rows_and_heads(width: int) -> None:
    x, w = numbers(2, 9), numbers(width)
    y = run("rms_norm", x, weights={"weight": w}, eps=0.1, offset=1.0)
    for t in range(2):
        for start in range(0, 9, width):
            part = [float(v) for v in x[t, start : start + width]]
            rms = math.sqrt(math.fsum(v * v for v in part) / width + 0.1)
            for k, v in enumerate(part):
                assert y[t, start + k] == pytest.approx(v / rms * (float(w[k]) + 1), abs=1e-6)


def test_layer_norm() -> None:
    x, w, b = numbers(2, 7), numbers(7), numbers(7)
    y = run("layer_norm", x, weights={"weight": w, "bias": b}, eps=0.1)
    for t in range(2):
        mean = math.fsum(map(float, x[t])) / 7
        deviation = math.sqrt(math.fsum((float(v) - mean) ** 2 for v in x[t]) / 7 + 0.1)
        for k in range(7):
            exact = (float(x[t, k]) - mean) / deviation * float(w[k]) + float(b[k])
            assert y[t, k] == pytest.approx(exact, abs=1e-6)


FUNCTIONS = {
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
    "gelu_tanh": lambda v: (
        v * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    ),
    "relu": lambda v: max(v, 0.0),
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
}


@pytest.mark.parametrize("fn", sorted(numerics.ACTIVATIONS))
def test_activations(fn: str) -> None:
    x, up = numbers(2, 11) * 3, numbers(2, 11)
    x[0, 0], x[0, 1] = 60, -60
    plain, gated = run("activation", x, fn=fn), run("glu", x, up, fn=fn)
    for t in range(2):
        for k in range(11):
            exact = FUNCTIONS[fn](float(x[t, k]))
            assert plain[t, k] == pytest.approx(exact, rel=1e-5, abs=1e-6)
            assert gated[t, k] == pytest.approx(exact * float(up[t, k]), rel=1e-5, abs=1e-6)


def test_small_ops() -> None:
    x, y = numbers(3, 5), numbers(3, 5)
    assert np.array_equal(run("add", x, y), x + y)
    assert np.array_equal(run("mul", x, y, by=2.0), x * 2 * y)
    assert np.array_equal(run("mul", x, by=0.5), x / 2)
    assert np.array_equal(run("slice", x, start=1, stop=4), x[:, 1:4])
    assert np.array_equal(run("gather", x, np.array([2, 0])), x[[2, 0]])
    capped = run("softcap", x * 9, cap=4.0)
    assert capped[1, 1] == pytest.approx(4 * math.tanh(float(x[1, 1]) * 9 / 4), rel=1e-5)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (5, 1)])
def test_attention(heads: int, kv_heads: int, softcap: float | None) -> None:
    q, k, v = numbers(heads, 3), numbers(7, kv_heads, 3), numbers(7, kv_heads, 3)
    out = numerics.attend(q, k, v, 0.7, softcap)
    for h in range(heads):
        g = h // (heads // kv_heads)
        scores = [0.7 * float(q[h] @ k[p, g]) for p in range(7)]
        if softcap is not None:
            scores = [softcap * math.tanh(s / softcap) for s in scores]
        raised = [math.exp(s) for s in scores]
        for d in range(3):
            exact = math.fsum(r * float(v[p, g, d]) for p, r in enumerate(raised)) / sum(raised)
            assert out[h, d] == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_experts(normalize: bool) -> None:
    num, top, width, inner = 5, 2, 6, 4
    x, scores = numbers(3, width), numbers(3, num)
    weights = {
        f"{role}.{e}": numbers(*((width, inner) if role == "down" else (inner, width)))
        for role in ("gate", "up", "down")
        for e in range(num)
    }
    attrs = {"num_experts": num, "top_k": top, "normalize": normalize, "fn": "silu"}
    y = run("moe", x, scores, weights=weights, **attrs)
    for t in range(3):
        shares = np.exp(scores[t].astype(float)) / np.exp(scores[t].astype(float)).sum()
        best = sorted(range(num), key=lambda e: -shares[e])[:top]
        whole = sum(shares[e] for e in best) if normalize else 1.0
        exact = np.zeros(width)
        for e in best:
            gate = weights[f"gate.{e}"].astype(float) @ x[t]
            mixed = gate / (1 + np.exp(-gate)) * (weights[f"up.{e}"].astype(float) @ x[t])
            exact += shares[e] / whole * (weights[f"down.{e}"].astype(float) @ mixed)
        assert np.allclose(y[t], exact, atol=1e-5)


def test_a_tie_of_experts_goes_to_the_lower_number() -> None:
    chosen, shares = numerics.route(np.zeros(4, np.float32), 2, True)
    assert chosen == [0, 1]
    assert shares.tolist() == [0.5, 0.5]


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 40), st.integers(0, 2**31))
def test_a_row_does_not_see_its_neighbours(rows: int, inner: int, outer: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((rows, inner)).astype(np.float32)
    w = dice.standard_normal((outer, inner)).astype(np.float32)
    norm = dice.standard_normal(inner).astype(np.float32)
    whole = numerics.matvec(x, w)
    normed = numerics.rms_norm(x, norm, 1e-6, 0.0)
    active = {fn: call(x) for fn, call in numerics.ACTIVATIONS.items()}
    for t in range(rows):
        alone = x[t : t + 1]
        assert np.array_equal(numerics.matvec(alone, w)[0], whole[t])
        assert np.array_equal(numerics.rms_norm(alone, norm, 1e-6, 0.0)[0], normed[t])
        for fn, call in numerics.ACTIVATIONS.items():
            assert np.array_equal(call(alone)[0], active[fn][t])
