"""Perplexity and divergence: distributions made by hand, and the reference's logits in plain NumPy.

Legend as in `engine.evaluate`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output, Want
from llama_core.discovery import discover
from llama_core.engine import evaluate as evaluation
from llama_core.engine.evaluate import Estimate, EvaluationError, Text, check_alike, cut, evaluate
from llama_core.engine.load import Loaded, load

from .tinymodel import tiny_model

PROSE = "It was the best of times, it was the worst of times. " * 12


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer begins every text."""
    made = tiny_model(tmp_path_factory.mktemp("model") / "begun")
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    return made


# ---------------------------------------------------------------- by hand


@dataclass
class Said:
    """A program that says the same to every row, whatever came before."""

    logits_V: Any
    invariance: str = "bitwise"
    kv: KVLayout = field(default_factory=lambda: KVLayout((KVGroup((0,), None, 1),), 16, 100))
    asked: list[int] = field(default_factory=list)  # rows of each step

    @property
    def vocab_size(self) -> int:
        return len(self.logits_V)

    def submit(self, batch: Batch) -> Any:
        self.asked.append(len(batch.tokens_T))
        wanted = int((batch.want_T == Want.LOGITS).sum())
        output = Output(np.tile(np.asarray(self.logits_V, np.float32), (wanted, 1)))
        return SimpleNamespace(result=lambda: output)


def saying(*logits: float, max_tokens: int = 512) -> Any:
    """As much of a loaded model as is looked at."""
    return SimpleNamespace(
        name="said",
        graph=None,
        program=Said(logits),
        choice=SimpleNamespace(name="none"),
        plan=SimpleNamespace(max_tokens=max_tokens),
        engine=SimpleNamespace(engine=SimpleNamespace(limits=SimpleNamespace(max_length=64))),
    )


def windows(*rows: list[int]) -> Text:
    return Text(np.array(rows, np.int32), False, 0)


def test_uniform_logits_are_as_perplexed_as_the_vocabulary_is_large() -> None:
    own, base, strayed = evaluate(windows([0, 1, 2, 3], [4, 0, 1, 2]), saying(*[0.25] * 5))
    assert own.perplexity == pytest.approx(5, rel=1e-12)
    assert own.nll.error == 0
    assert own.nll_WP.shape == (2, 3)
    assert base is strayed is None


def test_the_first_token_of_a_window_is_not_scored() -> None:
    own, _, _ = evaluate(windows([1, 0, 0]), saying(0.0, -100.0))
    assert own.perplexity == pytest.approx(1)
    own, _, _ = evaluate(windows([0, 1, 0]), saying(0.0, -100.0))
    assert own.nll.mean == pytest.approx(50)


def test_divergence_is_of_the_base_from_the_model_in_nats() -> None:
    base_V, model_V = np.array([0.5, 0.25, 0.25]), np.array([0.8, 0.1, 0.1])
    own, base, strayed = evaluate(
        windows([0, 1, 2, 0]), saying(*np.log(model_V)), saying(*np.log(base_V))
    )
    assert base is not None
    assert strayed is not None
    wanted = float((base_V * np.log(base_V / model_V)).sum())
    assert strayed.kld.mean == pytest.approx(wanted, rel=1e-6)
    assert set(strayed.percentiles()) == {"50", "90", "95", "99", "99.9"}
    assert strayed.percentiles()["50"] == pytest.approx(wanted, rel=1e-6)
    assert strayed.same_top.mean == 1
    # Tokens 1, 2 and 0: ln 0.25 is 0.916 more than ln 0.1, ln 0.5 is 0.47 less than ln 0.8.
    differences = [math.log(2.5), math.log(2.5), math.log(0.5 / 0.8)]
    assert strayed.nll_difference.mean == pytest.approx(sum(differences) / 3, rel=1e-6)
    assert strayed.nll_difference.error == pytest.approx(np.std(differences, ddof=1) / 3**0.5)
    assert strayed.perplexity_ratio == pytest.approx(own.perplexity / base.perplexity)


def test_a_token_ruled_out_is_infinitely_far_and_one_ruled_out_by_both_is_not() -> None:
    never = -math.inf
    _, _, strayed = evaluate(windows([0, 0]), saying(0.0, never, 0.0), saying(0.0, 0.0, 0.0))
    assert strayed is not None
    assert strayed.kld.mean == math.inf
    _, _, strayed = evaluate(windows([0, 0]), saying(0.0, never, 0.0), saying(0.0, never, 0.0))
    assert strayed is not None
    assert strayed.kld.mean == 0


