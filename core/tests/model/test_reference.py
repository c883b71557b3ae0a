"""The reference program: the same bits in any company, and nothing run that does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import DeviceSampling, Plan, Want
from llama_core.errors import ConfigError, LlamaError
from llama_core.model.architectures import ARCHITECTURES
from llama_core.model.batch import BatchError
from llama_core.model.graph import GraphError
from llama_core.model.paged import rounded
from llama_core.model.weights import DenseWeights

from .small import Driver, logits, model, prompt

LENGTH = 70


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_bits_alone_in_company_and_in_chunks(architecture: str) -> None:
    graph, weights = model(architecture)
    tokens = prompt(LENGTH)
    alone = logits(graph, weights, tokens)
    for chunk in (1, 7, 64):
        assert np.array_equal(logits(graph, weights, tokens, chunk), alone)
    driver = Driver(graph, weights)
    others = [(n, prompt(3 + 5 * n, seed=n), 0) for n in range(1, 8)]
    first = driver.step([*others[:4], (0, tokens[:50], 0), *others[4:]])[4]
    later = [(n, prompt(1 + n % 3, seed=9), 3 + 5 * n) for n in range(1, 8)]
    second = driver.step([(0, tokens[50:], 50), *later])[0]
    assert np.array_equal(np.concatenate([first, second]), alone)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from(["gemma2", "qwen3_moe", "phi3"]))
def test_any_history_gives_the_same_bits(seed: int, block_size: int, architecture: str) -> None:
    """Sequences grow by any amounts in any order; each ends as if it had been alone."""
    graph, weights = model(architecture)
    dice = np.random.default_rng(seed)
    driver = Driver(graph, weights, block_size=block_size)
    wanted = {n: prompt(int(dice.integers(1, 26)), seed=n) for n in range(3)}
    done: dict[int, list[Any]] = {n: [] for n in wanted}
    at = dict.fromkeys(wanted, 0)
    while any(at[n] < len(wanted[n]) for n in wanted):
        parts = []
        for n in dice.permutation(3).tolist():
            if tokens := wanted[n][at[n] : at[n] + int(dice.integers(0, 7))]:
                parts.append((n, tokens, at[n]))
                at[n] += len(tokens)
        if parts:
            for (n, _, _), rows in zip(parts, driver.step(parts), strict=True):
                done[n].append(rows)
    for n, tokens in wanted.items():
        alone = logits(graph, weights, tokens, block_size=block_size)
        assert np.array_equal(np.concatenate(done[n]), alone)


def test_a_window_reads_no_further_than_it_says() -> None:
    graph, weights = model("mistral", num_hidden_layers=1, sliding_window=5)
    one, two = prompt(12, seed=1), prompt(12, seed=2)
    two[-5:] = one[-5:]
    assert np.array_equal(logits(graph, weights, one)[-1], logits(graph, weights, two)[-1])
    two[-5] = (one[-5] + 1) % 61
    assert not np.array_equal(logits(graph, weights, one)[-1], logits(graph, weights, two)[-1])


def test_blocks_behind_the_window_may_be_gone() -> None:
    graph, weights = model("mistral", sliding_window=5)
    tokens = prompt(14)
    expected = logits(graph, weights, tokens)
    driver = Driver(graph, weights)
    driver.step([(0, tokens[:13], 0)])
    driver.tables[0][:2] = [-1, -1]  # positions 0..7; the next row sees 9..13
    (last,) = driver.step([(0, tokens[13:], 13)])
    assert np.array_equal(last[0], expected[13])
    driver.tables[0][2] = -1
    with pytest.raises(BatchError, match="block -1"):
        driver.step([(0, tokens[13:], 13)])


def test_copied_blocks_hold_the_same_and_are_separate() -> None:
    graph, weights = model("gemma2")
    tokens = prompt(8)
    driver = Driver(graph, weights)
    driver.step([(0, tokens[:6], 0)])
    driver.tables[1] = [driver.tables[0][0], driver.free.pop()]
    source, target = driver.tables[0][1], driver.tables[1][1]
    driver.program.copy_blocks([(g, source, target) for g in range(2)])
    other = prompt(2, seed=3)
    driver.step([(1, other, 6)])
    (mine,) = driver.step([(0, tokens[6:], 6)])
    assert np.array_equal(mine, logits(graph, weights, tokens)[6:])
    with pytest.raises(BatchError):
        driver.program.copy_blocks([(0, 0, 10**6)])


def test_rows_give_what_they_want_in_their_order() -> None:
    graph, weights = model("llama")
    tokens = prompt(6)
    driver = Driver(graph, weights)
    all_logits = logits(graph, weights, tokens)
    batch = driver.batch([(0, tokens, 0)])
    want = np.array([Want.TOKEN, 0, Want.HIDDEN, Want.LOGITS, Want.TOKEN, Want.LOGITS], np.uint8)
    out = driver.program.submit(replace(batch, want_T=want)).result()
    assert np.array_equal(out.logits_RV, all_logits[[3, 5]])
    assert out.tokens_R.tolist() == all_logits[[0, 4]].argmax(1).tolist()
    assert out.hidden_RD.shape == (1, 24)
    head = weights["lm_head.weight"].decode()
    assert np.allclose(out.hidden_RD @ head.T, all_logits[[2]], atol=1e-4)
    nothing = driver.program.submit(replace(batch, want_T=np.zeros(6, np.uint8))).result()
    assert nothing.logits_RV is None
    assert nothing.tokens_R is None


def test_a_step_continues_what_the_last_one_sampled() -> None:
    graph, weights = model("llama")
    tokens, seen = prompt(5), []
    driver = Driver(graph, weights)
    batch = driver.batch([(0, tokens, 0)], want=Want.TOKEN)
    seen.append(int(driver.program.submit(batch).result().tokens_R[-1]))
    for position in range(5, 9):
        row = np.array([4 if position == 5 else 0], np.int32)
        batch = driver.batch([(0, [-7], position)], want=Want.TOKEN, previous_T=row)
        seen.append(int(driver.program.submit(batch).result().tokens_R[0]))
    plain = list(tokens)
    for token in seen:
        assert int(logits(graph, weights, plain)[-1].argmax()) == token
        plain.append(token)
    with pytest.raises(BatchError, match="sampled no token"):
        driver.program.submit(driver.batch([(0, [0], 9)], previous_T=np.array([3], np.int32)))


def test_vectors_in_place_of_tokens() -> None:
    graph, weights = model("llama")
    tokens = prompt(6)
    table = weights["embed.weight"].decode()
    vectors = np.zeros((6, 24), np.float32)
    vectors[2], vectors[3] = table[tokens[2]], table[tokens[3]]
    masked = [-1 if i in (2, 3) else token for i, token in enumerate(tokens)]
    (found,) = Driver(graph, weights).step([(0, masked, 0)], embeddings_TD=vectors)
    assert np.array_equal(found, logits(graph, weights, tokens))


def test_a_chain_it_cannot_run_is_refused() -> None:
    graph, weights = model("llama")
    driver = Driver(graph, weights)
    chain = DeviceSampling((("temperature", 0.5), ("multinomial", 0.0)))
    batch = driver.batch([(0, [1], 0)], want=Want.TOKEN, sampling_S=(chain,))
    with pytest.raises(BatchError, match="temperature, multinomial"):
        driver.program.submit(batch)
    greedy = replace(batch, sampling_S=(DeviceSampling((("greedy", 0.0),)),))
    assert driver.program.submit(greedy).result().tokens_R.shape == (1,)


def test_everything_that_does_not_fit_is_listed() -> None:
    graph, weights = model("llama")
    driver = Driver(graph, weights, max_tokens=8, max_sequences=3, adapter_slots=1)
    good = driver.batch([(0, [1, 2], 0), (1, [3], 0)])

    def refused(**changes: Any) -> str:
        with pytest.raises(BatchError) as caught:
            driver.program.submit(replace(good, **changes))
        return str(caught.value)

    def ints(*numbers: int) -> Any:
        return np.array(numbers, np.int32)

    text = refused(tokens_T=ints(1, 61, -2), positions_T=ints(0, 2, -4))
    assert "row 1: token 61 is not within 0..60" in text
    assert "row 2: token -2" in text
    assert "sequence 0: positions" in text
    assert "sequence 1: positions" in text
    assert "table of 4" in refused(positions_T=ints(0, 1, 4))
    assert "block 99999" in refused(blocks_G=(((99999,), (1,)),))
    assert "block -1" in refused(blocks_G=(((0,), (-1,)),))
    assert "block tables for 0 of 1" in refused(blocks_G=())
    assert "1 block tables of group 0" in refused(blocks_G=(((0,),),))
    assert "do not divide 3 rows" in refused(starts_S1=ints(0, 2, 4))
    assert "do not divide 3 rows" in refused(starts_S1=ints())
    assert "2 positions for 3 rows" in refused(positions_T=ints(0, 1))
    assert "wants 9" in refused(want_T=np.array([1, 9, 1], np.uint8))
    assert "adapter slot 1 of 1" in refused(adapters_S=ints(0, 1))
    assert "embeddings of" in refused(embeddings_TD=np.zeros((3, 9), np.float32))
    with pytest.raises(BatchError, match="9 rows, and the plan allows 8"):
        driver.step([(0, [1] * 9, 0)])
    with pytest.raises(BatchError, match="4 sequences, and the plan allows 3"):
        driver.step([(n, [1], 0) for n in range(4)])


def test_an_empty_step_and_empty_sequences_are_fine() -> None:
    graph, weights = model("mixtral")
    driver = Driver(graph, weights)
    assert driver.program.submit(driver.batch([])).result().logits_RV is None
    tokens = prompt(4)
    first, empty = driver.step([(0, tokens, 0), (1, [], 0)])
    assert len(empty) == 0
    assert np.array_equal(first, logits(graph, weights, tokens))


def test_what_is_missing_or_misshapen_is_listed_at_once() -> None:
    graph, weights = model("llama")
    arrays = {name: one.decode() for name, one in weights.items()}
    del arrays["norm.weight"]
    arrays["lm_head.weight"] = arrays["lm_head.weight"][:-1]
    with pytest.raises(GraphError) as caught:
        Reference().compile(graph, DenseWeights(arrays), Plan())
    assert len(caught.value.problems) == 2
    assert "lm_head.weight is [60, 24] and must be [61, 24]" in str(caught.value)


def test_logits_that_are_no_numbers_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    graph, weights = model("llama")
    arrays = {name: np.array(one.decode()) for name, one in weights.items()}
    arrays["embed.weight"][7] = np.nan
    driver = Driver(graph, DenseWeights(arrays))
    with np.errstate(all="ignore"):
        good, bad = driver.step([(0, [1, 2], 0), (1, [3, 7], 0)])
    assert np.isfinite(good).all()
    assert np.isnan(bad[1]).all()
    assert "logits of sequences 1 hold NaN" in caplog.text


def test_a_closed_program_says_so() -> None:
    graph, weights = model("llama")
    driver = Driver(graph, weights)
    driver.program.close()
    driver.program.close()
    with pytest.raises(LlamaError, match="closed"):
        driver.step([(0, [1], 0)])


@pytest.mark.parametrize(("kv_dtype", "bound"), [("f16", 0.05), ("bf16", 0.5), ("q8", 0.7)])
def test_narrow_memory_is_near_and_still_the_same_bits(kv_dtype: str, bound: float) -> None:
    graph, weights = model("qwen3")
    tokens = prompt(30)
    exact = logits(graph, weights, tokens)
    narrow = logits(graph, weights, tokens, kv_dtype=kv_dtype)
    assert 0 < np.abs(narrow - exact).max() < bound
    for chunk in (1, 7):
        assert np.array_equal(logits(graph, weights, tokens, chunk, kv_dtype=kv_dtype), narrow)


def test_bf16_rounds_to_even() -> None:
    ties = np.array([[[0x3F808000, 0x3F818000, 0x3F80FFFF]]], np.uint32).view(np.float32)
    bits = rounded(ties, "bf16").view(np.uint32).ravel()
    assert [hex(b) for b in bits] == ["0x3f800000", "0x3f820000", "0x3f810000"]


def test_memory_that_cannot_be_is_refused() -> None:
    graph, weights = model("llama")
    with pytest.raises(ConfigError, match="kv_bytes"):
        Reference().compile(graph, weights, Plan(kv_bytes=100))
    with pytest.raises(ConfigError, match="int3"):
        Reference().compile(graph, weights, Plan(kv_dtype="int3"))
    with pytest.raises(LlamaError, match="f16"):
        Reference("f16")
