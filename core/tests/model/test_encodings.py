"""Every encoding: what it writes it reads, where it may be cut, what GGUF's own package says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.model.encodings import (
    AffineLayout,
    Encoding,
    EncodingError,
    Grouped,
    Table,
    known_encodings,
    parse_encoding,
)
from llama_core.model.encodings import bits as bitstream
from llama_core.model.encodings.base import Array
from llama_core.model.encodings.gguf_blocks import BLOCKS
from llama_core.model.encodings.plain import float8_values, to_bf16

# Each with the largest error that rounding a normal distribution may cost, as a part of its
# deviation; measured, and rounded up by a tenth.
WORST = {
    "f64": 1e-7, "f32": 0, "f16": 4e-4, "bf16": 3e-3, "f8e4m3": 0.03, "f8e5m2": 0.06,
    "q8:row": 0.009, "q8:g32:f32": 0.006, "q7:row": 0.017, "q6:g16/256": 0.022, "q5:g32": 0.05,
    "q5:g32:min": 0.045, "q4:g32": 0.095, "q4:g32:min": 0.09, "q4:g128:zero": 0.12,
    "q4:g32/256:min": 0.09, "q4:g32:order": 0.085, "q3:g16": 0.18, "q3:g16/256": 0.18,
    "q2:g16:min": 0.36, "q2:g16/256:min": 0.36, "q1:g32": 0.65, "q1:g32:min": 1.6,
    "gptq:q4:g128": 0.12, "gptq:q4:g32:order": 0.09, "gptq:q3:g64": 0.22, "gptq:q8:row:v2": 0.008,
    "gptq:q2:g32": 0.45, "awq:q4:g128": 0.12, "awq:q4:row": 0.13, "ct:q4:g128": 0.12,
    "ct:q4:g32:zero": 0.09, "ct:q3:g32": 0.2, "ct:q8:row": 0.009, "ct:q4:g32:order": 0.1,
    "bnb:int8": 0.009, "bnb:nf4:b64": 0.105, "bnb:fp4:b64": 0.135, "bnb:nf4:b64:nested256": 0.105,
    "f8e4m3:row": 0.03, "f8e5m2:tensor": 0.06, "f8e4m3:b16x128": 0.03, "i8:row": 0.009,
    "i8:g128:zero": 0.008, "nf4:g64": 0.105, "fp4:g64": 0.135, "mxfp4": 0.13,
    "ternary:row": 0.55, "ternary:g128": 0.55,
    "gguf:q4_0": 0.095, "gguf:q4_1": 0.085, "gguf:q5_0": 0.046, "gguf:q5_1": 0.042,
    "gguf:q8_0": 0.006, "gguf:q2_k": 0.36, "gguf:q3_k": 0.18, "gguf:q4_k": 0.085,
    "gguf:q5_k": 0.042, "gguf:q6_k": 0.021,
}  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", WORST)
def test_reads_what_it_writes(name: str) -> None:
    encoding = parse_encoding(name)
    assert encoding.name == name
    assert parse_encoding(name) == encoding
    x = normal(32, 512)
    parts = encoding.encode(x)
    assert encoding.faults(parts, x.shape) == []
    y = encoding.decode(parts, x.shape)
    assert y.dtype == np.float32
    assert np.sqrt(np.mean((x - y) ** 2)) <= WORST[name]


@pytest.mark.parametrize("name", WORST)
def test_a_cut_is_a_part_of_the_whole(name: str) -> None:
    encoding = parse_encoding(name)
    x = normal(64, 512)
    parts = encoding.encode(x)
    whole = encoding.decode(parts, x.shape)
    for axis in (0, 1):
        step = encoding.granularity(x.shape, axis)
        if step >= x.shape[axis]:
            continue
        shape = [*x.shape]
        shape[axis] -= step
        cut = encoding.cut(parts, x.shape, axis, step, x.shape[axis])
        assert encoding.faults(cut, tuple(shape)) == []
        wanted = whole[step:] if axis == 0 else whole[:, step:]
        assert np.array_equal(encoding.decode(cut, tuple(shape)), wanted)


@pytest.mark.parametrize("name", [n for n in WORST if isinstance(parse_encoding(n), AffineLayout)])
def test_the_affine_view_holds_the_same_numbers(name: str) -> None:
    encoding = parse_encoding(name)
    assert isinstance(encoding, AffineLayout)
    x = normal(32, 512, seed=1)
    parts = encoding.encode(x)
    view = encoding.unpack(parts, x.shape)
    assert np.array_equal(view.decode(), encoding.decode(parts, x.shape))
    again = encoding.pack(view, x.shape)
    assert all(np.array_equal(again[part], parts[part]) for part in again)


@pytest.mark.parametrize("kind", BLOCKS)
def test_gguf_blocks_decode_as_the_gguf_package_does_bit_for_bit(kind: str) -> None:
    import gguf

    encoding: Any = parse_encoding(f"gguf:{kind}")
    number = gguf.GGMLQuantizationType[kind.upper()]
    raw = np.random.default_rng(2).integers(0, 256, (64, encoding.row_bytes(512)), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random scales are NaN and infinite too
        wanted = gguf.dequantize(raw, number)
    found = encoding.decode({"blocks": raw}, (64, 512))
    nan = np.isnan(wanted)
    assert np.array_equal(nan, np.isnan(found))
    assert np.array_equal(wanted[~nan].view(np.uint32), found[~nan].view(np.uint32))
    view = encoding.unpack({"blocks": raw}, (64, 512))
    assert np.array_equal(encoding.pack(view, (64, 512))["blocks"], raw)


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_our_layouts_of_the_same_arithmetic_become_blocks_exactly(kind: str) -> None:
    ours = Grouped(int(kind[1]), 32, "min" if kind.endswith("1") else "none")
    theirs: Any = parse_encoding(f"gguf:{kind}")
    x = normal(8, 64)
    parts = ours.encode(x)
    blocks = theirs.pack(ours.unpack(parts, x.shape), x.shape)
    assert np.array_equal(theirs.decode(blocks, x.shape), ours.decode(parts, x.shape))


names = st.builds(
    lambda bits, group, offset, wide: (
        f"q{bits}:" + (f"g{group}" if group else "row") + offset + wide
    ),
    st.integers(1, 8),
    st.sampled_from([0, 1, 3, 8, 32]),
    st.sampled_from(["", ":min", ":zero"]),
    st.sampled_from(["", ":f32"]),
)


@settings(derandomize=True, max_examples=300, deadline=None, database=None)
@given(names, st.lists(st.integers(0, 7), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_any_layout_of_ours_holds_any_shape(name: str, shape: list[int], seed: int) -> None:
    """Odd sizes, empty axes, tails of groups: the error of a number is at most a step."""
    encoding = parse_encoding(name)
    x = normal(*shape, seed=seed)
    parts = encoding.encode(x)
    assert encoding.faults(parts, x.shape) == []
    y = encoding.decode(parts, x.shape)
    assert y.shape == x.shape
    if x.size and not name.startswith("q1"):
        top = (1 << int(name[1])) - 1
        spread = np.ptp(np.append(x, 0)) if ":" in name else 0
        assert np.abs(x - y).max() <= 2 * spread / top + 1e-2 * spread


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_bits_are_packed_and_unpacked(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    packed = bitstream.pack(codes, bits)
    assert packed.shape == (rows, bitstream.packed_bytes(columns, bits))
    assert np.array_equal(bitstream.unpack(packed, bits, columns), codes)


def test_bfloat16_rounds_to_even_and_keeps_nan() -> None:
    x = np.array([1.0, 1.00390625, 1.01171875, np.nan, -np.inf, 3.4e38, -0.0], np.float32)
    decoded = parse_encoding("bf16").decode({"data": to_bf16(x)}, x.shape)
    assert decoded[:3].tolist() == [1.0, 1.0, 1.015625]
    assert np.isnan(decoded[3])
    assert decoded[4:6].tolist() == [-np.inf, np.inf]
    assert np.signbit(decoded[6])


def test_float8_is_the_one_of_checkpoints() -> None:
    values = float8_values("f8e4m3")
    assert values[0x7E] == 448
    assert values[1] == 2.0**-9
    assert np.isnan(values[0x7F])
    assert float8_values("f8e5m2")[0x7B] == 57344
    everything = np.arange(256, dtype=np.uint8)
    for kind in ("f8e4m3", "f8e5m2"):
        finite = everything[np.isfinite(float8_values(kind))]
        encoding = parse_encoding(kind)
        numbers = encoding.decode({"data": finite}, finite.shape)
        assert np.array_equal(encoding.encode(numbers)["data"], finite)
    assert parse_encoding("f8e4m3").encode(np.array([1e9, -1e9], np.float32))["data"].tolist() == [
        0x7E,
        0xFE,
    ]


def test_gptq_in_an_order_of_its_own_groups_what_the_index_says() -> None:
    encoding: Any = parse_encoding("gptq:q4:g8:order")
    x = normal(8, 32)
    parts = encoding.encode(x)
    shuffled = np.random.default_rng(3).permutation(32)
    moved = dict(parts)
    codes = encoding.unpack(parts, x.shape).codes[:, np.argsort(shuffled)]
    moved["qweight"] = np.ascontiguousarray(bitstream.pack(codes, 4)).view(np.int32).T
    moved["g_idx"] = parts["g_idx"][np.argsort(shuffled)]
    assert np.array_equal(
        encoding.decode(moved, x.shape),
        encoding.decode(parts, x.shape)[:, np.argsort(shuffled)],
    )
    uneven = dict(parts) | {"g_idx": np.zeros(32, np.int32)}
    scale = parts["scales"][0].astype(np.float32)[:, None]
    zero = bitstream.unpack(parts["qzeros"].view(np.uint8), 4, 8)[0].astype(np.float32) + 1
    natural = encoding.unpack(parts, x.shape).codes.astype(np.float32)
    assert np.allclose(encoding.decode(uneven, x.shape), scale * (natural - zero[:, None]))


def test_stacks_of_matrices_are_cut_along_any_axis() -> None:
    for name in ("bf16", "q4:g32:min", "gguf:q8_0", "nf4:g64", "q3:g32/128"):
        encoding = parse_encoding(name)
        x = normal(4, 6, 128)
        parts = encoding.encode(x)
        whole = encoding.decode(parts, x.shape)
        first = encoding.cut(parts, x.shape, 0, 1, 3)
        assert np.array_equal(encoding.decode(first, (2, 6, 128)), whole[1:3])
        second = encoding.cut(parts, x.shape, 1, 2, 6)
        assert np.array_equal(encoding.decode(second, (4, 4, 128)), whole[:, 2:])


@pytest.mark.parametrize("name", ["q4:g32", "gguf:q4_k", "nf4:g64", "gptq:q4:g128", "bnb:nf4:b64"])
def test_numbers_that_are_none_cannot_be_rounded(name: str) -> None:
    x = normal(32, 256)
    x[3, 7] = np.nan
    with pytest.raises(EncodingError, match="NaN or infinite"):
        parse_encoding(name).encode(x)


def test_scales_too_large_for_half_precision_are_refused() -> None:
    x = np.full((1, 32), 1e9, np.float32)
    with pytest.raises(EncodingError, match=r"too large for float16.*f32"):
        parse_encoding("q4:g32").encode(x)
    y = parse_encoding("q8:g32:f32")
    assert np.allclose(y.decode(y.encode(x), x.shape), x, rtol=0.01)


def test_names_that_are_none_say_what_is_near() -> None:
    with pytest.raises(EncodingError, match="Did you mean 'gguf:q4_k'"):
        parse_encoding("gguf:q4k")
    with pytest.raises(EncodingError, match="Known: "):
        parse_encoding("???")
    for name in ("q9:g32", "q4:g0", "q4:g32:zero:min", "q4:g32/48", "gguf:q4_x", "gptq:q5:g32"):
        with pytest.raises(EncodingError):
            parse_encoding(name)
    assert all(isinstance(parse_encoding(name), Encoding) for name in known_encodings())


@pytest.mark.parametrize("name", [n for n in WORST if n not in ("f32", "f64")])
def test_wrong_parts_are_faults_and_never_crash(name: str) -> None:
    encoding = parse_encoding(name)
    x = normal(32, 512)
    parts = encoding.encode(x)
    for part in parts:
        without = {k: v for k, v in parts.items() if k != part}
        assert encoding.faults(without, x.shape)
        twice = dict(parts) | {part: np.concatenate([parts[part], parts[part]])}
        assert encoding.faults(twice, x.shape)
        other = dict(parts) | {part: parts[part].astype(np.complex64)}
        assert encoding.faults(other, x.shape)
    assert encoding.faults(parts, (2**40, 2**40))
    assert encoding.faults(parts, ())


@pytest.mark.parametrize("name", WORST)
def test_what_kernels_are_given_is_what_is_decoded(name: str) -> None:
    """Codes and scales in rows, for every encoding that has them; plain numbers have none."""
    encoding = parse_encoding(name)
    x = normal(32, 512)
    parts = encoding.encode(x)
    view = encoding.view(parts, x.shape)
    if view is None:
        assert name.startswith(("f", "bf16"))  # floats: nothing to look up, nothing to add
        assert not name.startswith("fp4")
        return
    assert view.codes.shape == x.shape
    assert view.codes.dtype == np.uint8
    assert np.array_equal(view.decode(), encoding.decode(parts, x.shape))


def test_blocks_that_run_over_the_ends_of_rows_have_no_view() -> None:
    encoding = parse_encoding("bnb:nf4:b64")
    x = normal(8, 24)
    assert encoding.view(encoding.encode(x), x.shape) is None
    assert encoding.view(encoding.encode(normal(128)), (128,)) is None


def test_a_ternary_code_of_three_is_read_as_two_everywhere() -> None:
    encoding = parse_encoding("ternary:row")
    parts = {"codes": np.full((2, 2), 255, np.uint8), "scales": np.ones((2, 1), np.float16)}
    view = encoding.view(parts, (2, 8))
    assert isinstance(view, Table)
    assert set(view.codes.reshape(-1).tolist()) == {2}
    assert np.array_equal(view.decode(), encoding.decode(parts, (2, 8)))


def test_a_scale_of_mxfp4_may_be_no_number() -> None:
    """A file may hold it; its numbers are then NaN, and nobody is warned of the power of two."""
    one = parse_encoding("mxfp4").encode(np.ones((2, 64), np.float32))
    one["scales"][1, 0] = 255
    decoded = parse_encoding("mxfp4").decode(one, (2, 64))
    assert np.isnan(decoded[1, :32]).all()
    assert np.isfinite(decoded[0]).all()
    assert np.isfinite(decoded[1, 32:]).all()
