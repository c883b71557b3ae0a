"""Every kernel on every tier against NumPy: tails, odd widths, all encodings, and bits that stay.

Legend: T rows, K inputs, N outputs.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from cpu_graphs import PLAN, batch, cpu, graph, off, reference, run, weights
from llama_plugin_cpu import native

from llama_core.model import ops
from llama_core.model.encodings.base import known_encodings
from llama_core.model.encodings.gguf_blocks import BLOCKS

DICE = np.random.default_rng(0)
ENCODINGS = ("f32", "f16", "bf16", "q8:g32", "q8:g64:min", "q8:row", "q4:g32", "q4:g32:min",
             "q4:g64", "q4:g128:min", "q4:g16/32:min", "q4:g32:zero", "q4:g32:f32", "q3:g32",
             "q2:g32:min", "q1:g32", "q6:g32", "q4:g32:order", "nf4:g32", "nf4:row", "mxfp4",
             "ternary:g64", "gguf:q4_0", "gguf:q8_0", "bnb:nf4:b64",
             "bnb:fp4:b64:nested256")  # fmt: skip


@pytest.mark.parametrize("name", ["portable", "avx2", "avx512", "neon"])
def test_every_tier_is_tested(name):
    """A tier that is not tested here says so."""
    if name not in native.running_tiers():
        pytest.skip(f"instruction-set tier {name} is not on this machine")
    assert name in native.tiers()


SOME_WAYS = (("f32", "none"), ("bf16", "none"), ("q8:g32", "q8:32"), ("q8:g32", "q7:32"),
             ("q4:g32:min", "q8:32"), ("q4:g32", "none"))  # fmt: skip
MORE_WAYS = (("f16", "none"), ("q8:g32", "none"), ("q4:g32:min", "none"), ("nf4:g32", "none"),
             ("q4:g32", "q8:32"), ("q4:g64:min", "q8:32"), ("f32", "q8:16"))  # fmt: skip


def numbers(*shape: int) -> np.ndarray:
    return DICE.standard_normal(shape).astype(np.float32)


def linear(K, N, encoding, act="none", bias=False):
    roles = {"weight": "w"} | ({"bias": "b"} if bias else {})
    node = ops.node("linear", "y", ("embed",), roles, act=act)
    shapes = {"w": (N, K)} | ({"b": (N,)} if bias else {})
    arrays = {"w": numbers(N, K) / np.float32(np.sqrt(K))} | ({"b": numbers(N)} if bias else {})
    return graph(K, [node], shapes, logits="y"), weights(arrays, {"w": encoding})


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("act", ["none", "q8:32", "q8:64", "q8:1000", "q8:24", "q7:32", "q7:1000"])
def test_linear_is_the_reference(tier, encoding, act):
    """Same numbers going in, same codes, same sums: only rounding of floats may differ."""
    K, N = 320 if "/" not in encoding else 256, 45
    x_TK = numbers(7, K)
    given = linear(K, N, encoding, act, bias=True)
    expected = run(reference(), *given, batch(x_TK))
    assert off(run(cpu(tier), *given, batch(x_TK)), expected) < 2e-6


# Every block of GGUF, and what other files bring.
MORE_ENCODINGS = (
    *(f"gguf:{name}" for name in BLOCKS), "q5:g32", "q7:g64:min", "q8:g256", "q4:g256:min",
    "q2:row", "q2:g64", "q1:row", "q1:g128", "i8:row", "i8:g64:zero", "f8e4m3:row",
    "f8e4m3:tensor", "f8e4m3:b128x128", "f8e5m2:row", "gptq:q4:g32", "gptq:q4:g32:order",
    "awq:q4:g64", "ct:q4:g32", "ct:q8:g64:zero", "bnb:int8", "fp4:g32", "f64",
)  # fmt: skip


@pytest.mark.parametrize("encoding", MORE_ENCODINGS)
@pytest.mark.parametrize("act", ["none", "q8:32"])
def test_linear_of_what_files_hold_is_the_reference(tier, encoding, act):
    given, x_TK = linear(512, 48, encoding, act), numbers(7, 512)
    expected = run(reference(), *given, batch(x_TK))
    assert off(run(cpu(tier), *given, batch(x_TK)), expected) < 2e-6


def test_every_family_of_encodings_has_a_case():
    """One that the core learns must be tried here, too: by its name up to where numbers begin."""

    def families(names):
        return {re.sub(r"^q\d", "q", name).split(":")[0] for name in names}

    whole = {"i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool"}  # of ids, not of weights
    assert families(set(known_encodings()) - whole) <= families((*ENCODINGS, *MORE_ENCODINGS))


@pytest.mark.parametrize("K", [1, 3, 8, 31, 40, 257, 600])
@pytest.mark.parametrize("N", [1, 15, 16, 17, 70])
@pytest.mark.parametrize(("encoding", "act"), SOME_WAYS)
def test_linear_of_any_size(tier, K, N, encoding, act):
    """Tails of rows, of columns and of groups."""
    given, x_TK = linear(K, N, encoding, act), numbers(5, K)
    expected = run(reference(), *given, batch(x_TK))
    assert off(run(cpu(tier), *given, batch(x_TK)), expected) < 2e-6


@pytest.mark.parametrize(("encoding", "act"), [*SOME_WAYS, *MORE_WAYS])
def test_rows_and_threads_do_not_change_a_bit(tier, encoding, act):
    """One row alone, few together, many together, on one thread or two: the same bits."""
    K, N = 320, 200
    given, x_TK = linear(K, N, encoding, act), numbers(41, K)
    whole = run(cpu(tier), *given, batch(x_TK))
    for rows in ([1] * 41, [2, 3, 4, 5, 7, 20], [33, 8]):
        ends = np.cumsum(rows)
        works = [batch(x_TK[end - n : end]) for n, end in zip(rows, ends, strict=True)]
        assert np.array_equal(run(cpu(tier), *given, *works), whole)
    for threads in (2, 3):
        assert np.array_equal(run(cpu(tier, threads), *given, batch(x_TK)), whole)


ROWWISE = {
    "rms_norm": ({}, {"eps": 1e-5, "offset": 1.0}, {"weight": 0}),
    "layer_norm": ({}, {"eps": 1e-5}, {"weight": 0, "bias": 0}),
    **{f"activation {fn}": ({}, {"fn": fn}, {}) for fn in
       ("silu", "gelu", "gelu_tanh", "relu", "sigmoid", "tanh")},
    "softcap": ({}, {"cap": 3.0}, {}),
    "mul": ({}, {"by": 0.3}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWWISE)
@pytest.mark.parametrize("width", [1, 15, 16, 17, 100])
def test_rowwise_ops(tier, name, width):
    """Ops of single rows, whole lanes and tails, small numbers and large."""
    _, attrs, roles = ROWWISE[name]
    node = ops.node(name.split()[0], "y", ("embed",), {r: r for r in roles}, **attrs)
    given = graph(width, [node], dict.fromkeys(roles, (width,)), logits="y")
    held = weights({r: numbers(width) for r in roles})
    x = numbers(9, width) * np.float32([1e-4, 1e-2, 0.1, 1, 3, 10, 30, 100, 1e4])[:, None]
    expected = run(reference(), given, held, batch(x))
    found = run(cpu(tier), given, held, batch(x))
    for row in range(9):  # what cancels (gelu of -5) is measured against what went in
        most = max(np.abs(x[row]).max(), np.abs(expected[row]).max(), 1e-3)
        assert np.abs(found[row] - expected[row]).max() < 3e-6 * most, row
    assert np.array_equal(run(cpu(tier, 2), given, held, batch(x[:4]), batch(x[4:])), found)


@pytest.mark.parametrize("op", ["add", "mul", "glu"])
def test_ops_of_two_values(tier, op):
    attrs = {"fn": "silu"} if op == "glu" else {}
    nodes = [ops.node("slice", "a", ("embed",), start=0, stop=21),
             ops.node("slice", "b", ("embed",), start=20, stop=41),
             ops.node(op, "y", ("a", "b"), **attrs)]  # fmt: skip
    given = graph(41, nodes, {}, logits="y")
    x = numbers(5, 41)
    assert (
        off(
            run(cpu(tier), given, weights({}), batch(x)),
            run(reference(), given, weights({}), batch(x)),
        )
        < 1e-6
    )


def attention(heads, kv_heads, D, **attrs):
    widths = {"q": heads * D, "k": kv_heads * D, "v": kv_heads * D}
    nodes, start = [], 0
    for part, width in widths.items():
        nodes.append(ops.node("slice", part, ("embed",), start=start, stop=start + width))
        start += width
    rotary = {"head_dim": D, "rotary_dim": D - D % 2 if D > 1 else 2}
    if D > 1:
        nodes += [ops.node("rope", f"{p}r", (p, "positions"), **rotary) for p in "qk"]
    q, k = ("qr", "kr") if D > 1 else ("q", "k")
    nodes.append(ops.node("attention", "y", (q, k, "v"), layer=0, num_heads=heads,
                          num_kv_heads=kv_heads, head_dim=D, scale=D**-0.5, **attrs))  # fmt: skip
    return graph(start, nodes, {}, logits="y"), weights({}), start


@pytest.mark.parametrize(
    ("heads", "kv_heads", "D"), [(1, 1, 1), (2, 2, 7), (4, 2, 16), (6, 2, 20), (8, 1, 64)]
)
@pytest.mark.parametrize("attrs", [{}, {"window": 5}, {"softcap": 2.0}, {"window": 1}])
def test_attention_is_the_reference(tier, heads, kv_heads, D, attrs):
    given, held, width = attention(heads, kv_heads, D, **attrs)
    x = numbers(33, width)
    expected = run(reference(), given, held, batch(x))
    assert off(run(cpu(tier), given, held, batch(x)), expected) < 3e-6


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "q8"])
@pytest.mark.parametrize("block_size", [1, 4, 16, 24, 32])
def test_attention_on_every_memory(tier, kv_dtype, block_size):
    """Every type of cache and size of block; chunks of a prompt give the bits of the whole."""
    given, held, width = attention(4, 2, 20)
    plan = replace(PLAN, kv_dtype=kv_dtype, block_size=block_size, max_tokens=64)
    x = numbers(14, width)
    expected = run(reference(), given, held, batch(x), plan=plan)
    found = run(cpu(tier), given, held, batch(x), plan=plan)
    assert off(found, expected) < (3e-6 if kv_dtype != "q8" else 1e-5)
    for cuts in ([5, 9], [1] * 14, [13, 1]):
        works, at = [], 0
        for n in cuts:
            works.append(batch(x[at : at + n], start=at))
            at += n
        assert np.array_equal(run(cpu(tier, 2), given, held, *works, plan=plan), found)


@pytest.mark.parametrize("block_size", [64, 24, 7])
@pytest.mark.parametrize("window", [None, 600])
def test_long_past(tier, block_size, window):
    """Past a segment of 512 keys the parts are merged; a chunk still changes no bit."""
    given, held, width = attention(4, 2, 16, window=window)
    plan = replace(PLAN, block_size=block_size, max_tokens=1024, kv_bytes=1 << 23)
    x = numbers(1060, width)
    table = ((tuple(range(-(-1060 // block_size))),),)

    def cut(*lengths):
        ends = np.cumsum(lengths)
        works = [batch(x[e - n : e], start=int(e - n)) for n, e in zip(lengths, ends, strict=True)]
        return [replace(work, blocks_G=table) for work in works]

    expected = run(reference(), given, held, *cut(1000, 60), plan=plan)
    found = run(cpu(tier), given, held, *cut(1000, 60), plan=plan)
    assert off(found, expected) < 3e-6
    chunks = cut(505, 15, 489, 50, 1)
    assert np.array_equal(run(cpu(tier, 2), given, held, *chunks, plan=plan), found)


@pytest.mark.parametrize("act", ["none", "q8:32"])
@pytest.mark.parametrize("encoding", ["f32", "q4:g32"])
def test_experts(tier, act, encoding):
    E, K, inner = 5, 64, 96
    roles = {f"{r}.{e}": f"{r}.{e}" for e in range(E) for r in ("gate", "up", "down")}
    attrs = {"num_experts": E, "top_k": 2, "fn": "silu", "act": act}
    nodes = [
        ops.node("linear", "scores", ("embed",), {"weight": "router"}),
        ops.node("moe", "y", ("embed", "scores"), roles, **attrs),
    ]
    shapes = {"router": (E, K)} | {r: (K, inner) if r[0] == "d" else (inner, K) for r in roles}
    arrays = {n: numbers(*s) / np.float32(8) for n, s in shapes.items()}
    given, held = (
        graph(K, nodes, shapes, logits="y"),
        weights(arrays, dict.fromkeys(roles, encoding)),
    )
    x = numbers(23, K)
    expected, found = run(reference(), given, held, batch(x)), run(cpu(tier), given, held, batch(x))
    # In 8 bits a difference of the last bit may round a code the other way, in few rows.
    errors = sorted(off(f, e) for f, e in zip(found, expected, strict=True))
    assert errors[len(errors) // 2] < 3e-6
    assert errors[-1] < (3e-6 if act == "none" else 0.05)
    works = [batch(x[i : i + 1]) for i in range(23)]
    assert np.array_equal(run(cpu(tier, 2), given, held, *works), found)


def test_unaligned_numbers(tier):
    """Vectors that do not begin on any boundary."""
    given = linear(100, 33, "f32")
    raw = np.zeros(3 * 100 * 4 + 4, np.uint8)[4:].view(np.float32)
    raw[:] = numbers(300)
    x = raw.reshape(3, 100)
    assert off(run(cpu(tier), *given, batch(x)), run(reference(), *given, batch(x))) < 2e-6


def test_a_nan_stays_a_nan(tier):
    """Nothing hides what is not a number: in 32 bits, in 8 bits, in attention."""
    x = numbers(3, 64)
    x[1, 17] = np.nan
    ways = (("f32", "none"), ("q8:g32", "q8:32"), ("q8:g64", "q7:32"), ("q4:g32", "q8:64"))
    for encoding, act in ways:
        found = run(cpu(tier), *linear(64, 20, encoding, act), batch(x))
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()
    given, held, width = attention(2, 1, 16)
    x = numbers(6, width)
    x[2, 40] = np.nan  # in a key
    found = run(cpu(tier), given, held, batch(x))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2:]).any(axis=1).all()
