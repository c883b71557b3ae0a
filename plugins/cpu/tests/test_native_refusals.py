"""What the library refuses by itself, called as other languages call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_plugin_cpu import native

WIDTH, VOCAB, BLOCKS, CONTEXT = 8, 8, 4, 32
NAN = float("nan")


class Built:
    """A program of the C interface: embed, attention on slices of it, adapters in two slots."""

    def __init__(self) -> None:
        self.ffi, self.lib = native.library()
        self.kept: list[Any] = []
        self.pool = native.Pool(2)
        self.handle = self.new(VOCAB, WIDTH, CONTEXT, 8, 2, 4, BLOCKS, self.lib.LLAMA_KV_F32)

    def new(self, *limits: int) -> Any:
        out = self.ffi.new("llama_program **")
        given = self.ffi.new("llama_limits *", list(limits))
        assert self.lib.llama_program_new(self.pool.handle, given, out) == 0
        return self.ffi.gc(out[0], self.lib.llama_program_free)

    def floats(self, array: Any) -> Any:
        self.kept.append(np.ascontiguousarray(array, np.float32))
        return self.ffi.from_buffer("float[]", self.kept[-1])

    def source(self, kind: str, rows: int, cols: int, **fields: Any) -> Any:
        one = self.ffi.new("llama_weight_source *")
        one.kind, one.rows, one.cols = getattr(self.lib, f"LLAMA_W_{kind}"), rows, cols
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                self.kept.append(value)
                part = "char[]" if name == "data" else "float[]"
                value = self.ffi.from_buffer(
                    part, value.view(np.uint8) if name == "data" else value
                )
                self.kept.append(value)
            setattr(one, name, value)
        return one

    def weight(self, source: Any) -> tuple[int, int]:
        out = self.ffi.new("int32_t *", -1)
        return self.lib.llama_program_weight(self.handle, source, out), out[0]

    def dense(self, array: Any) -> int:
        array = np.ascontiguousarray(array, np.float32)
        status, number = self.weight(self.source("F32", *array.shape, data=array))
        assert status == 0
        return number

    def value(self, width: int, gathered: int = 0) -> int:
        out = self.ffi.new("int32_t *")
        assert self.lib.llama_program_value(self.handle, width, gathered, out) == 0
        return int(out[0])

    def add(
        self, kind: str, width: int, inputs: tuple[int, ...], gathered: int = 0, **fields: Any
    ) -> int:
        op = self.ffi.new("llama_op *")
        op.kind, op.output = getattr(self.lib, f"LLAMA_{kind}"), self.value(width, gathered)
        op.inputs = [*inputs, -1, -1, -1][:3]
        for name, value in fields.items():
            if name == "weights":
                op.num_weights = len(value)
                value = self.ffi.new("int32_t[]", value)
                self.kept.append(value)
            setattr(op, name, value)
        return self.lib.llama_program_add(self.handle, op) or -op.output - 1

    def message(self) -> str:
        text: str = self.ffi.string(self.lib.llama_program_message(self.handle)).decode()
        return text


ATTENTION = {"heads": 2, "kv_heads": 1, "head_dim": 4, "scale": 0.5}


def whole(one: Built) -> Built:
    """All of it, finished."""
    dice = np.random.default_rng(0)
    assert one.lib.llama_program_group(one.handle, 1, 1, 4) == 0
    table = one.dense(dice.standard_normal((VOCAB, WIDTH)))
    slots = [dice.standard_normal(shape) for _ in range(2) for shape in ((3, WIDTH), (WIDTH, 3))]
    matrices = [one.dense(matrix) for matrix in slots]
    x = -1 - one.add("EMBED", WIDTH, (), weights=[table])
    k = -1 - one.add("SLICE", 4, (x,))
    v = -1 - one.add("SLICE", 4, (x,), start=4)
    y = -1 - one.add("ATTENTION", WIDTH, (x, k, v), **ATTENTION)
    z = -1 - one.add("LORA", WIDTH, (y, x), weights=matrices)
    out = -1 - one.add("GATHER", WIDTH, (z,), 1)
    assert out >= 0
    assert one.lib.llama_program_finish(one.handle, out, -1) == 0
    return one


@pytest.fixture
def building() -> Built:
    return Built()


@pytest.fixture
def built() -> Built:
    return whole(Built())


def step(one: Built, **changed: Any) -> tuple[int, np.ndarray]:
    """Two rows of one sequence, with parts of the batch changed."""
    ffi = one.ffi
    given: dict[str, Any] = {
        "tokens": [1, 2], "positions": [0, 1], "starts": [0, 2], "blocks": [0],
        "block_starts": [0, 1], "want": [1, 1], "adapters": [-1], **changed,
    }  # fmt: skip
    batch = ffi.new("llama_batch *")
    batch.num_tokens = changed.get("num_tokens", len(given["tokens"] or ()))
    batch.num_sequences = changed.get("num_sequences", 1)
    batch.num_block_ids = changed.get("num_block_ids", len(given["blocks"] or ()))
    kept = []
    for name in ("tokens", "positions", "starts", "blocks", "block_starts", "want", "adapters"):
        kind = "uint8_t[]" if name == "want" else "int32_t[]"
        if given[name] is not None:
            kept.append(ffi.new(kind, given[name]))
            setattr(batch, name, kept[-1])
    logits = np.full((2, VOCAB), -7, np.float32)
    results = ffi.new("llama_results *")
    if changed.get("room", True):
        results.logits = ffi.from_buffer("float[]", logits)
    return one.lib.llama_program_step(one.handle, batch, results), logits


MOST, LEAST = 2**31 - 1, -(2**31)
FAR = (MOST, LEAST)
REFUSED = [
    *(("TOKEN", {"tokens": [1, bad]}, f"row 1 has token {bad}") for bad in (VOCAB, -2, *FAR)),
    ("TOKEN", {"tokens": [-1, 1]}, "row 0 has token -1"),
    *(("POSITION", {"positions": [0, bad]}, f"position {bad}") for bad in (-1, CONTEXT, *FAR)),
    ("POSITION", {"positions": [1, 0]}, "position 0 after position 1"),
    ("POSITION", {"positions": [0, 2]}, "position 2 after position 0"),
    ("BLOCK", {"positions": [4, 5]}, "position 5 needs 2"),
    *(("BLOCK", {"blocks": [bad]}, f"names block {bad}") for bad in (-1, BLOCKS, MOST, LEAST)),
    ("BLOCK", {"block_starts": [-1, 1]}, "do not lie within"),
    ("BLOCK", {"block_starts": [0, 2]}, "do not lie within"),
    ("BLOCK", {"block_starts": [1, 0]}, "ends before it starts"),
    *(("ARGUMENT", {"adapters": [bad]}, f"adapter slot {bad} of 2") for bad in (2, -2, *FAR)),
    ("ARGUMENT", {"want": [1, 4]}, "row 1 wants 4"),
    ("ARGUMENT", {"want": [1, 2]}, "wants a hidden state, and there is none"),
    ("ARGUMENT", {"want": [1, 3]}, "wants a token, and there is no chain"),
    ("ARGUMENT", {"room": False}, "wants logits, and there are none"),
    ("ARGUMENT", {"starts": [1, 2]}, "start at 1"),
    ("ARGUMENT", {"starts": [0, 1]}, "end at row 1 of 2"),
    ("ARGUMENT", {"starts": [0, 3]}, "start at 3"),
    ("ARGUMENT", {"num_tokens": -1}, "negative length"),
    ("ARGUMENT", {"num_sequences": -1}, "negative length"),
    ("ARGUMENT", {"num_block_ids": -1}, "negative length"),
    ("LIMIT", {"num_tokens": 9}, "takes 8"),
    ("LIMIT", {"num_sequences": 3}, "of 2"),
    *(("ARGUMENT", {name: None, "num_tokens": 2, "num_block_ids": 1}, "without one of its arrays")
      for name in ("tokens", "positions", "starts", "blocks", "block_starts", "want")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "changed", "words"), REFUSED)
def test_a_batch_that_names_what_is_not_there(built, status, changed, words) -> None:
    """It is refused with its reason before it runs, and the program is none the worse."""
    first = step(built)
    assert first[0] == 0
    found, logits = step(built, **changed)
    assert found == getattr(built.lib, f"LLAMA_{status}")
    assert words in built.message()
    assert (logits == -7).all()
    assert np.array_equal(step(built)[1], first[1])


def test_a_program_without_adapters_has_no_slot(building) -> None:
    table = building.dense(np.eye(VOCAB))
    x = -1 - building.add("EMBED", WIDTH, (), weights=[table])
    out = -1 - building.add("GATHER", WIDTH, (x,), 1)
    assert building.lib.llama_program_finish(building.handle, out, -1) == 0
    assert step(building)[0] == 0
    assert step(building, adapters=[0])[0] == building.lib.LLAMA_ARGUMENT
    assert "slot 0 of 0" in building.message()


def test_nothing_at_all_is_a_step(built) -> None:
    """Zero rows, and sequences without rows: nothing is written, nothing is refused."""
    assert (
        step(
            built, tokens=[], positions=[], starts=[0], num_sequences=0, want=[], block_starts=[0]
        )[0]
        == 0
    )
    found, logits = step(built, tokens=[], positions=[], starts=[0, 0], want=[])
    assert (found, (logits == -7).all()) == (0, True)


@pytest.mark.parametrize(
    "triple", [(1, 0, 1), (-1, 0, 1), (0, BLOCKS, 1), (0, -1, 1), (0, 0, BLOCKS), (0, 0, LEAST)]
)
def test_blocks_that_are_not_there_are_not_copied(built, triple) -> None:
    triples = built.ffi.new("int32_t[]", [0, 0, 1, *triple])
    assert built.lib.llama_program_copy(built.handle, triples, 2) == built.lib.LLAMA_BLOCK
    assert "cannot copy block" in built.message()
    assert built.lib.llama_program_copy(built.handle, triples, -1) == built.lib.LLAMA_ARGUMENT


def rows(count: int) -> np.ndarray:
    return np.ones((count, 8), np.float32)


def half(kind: str, bits: int) -> Callable[[Built], Any]:
    data = np.ones((3, 8), np.uint16)
    data[2, 3] = bits
    return lambda one: one.source(kind, 3, 8, data=data)


def codes(kind: str = "AFFINE", **spoiled: Any) -> Callable[[Built], Any]:
    fields = {"bits": 4, "group": 8, "data": np.zeros((3, 8), np.uint8),
              "scales": np.ones((3, 1), np.float32), **spoiled}  # fmt: skip
    return lambda one: one.source(kind, 3, 8, **fields)


def spoiled(shape: tuple[int, ...], value: float) -> np.ndarray:
    array = np.ones(shape, np.float32)
    array.reshape(-1)[-1] = value
    return array


NO_SCALE = spoiled((3, 1), NAN)
NOT_NUMBERS = {
    "f32": lambda one: one.source("F32", 3, 8, data=spoiled((3, 8), NAN)),
    "f16": half("F16", 0x7E00),
    "f16 signalling": half("F16", 0xFC01),
    "bf16": half("BF16", 0x7FC0),
    "bf16 negative": half("BF16", 0xFF81),
    **{f"scales of {bits} bits": codes(bits=bits, scales=NO_SCALE) for bits in range(1, 9)},
    "minimums": codes(minimums=NO_SCALE),
    "scales of a table": codes("TABLE", table=np.zeros(16, np.float32), scales=NO_SCALE),
    "a table": codes("TABLE", table=spoiled((16,), NAN)),
}  # fmt: skip


@pytest.mark.parametrize("where", NOT_NUMBERS)
def test_a_weight_that_is_not_a_number_is_reported(building, where) -> None:
    """In every way of holding one."""
    status, _ = building.weight(NOT_NUMBERS[where](building))
    assert status == building.lib.LLAMA_NAN
    assert "NaN" in building.message()


def test_what_is_infinite_is_a_number(building) -> None:
    for make in (half("F16", 0x7C00), half("BF16", 0xFF80), codes(scales=spoiled((3, 1), np.inf))):
        assert building.weight(make(building))[0] == 0


@pytest.mark.parametrize("kind", ["RMS_NORM", "LAYER_NORM", "LINEAR", "bias"])
def test_a_vector_that_is_not_a_number_is_reported(building, kind) -> None:
    table = building.dense(np.eye(8))
    x = -1 - building.add("EMBED", WIDTH, (), weights=[table])
    bad, good = building.floats(spoiled((8,), NAN)), building.floats(np.ones(8))
    fields: dict[str, Any] = {"vector": bad, "vector_size": 8, "eps": 1e-5}
    if kind == "bias":
        kind, fields = "LAYER_NORM", {**fields, "vector": good, "bias": bad}
    if kind == "LINEAR":
        fields = {"vector": bad, "weights": [table]}
    assert building.add(kind, WIDTH, (x,), **fields) == building.lib.LLAMA_NAN
    assert "NaN" in building.message()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("MUL", {"by": NAN}), ("RMS_NORM", {"offset": NAN}), ("SOFTCAP", {"by": NAN})],
)
def test_an_operation_by_what_is_not_a_number_is_refused(building, kind, fields) -> None:
    x = -1 - building.add("EMBED", WIDTH, (), weights=[building.dense(np.eye(8))])
    one = {"vector": building.floats(np.ones(8)), "vector_size": 8, "eps": 1e-5, **fields}
    assert building.add(kind, WIDTH, (x,), **one) == building.lib.LLAMA_ARGUMENT
    assert building.add(kind, WIDTH, (x,), **{**one, **dict.fromkeys(fields, 1)}) < 0


def test_angles_that_are_not_numbers_are_reported(building) -> None:
    good, bad = building.floats(np.zeros(4)), building.floats(spoiled((4,), NAN))
    lib, handle = building.lib, building.handle
    for pair in ((bad, good), (good, bad)):
        assert lib.llama_program_rope(handle, 0, 2, 2, *pair) == lib.LLAMA_NAN
        assert "rope table 0" in building.message()
    assert lib.llama_program_rope(handle, 0, 2, 2, good, good) == 0


def test_an_adapter_that_is_not_a_number_leaves_the_one_before(built) -> None:
    first = step(built, adapters=[0])[1]
    bad = built.floats(spoiled((3, 8), NAN))
    assert built.lib.llama_program_rewrite(built.handle, 1, bad) == built.lib.LLAMA_NAN
    assert np.array_equal(step(built, adapters=[0])[1], first)
    assert built.lib.llama_program_rewrite(built.handle, 5, bad) == built.lib.LLAMA_ARGUMENT


SENSELESS = {
    "codes above their bits": codes(bits=3, data=np.full((3, 8), 8, np.uint8)),
    "no bits": codes(bits=0),
    "nine bits": codes(bits=9),
    "a group of 4": codes(group=4),
    "no group": codes(group=0),
    "a zero below 0": codes(zero=-1),
    "a zero above 255": codes(zero=256),
    "a zero of one bit in 8 columns": codes(bits=1, zero=1),
    "no scales": codes(scales=native.library()[0].NULL),
    "no table": codes("TABLE"),
    "no rows": lambda one: one.source("F32", 0, 8, data=rows(1)),
    "no columns": lambda one: one.source("F32", 1, 0, data=rows(1)),
    "columns beyond counting": lambda one: one.source("F32", 1, MOST, data=rows(1)),
    "no data": lambda one: one.source("F32", 3, 8),
}  # fmt: skip


@pytest.mark.parametrize("what", SENSELESS)
def test_a_matrix_that_makes_no_sense_is_refused(building, what) -> None:
    assert building.weight(SENSELESS[what](building))[0] == building.lib.LLAMA_ARGUMENT
    assert building.message()


def test_a_cap_of_scores_that_is_not_a_number_is_refused(building) -> None:
    assert building.lib.llama_program_group(building.handle, 1, 1, 4) == 0
    x = -1 - building.add("EMBED", WIDTH, (), weights=[building.dense(np.eye(8))])
    k = -1 - building.add("SLICE", 4, (x,))
    fields = {**ATTENTION, "softcap": NAN}
    assert building.add("ATTENTION", WIDTH, (x, k, k), **fields) == building.lib.LLAMA_ARGUMENT


@pytest.mark.parametrize("heads", [0, -2, 3, 4, (1 << 30) + 2, MOST])
def test_heads_that_do_not_fit_are_refused(building, heads) -> None:
    """A number so large that its product with the head's width comes out as the right one, too."""
    assert building.lib.llama_program_group(building.handle, 1, 1, 4) == 0
    table = building.dense(np.eye(8))
    x = -1 - building.add("EMBED", WIDTH, (), weights=[table])
    k = -1 - building.add("SLICE", 4, (x,))
    fields = {**ATTENTION, "heads": heads}
    assert building.add("ATTENTION", WIDTH, (x, k, k), **fields) == building.lib.LLAMA_ARGUMENT


