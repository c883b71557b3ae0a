"""Benchmarks: figures that follow from a clock we hold, fair turns, and `llama bench` itself."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
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
from llama_core.engine import measure as measuring
from llama_core.engine.engine import Engine
from llama_core.engine.measure import Work, answers, measure, rows
from llama_core.engine.request import Limits
from llama_core.engine.subject import Subject, Wanted, open_subject
from llama_core.errors import LlamaError

from .command import llama
from .tinymodel import CONFIG, tiny_model

WORK = Work(prompt_tokens=64, max_tokens=16, batches=(1, 4), repeat=2)


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


# ---------------------------------------------------------------- under our own clock


class Paced:
    """A program that takes so many seconds a row, by a clock that nothing else moves."""

    invariance = "bitwise"
    vocab_size = 50
    kv = KVLayout((KVGroup((0,), None, 1),), 16, 200)

    def __init__(self, clock: SimpleNamespace, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.seen: list[list[int]] = []

    def submit(self, batch: Batch) -> Any:
        self.clock.now += self.seconds * len(batch.tokens_T)
        self.seen.append(batch.tokens_T.tolist())
        wanted = int((batch.want_T == Want.LOGITS).sum())
        output = Output(np.zeros((wanted, self.vocab_size), np.float32))
        return SimpleNamespace(result=lambda: output)

    def copy_blocks(self, pairs: Any) -> None:
        """There is nothing to copy."""

    def close(self) -> None:
        """There is nothing to give back."""


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch, plugins: Plugins) -> dict[str, Paced]:
    """Two backends, the second half as fast as the first; `measure` opens these."""
    clock = SimpleNamespace(now=0.0)
    programs = {"fast": Paced(clock, 0.001), "slow": Paced(clock, 0.002)}

    def opened(_: Plugins, wanted: Wanted) -> Subject:
        program: Any = programs[str(wanted.backend)]
        limits = Limits(max_sequences=wanted.sequences, max_length=wanted.tokens)
        engine = Engine(program, limits, plugins=plugins)
        choice: Any = SimpleNamespace(name=wanted.backend, devices=())
        plan: Any = SimpleNamespace(max_tokens=512)
        return Subject("paced", choice, plan, program, engine, 0.5, engine.close)

    monkeypatch.setattr(measuring, "open_subject", opened)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return programs


def test_figures_follow_from_the_clock(paced: dict[str, Paced], plugins: Plugins) -> None:
    wanted = Wanted("x", 4, 80, "fast")
    sides = measure(plugins, WORK, [wanted, replace(wanted, backend="slow")], lambda _: None)
    found = {row.metric: row for row in rows(WORK, *sides)}
    values = {name: row.value for name, row in found.items() if "memory" not in name}
    # A row takes 1 ms, so a thousand of them a second, however they are cut.
    assert values == pytest.approx(
        {
            "fast.load": 0.5,
            "fast.program.prefill": 1000,
            "fast.program.decode.1": 1000,
            "fast.program.decode.4": 1000,
            "fast.engine.first_token": 64,
            "fast.engine.decode": 1000,
            "fast.engine.answers.1": 16 / 0.079,
            "fast.engine.answers.4": 64 / 0.316,
        }
    )
    for name, row in found.items():
        timed = "load" not in name and "memory" not in name
        assert row.ratio == (pytest.approx(2) if timed else None)
        assert list(row.peers) == ["slow"]
        assert row.note
    assert found["fast.program.prefill"].peers == pytest.approx({"slow": 500})
    assert found["fast.engine.first_token"].peers == pytest.approx({"slow": 128})
    assert found["fast.engine.decode"].spread == pytest.approx((1000, 1000))


def test_a_row_has_the_shape_of_every_benchmark(paced: dict[str, Paced], plugins: Plugins) -> None:
    (side,) = measure(plugins, WORK, [Wanted("x", 4, 80, "fast")], lambda _: None)
    for row in rows(WORK, side):
        assert list(asdict(row)) == [
            "metric",
            "value",
            "unit",
            "spread",
            "goal",
            "holds",
            "peers",
            "ratio",
            "fraction_of_limit",
            "note",
        ]
        assert row.ratio is None
        assert row.peers == {}


def test_both_sides_get_the_same_tokens_in_turns_and_no_round_meets_them_again(
    paced: dict[str, Paced], plugins: Plugins
) -> None:
    turns: list[str] = []
    for name, program in paced.items():
        real = program.submit
        program.submit = lambda batch, name=name, real=real: turns.append(name) or real(batch)  # type: ignore[method-assign,func-returns-value,misc]
    wanted = Wanted("x", 4, 80, "fast")
    told: list[None] = []
    measure(
        plugins,
        WORK,
        [wanted, replace(wanted, backend="slow")],
        lambda _: None,
        lambda: told.append(None),
    )
    fast, slow = (program.seen for program in paced.values())
    assert fast == slow
    prompts = [tuple(step) for step in fast if len(step) == 64]
    assert len(set(prompts)) == len(prompts) == 4 * (WORK.repeat + 1)
    each = len(fast) // (WORK.repeat + 1)
    assert turns == (["fast"] * each + ["slow"] * each) * (WORK.repeat + 1)
    assert len(told) == 2 * (WORK.repeat + 1)


def test_a_prompt_from_the_cache_is_not_timed(folder: Path, plugins: Plugins) -> None:
    subject = open_subject(plugins, Wanted(str(folder), 2, 80, "reference"))
    try:
        prompts = np.random.default_rng(0).integers(0, 258, (2, 64)).astype(np.int32)
        assert answers(subject, prompts, 4) > 0
        with pytest.raises(LlamaError, match="computed from nothing.*from the cache"):
            answers(subject, prompts, 4)
    finally:
        subject.close()


# ---------------------------------------------------------------- subjects


def test_a_config_alone_is_enough_for_speed(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for reference in (tmp_path, tmp_path / "config.json"):
        wanted = Wanted(str(reference), 2, 40, "reference", random=True)
        subject = open_subject(plugins, wanted)
        try:
            assert subject.name == f"{tmp_path.name} (random)"
            assert answers(subject, [np.arange(8, dtype=np.int32)], 4) > 0
        finally:
            subject.close()


@pytest.mark.parametrize("random", [False, True])
def test_activations_are_those_that_a_run_would_have(
    folder: Path, plugins: Plugins, random: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(plugins.create("backend", "reference"))
    monkeypatch.setattr(kind, "prefers_codes", True, raising=False)
    codes = (("reencode", {"encoding": "q8:g32"}),)
    for act, expected in (("auto", "q8:32"), ("none", "none")):
        wanted = Wanted(str(folder), 2, 40, "reference", rewrite=codes, random=random, act=act)
        subject = open_subject(plugins, wanted)
        try:
            assert subject.plan.act.split()[0] == expected
            assert subject.plan.rewrites[0].startswith("reencode")
        finally:
            subject.close()


def test_memory_holds_every_sequence_at_full_length(folder: Path, plugins: Plugins) -> None:
    subject = open_subject(plugins, Wanted(str(folder), 3, 100, "reference"))
    try:
        assert subject.program.kv.num_blocks >= 3 * 7
        assert subject.plan.max_sequences == 3
        prompts = np.random.default_rng(0).integers(0, 258, (3, 90)).astype(np.int32)
        answers(subject, prompts, 10)
        assert subject.engine.scheduler.num_preemptions == 0
    finally:
        subject.close()


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"tokens": 600}, "600 tokens of prompt and answer.*made for 512"),
        ({"random": True, "reference": "nowhere"}, "cannot read a model's config from nowhere"),
        ({"options": {"threads": 1}}, "threads"),
        ({"rewrite": (("reencode", {"encoding": "q8row"}),)}, "no encoding named 'q8row'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    folder: Path, plugins: Plugins, wanted: dict[str, Any], complaint: str
) -> None:
    asked = replace(Wanted(str(folder), 1, 40, "reference"), **wanted)
    with pytest.raises(LlamaError, match=complaint):
        open_subject(plugins, asked)


# ---------------------------------------------------------------- the command

SMALL = ("--prompt-tokens", 24, "--max-tokens", 4, "--repeat", 2, "--batch", "1,3")


def test_bench_in_json_with_a_profile(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = llama("bench", folder, *SMALL, "--against", "reference", "--profile", trace, "--json")
    assert done.code == 0
    facts = done.json
    assert facts["backends"] == ["reference", "reference"]
    assert facts["work"] == {
        "prompt_tokens": 24,
        "max_tokens": 4,
        "batches": [1, 3],
        "repeat": 2,
    }
    assert len(facts["rows"]) == 9
    for row in facts["rows"]:
        if "memory" in row["metric"]:
            continue
        assert row["value"] > 0
        if row["spread"] is not None:
            low, high = row["spread"]
            assert low <= row["value"] <= high
            assert row["ratio"] == pytest.approx(
                row["value"] / row["peers"]["reference again"]
                if row["unit"] == "tok/s"
                else row["peers"]["reference again"] / row["value"]
            )
    assert "phase of a step" in done.err
    kinds = {row.get("cat") for row in json.loads(trace.read_text())["traceEvents"]}
    assert {"step", "phase", "node"} <= kinds


def test_bench_by_name_measures_what_was_named(folder: Path) -> None:
    drafter, sampler = "ngram:longest=3", "mirostat:tau=3"
    few = (*SMALL, "--max-tokens", 12, "--prompt-tokens", 20)
    chain = ("--sampler", sampler, "--transform", "dry:multiplier=0.8")
    facts = llama("bench", folder, *few, *chain, "--json").json
    assert facts["used"] == {
        "transforms": ["dry:multiplier=0.8"],
        "sampler": sampler,
        "drafter": [None],
    }
    facts = llama("bench", folder, *few, "--drafter", drafter, "--json").json
    (guessed,) = facts["used"]["drafter"]
    assert (guessed["name"], guessed["options"]) == ("ngram", {"longest": 3})
    assert guessed["draft_tokens"] >= guessed["accepted_tokens"] > 0
    told = llama("bench", folder, *few, "--drafter", drafter).out.splitlines()[-1]
    assert told.startswith("drafter ngram: ")
    assert told.endswith(" guessed tokens were right")


def test_a_prompt_leaves_room_for_the_answer(folder: Path) -> None:
    """Where nobody said how long prompts are, they fit the model's context."""
    longest = CONFIG["max_position_embeddings"]
    assert longest - 8 < 512
    few = ("--max-tokens", "8", "--batch", "1", "--repeat", "1")
    done = llama("bench", folder, *few)
    assert (done.code, done.err) == (0, "")
    assert f"{longest - 8} tokens of one sequence" in done.out


def test_bench_of_a_shape_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    done = llama("bench", tmp_path, *SMALL, "--random", "--rewrite", "reencode:encoding=q8:row")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{tmp_path.name} (random) on reference")
    assert [line.split()[0] for line in lines[2:]] == [
        "load",
        "memory.peak",
        "program.prefill",
        "program.decode.1",
        "program.decode.3",
        "engine.first_token",
        "engine.decode",
        "engine.answers.1",
        "engine.answers.3",
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--batch", "1,x"], "'1,x' is no list of numbers above 0"),
        (["--against", "referense", *SMALL], "Did you mean 'reference'?"),
        (["--sampler", "mirostad", *SMALL], "Did you mean 'mirostat'?"),
        (["--drafter", "ngrm", *SMALL], "Did you mean 'ngram'?"),
        (["--drafter", "ngram", "--random"], "nothing to guess of what --random weights"),
    ],
)
def test_bench_says_what_cannot_be(folder: Path, args: list[str], words: str) -> None:
    done = llama("bench", folder, *args)
    assert done.code in (1, 2)
    assert words in done.err
    assert len(done.err.splitlines()) == 1