def test_logits_that_are_no_numbers_are_an_error_that_says_where() -> None:
    with pytest.raises(EvaluationError, match="after token 0 of window 0 hold NaN"):
        evaluate(windows([0, 1]), saying(0.0, math.nan))


def test_no_step_gives_more_logits_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = saying(*[0.0] * 10, max_tokens=8)
    evaluate(windows(list(range(10)) * 2), model)
    assert model.program.asked == [8, 8, 3]
    monkeypatch.setattr(evaluation, "MOST_LOGITS", 40)
    model = saying(*[0.0] * 10, max_tokens=8)
    evaluate(windows(list(range(10))), model)
    assert model.program.asked == [4, 4, 1]


def test_two_models_go_in_step_whatever_each_could_take_at_once() -> None:
    model, base = saying(*[0.0] * 10, max_tokens=4), saying(*[1.0] * 10, max_tokens=9)
    _, _, strayed = evaluate(windows(list(range(10))), model, base)
    assert model.program.asked == base.program.asked == [4, 4, 1]
    assert strayed is not None
    assert strayed.kld.mean == 0


def test_a_window_longer_than_the_memory_is_refused() -> None:
    with pytest.raises(EvaluationError, match="a window has 65 tokens, and said on none holds 64"):
        evaluate(windows([0] * 65), saying(0.0, 0.0))


def test_a_model_that_looks_both_ways_predicts_nothing() -> None:
    model = saying(0.0, 0.0)
    model.program.whole = True
    with pytest.raises(EvaluationError, match="predicts no next token"):
        evaluate(windows([0, 1]), model)


def test_errors_are_those_of_a_mean() -> None:
    x_WP = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    found = Estimate.of(x_WP)
    assert found.mean == 4
    assert found.error == pytest.approx(np.std(x_WP, ddof=1) / 6**0.5)
    assert found.error_by_window == pytest.approx(np.std([2, 6], ddof=1) / 2**0.5)
    assert Estimate.of(x_WP[:1]).error_by_window is None


# ---------------------------------------------------------------- texts


def opened(folder: Path, plugins: Plugins, **more: Any) -> Loaded:
    return load(folder, plugins=plugins, backend="reference", **more)


def test_windows_do_not_overlap_and_the_rest_is_counted(folder: Path, plugins: Plugins) -> None:
    with opened(folder, plugins) as loaded:
        text = cut(loaded.tokenizer, "abcdefghij", 4, 258)
        ids = loaded.tokenizer.encode("abcdefghij")
    assert text.windows_WN.tolist() == [ids[:4], ids[4:8]]
    assert (text.left_out, text.begins) == (2, False)


def test_each_window_begins_as_the_tokenizer_begins_a_text(begun: Path, plugins: Plugins) -> None:
    with opened(begun, plugins) as loaded:
        text = cut(loaded.tokenizer, "abcdefgh", 4, 258)
        ids = loaded.tokenizer.encode("abcdefgh", add_special=False)
    assert text.begins
    assert text.windows_WN.tolist() == [[256, *ids[:3]], [256, *ids[3:6]]]
    assert text.left_out == 2


def test_the_name_of_a_special_token_is_text(folder: Path, plugins: Plugins) -> None:
    with opened(folder, plugins) as loaded:
        text = cut(loaded.tokenizer, "</s>", 4, 258)
    assert 257 not in text.windows_WN