def test_slots_of_different_ranks_have_room(building) -> None:
    """The second slot's rank is many times the first one's."""
    dice = np.random.default_rng(1)
    table = building.dense(np.eye(8))
    ranks = (1, 4000)
    pairs = [(dice.standard_normal((r, 8)), dice.standard_normal((8, r)) / r) for r in ranks]
    matrices = [building.dense(matrix) for pair in pairs for matrix in pair]
    x = -1 - building.add("EMBED", WIDTH, (), weights=[table])
    z = -1 - building.add("LORA", WIDTH, (x, x), weights=matrices)
    out = -1 - building.add("GATHER", WIDTH, (z,), 1)
    assert building.lib.llama_program_finish(building.handle, out, -1) == 0
    for slot, (a, b) in enumerate(pairs):
        expected = np.eye(8)[[1, 2]] @ (np.eye(8) + b @ a).T
        assert np.allclose(step(building, adapters=[slot])[1], expected, atol=1e-5)


def test_a_table_of_angles_cannot_come_after_the_end(built) -> None:
    angles = built.floats(np.zeros(4))
    lib, handle = built.lib, built.handle
    assert lib.llama_program_rope(handle, 0, 2, 2, angles, angles) == lib.LLAMA_ARGUMENT
    assert step(built)[0] == 0


def test_limits_that_make_no_sense_are_refused(building) -> None:
    out = building.ffi.new("llama_program **")
    good = [8, 8, 8, 8, 8, 8, 8, 0]
    wrong = [(at, bad) for at in range(7) for bad in (0, -1, LEAST)] + [
        (7, 4),
        (7, -1),
        (3, MOST),
        (4, MOST),
    ]
    for at, bad in wrong:
        limits = building.ffi.new("llama_limits *", [*good[:at], bad, *good[at + 1 :]])
        found = building.lib.llama_program_new(building.pool.handle, limits, out)
        assert found == building.lib.LLAMA_ARGUMENT, (at, bad)


def test_more_than_there_can_be_is_not_enough_memory() -> None:
    """Sizes whose product overflows are no small allocation."""
    one = Built()
    one.handle = one.new(VOCAB, WIDTH, CONTEXT, 8, 2, MOST, MOST, 0)
    assert one.lib.llama_program_group(one.handle, 1, MOST // 1024, 1024) == 0
    table = one.dense(np.eye(8))
    x = -1 - one.add("EMBED", WIDTH, (), weights=[table])
    out = -1 - one.add("GATHER", WIDTH, (x,), 1)
    assert one.lib.llama_program_finish(one.handle, out, -1) == one.lib.LLAMA_MEMORY
    assert one.lib.llama_program_finish(one.handle, out, -1) == one.lib.LLAMA_MEMORY
    assert step(one)[0] == one.lib.LLAMA_ARGUMENT