@pytest.mark.parametrize(
    ("words", "window", "vocabulary", "complaint"),
    [
        ("", 4, 258, "the text is empty"),
        (" \n", 4, 258, "the text is empty"),
        ("abc", 4, 258, "has 3 tokens, and a window holds 4.*--window 3"),
        ("abc", 1, 258, "at least 2 tokens, not 1"),
        ("abcz", 2, 80, "token 89, and the model's vocabulary ends at 79"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    folder: Path, plugins: Plugins, words: str, window: int, vocabulary: int, complaint: str
) -> None:
    with opened(folder, plugins) as loaded, pytest.raises(EvaluationError, match=complaint):
        cut(loaded.tokenizer, words, window, vocabulary)


# ---------------------------------------------------------------- on the reference


def plain_logits(loaded: Loaded, tokens: list[int]) -> Any:
    """Of all tokens in one step, asked for without any of what is under test."""
    blocks = tuple(range(-(-len(tokens) // loaded.program.kv.block_size)))
    batch = Batch(
        np.array(tokens, np.int32),
        np.arange(len(tokens), dtype=np.int32),
        np.array([0, len(tokens)], np.int32),
        ((blocks,),) * len(loaded.program.kv.groups),
        np.full(len(tokens), Want.LOGITS, np.uint8),
    )
    return loaded.program.submit(batch).result().logits_RV


def plain_log_probabilities(loaded: Loaded, tokens: list[int]) -> Any:
    logits = np.asarray(plain_logits(loaded, tokens), np.float64)[:-1]
    weights = np.exp(logits)
    return np.log(weights / weights.sum(1, keepdims=True))


def test_the_numbers_are_those_of_plain_numpy(begun: Path, folder: Path, plugins: Plugins) -> None:
    change = [("act", {"act": "q8:16"})]
    with opened(begun, plugins, rewrite=change) as model, opened(folder, plugins) as other:
        text = cut(model.tokenizer, PROSE, 48, 258)
        own, base, strayed = evaluate(text, model, other)
        assert base is not None
        assert strayed is not None
        assert own.rewrites == ("act(q8:16)",)
        surprise, divergence, same = [], [], []
        for window in text.windows_WN.tolist():
            here, there = (plain_log_probabilities(each, window) for each in (model, other))
            surprise += [[-row[t] for row, t in zip(here, window[1:], strict=True)]]
            divergence += [(np.exp(there) * (there - here)).sum(1)]
            same += [here.argmax(1) == there.argmax(1)]
    assert np.allclose(own.nll_WP, surprise, rtol=1e-12, atol=1e-12)
    assert np.allclose(strayed.kld_WP, divergence, rtol=1e-9, atol=1e-12)
    assert (strayed.same_WP == np.array(same)).all()
    assert own.perplexity == pytest.approx(math.exp(np.mean(surprise)), rel=1e-12)
    assert strayed.kld.mean > 1e-6


def test_a_model_does_not_stray_from_itself(folder: Path, plugins: Plugins) -> None:
    with opened(folder, plugins) as model, opened(folder, plugins) as again:
        text = cut(model.tokenizer, PROSE, 64, 258)
        check_alike(model, again, PROSE)
        own, base, strayed = evaluate(text, model, again)
    assert base is not None
    assert strayed is not None
    assert own.perplexity == base.perplexity
    assert (strayed.kld_WP == 0).all()
    assert (strayed.more_WP == 0).all()
    assert strayed.same_top.mean == 1
    assert strayed.perplexity_ratio == 1


def test_how_a_window_is_chunked_changes_no_bit(folder: Path, plugins: Plugins) -> None:
    with opened(folder, plugins) as model:
        text = cut(model.tokenizer, PROSE, 96, 258)
        whole, _, _ = evaluate(text, model)
        limit = evaluation.MOST_LOGITS
        try:
            evaluation.MOST_LOGITS = 7 * 258
            pieces, _, _ = evaluate(text, model)
        finally:
            evaluation.MOST_LOGITS = limit
    assert (whole.nll_WP == pieces.nll_WP).all()


def test_every_window_is_told_of(folder: Path, plugins: Plugins) -> None:
    told: list[None] = []
    with opened(folder, plugins) as model:
        text = cut(model.tokenizer, PROSE, 64, 258)
        evaluate(text, model, progress=lambda: told.append(None))
    assert len(told) == len(text.windows_WN) == 9


def test_models_that_do_not_share_their_tokens_are_not_compared(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    other = tiny_model(tmp_path / "other")
    file = other / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(tokenizer))
    with opened(folder, plugins) as model, opened(other, plugins) as base:
        with pytest.raises(EvaluationError, match="token 64 is 'a' to tiny and 'b' to other"):
            check_alike(model, base, "zzz")
        base.program.vocab_size = 300
        with pytest.raises(EvaluationError, match="tiny has 258 tokens, other 300"):
            check_alike(model, base, "zzz")


def test_tokenizers_that_cut_otherwise_are_not_compared(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    other = tiny_model(tmp_path / "other")
    file = other / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    file.write_text(json.dumps(tokenizer))
    with (
        opened(folder, plugins) as model,
        opened(other, plugins) as base,
        pytest.raises(EvaluationError, match="differently, from its token 0 on"),
    ):
        check_alike(model, base, "abc")
