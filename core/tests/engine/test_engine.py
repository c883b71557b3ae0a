"""What a caller of the engine sees: answers, their ends, their refusals and their faults."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.builtin.samplers import Greedy
from llama_core.builtin.transforms import TRANSFORMS, Temperature
from llama_core.catalogue import State
from llama_core.config import Config
from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.step import Batch
from llama_core.discovery import discover
from llama_core.engine.faults import (
    ContextOverflow,
    EngineClosed,
    InvalidRequest,
    ProgramFault,
    QueueFull,
    SamplingFault,
)
from llama_core.engine.request import Limits, Link, Params, Request
from llama_core.errors import (
    ConfigError,
    LlamaError,
    OptionsError,
    PluginFault,
    PluginQuarantined,
)
from llama_core.hookspecs import hookimpl
from llama_core.plugins import Plugins

from .toy import (
    SAMPLED,
    Clock,
    Letters,
    Ready,
    Sampling,
    Toy,
    ask,
    collect,
    create,
    drain,
    make,
    run,
)


def one(request: Request, **options: Any) -> Any:
    return run(make(**options), request)[request.id, 0]


# ------------------------------------------------------------------------- ends


def test_an_answer_ends_at_its_length() -> None:
    answer = one(ask(max_tokens=5))
    assert (len(answer.tokens), answer.finish) == (5, "length")
    assert answer.updates[-1].usage.completion_tokens == 5
    assert answer.updates[-1].last


def test_without_a_length_it_ends_with_the_context() -> None:
    assert len(one(ask(max_tokens=None), max_length=20).tokens) == 17


def test_the_context_is_no_longer_than_the_memory() -> None:
    engine = make(Toy(num_blocks=4, block_size=4), max_length=100)
    assert engine.limits.max_length == 16
    with pytest.raises(ConfigError, match="does not hold a sequence of 2"):
        make(Toy(num_blocks=1, block_size=1))


def test_it_ends_at_an_end_token_which_is_not_text() -> None:
    free = one(ask(max_tokens=20), tokenizer=Letters())
    end = free.tokens[4]
    first = free.tokens.index(end)
    answer = one(ask(max_tokens=20), tokenizer=Letters(), eos=frozenset({end}))
    assert answer.tokens == free.tokens[: first + 1]
    assert answer.finish == "stop"
    assert answer.updates[-1].stopped_by == end
    assert answer.text == Letters().decode(free.tokens[:first])
    same = one(ask(max_tokens=20, stop_tokens=frozenset({end})), tokenizer=Letters())
    assert same.tokens == answer.tokens
    ignored = one(ask(max_tokens=20, ignore_eos=True), eos=frozenset({end}))
    assert ignored.tokens == free.tokens


@pytest.mark.parametrize("include", [False, True])
def test_it_ends_at_a_stop_string_across_tokens(include: bool) -> None:
    free = one(ask(max_tokens=20), tokenizer=Letters())
    stop = free.text[3:6]
    where = free.text.index(stop)
    answer = one(ask(max_tokens=20, stop=("zzzz", stop), include_stop=include), tokenizer=Letters())
    assert answer.text == free.text[: where + (3 if include else 0)]
    assert answer.finish == "stop"
    assert answer.updates[-1].stopped_by == stop
    assert all(stop[:2] not in u.text for u in answer.updates) or include


def test_text_comes_as_it_is_made() -> None:
    answer = one(ask(max_tokens=10), tokenizer=Letters())
    assert [u.text for u in answer.updates] == [Letters().words[t] for t in answer.tokens]


def test_what_was_held_back_comes_at_the_end() -> None:
    free = one(ask(max_tokens=6), tokenizer=Letters())
    answer = one(ask(max_tokens=6, stop=(free.text[-2:] + "!",)), tokenizer=Letters())
    assert answer.text == free.text


def test_a_begun_answer_goes_on_as_if_it_had_never_paused() -> None:
    for options in ({}, SAMPLED, {"sampler": Link("mirostat"), "transforms": (Link("presence"),)}):
        whole = one(ask(max_tokens=9, seed=3, **options)).tokens
        rest = one(ask(max_tokens=5, seed=3, answer=tuple(whole[:4]), **options))
        assert rest.tokens == whole[4:]
        assert rest.updates[-1].usage.completion_tokens == 5


# ---------------------------------------------------------------------- choices


def test_n_choices_differ_and_the_first_is_what_it_would_be_alone() -> None:
    answers = run(make(), ask(n=4, seed=11, **SAMPLED))
    assert [c for _, c in sorted(answers)] == [0, 1, 2, 3]
    assert len({tuple(a.tokens) for a in answers.values()}) == 4
    assert answers["r", 0].tokens == one(ask(seed=11, **SAMPLED)).tokens
    assert sum(u.last for a in answers.values() for u in a.updates) == 1


def test_n_counts_n_slots() -> None:
    toy = Toy()
    engine = make(toy, max_sequences=4)
    for name in "ab":
        engine.add(ask(name, n=3))
    engine.step()
    assert engine.scheduler.num_waiting == 1, "three and three are more than four"
    drain(engine)
    with pytest.raises(InvalidRequest, match=r"n must be from 1 to 4, not 5"):
        engine.add(ask(n=5))


def test_the_prompt_of_n_choices_is_computed_once() -> None:
    toy = Toy(64)
    run(make(toy), ask(prompt=range(1, 30), n=4, max_tokens=2, **SAMPLED))
    assert toy.num_rows == 29 + 4


def test_a_seed_fixes_the_result_and_its_absence_varies_it() -> None:
    def tokens(seed: int | None, engine_seed: int) -> list[int]:
        return one(ask(seed=seed, **SAMPLED), seed=engine_seed).tokens

    assert tokens(5, 1) == tokens(5, 2)
    assert tokens(None, 1) == tokens(None, 1)
    assert tokens(None, 1) != tokens(None, 2)
    first, second = run(make(), ask("a", **SAMPLED), ask("b", **SAMPLED)).values()
    assert first.tokens != second.tokens


# --------------------------------------------------------------------- logprobs


def reference_logprobs(tokens: list[int]) -> np.ndarray[Any, Any]:
    """The log-probabilities after each token, from a program that is asked for every row."""
    toy = Toy(128)
    count = len(tokens)
    batch = Batch(
        np.array(tokens, np.int32),
        np.arange(count, dtype=np.int32),
        np.array([0, count], np.int32),
        ((list(range(count)),),),
        np.ones(count, np.uint8),
    )
    logits = toy.submit(batch).result().logits_RV
    assert logits is not None
    wide = logits.astype(np.float64)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def test_logprobs_are_the_models() -> None:
    answer = one(ask(logprobs=3, max_tokens=6, **SAMPLED))
    table = reference_logprobs([1, 2, 3, *answer.tokens])[2:]
    told = [p for u in answer.updates for p in u.logprobs]
    assert [p.token for p in told] == answer.tokens
    for row, p in zip(table, told, strict=False):
        assert p.logprob == pytest.approx(row[p.token])
        assert p.rank == 1 + sum(row > row[p.token])
        order = np.argsort(-row, kind="stable")[:3]
        assert p.top == [(int(t), pytest.approx(row[t])) for t in order]


def test_processed_logprobs_are_what_the_transforms_left() -> None:
    chain = {"transforms": (Link("top-k", {"k": 1}),), "sampler": Link("sample")}
    answer = one(ask(logprobs=2, processed_logprobs=True, max_tokens=2, **chain))
    assert answer.updates[0].logprobs[0].logprob == 0
    assert answer.updates[0].logprobs[0].top[1][1] == -np.inf


@pytest.mark.parametrize("rows", [1, 2, 3, 64])
def test_prompt_logprobs_are_the_models_however_it_is_chunked(rows: int) -> None:
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    answer = one(ask(prompt=prompt, prompt_logprobs=1, max_tokens=2), max_rows=rows)
    (told,) = [u.prompt_logprobs for u in answer.updates if u.prompt_logprobs]
    assert told[0] is None
    table = reference_logprobs(prompt)
    for i, p in enumerate(told[1:], 1):
        assert p.token == prompt[i]
        assert p.logprob == pytest.approx(table[i - 1][prompt[i]])
        assert p.top[0][1] == pytest.approx(table[i - 1].max())


# -------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_embeddings_are_pooled_hidden_states(rows: int) -> None:
    prompt = (5, 6, 7, 8, 9)
    mean = one(ask(prompt=prompt, pooling="mean", max_tokens=None), max_rows=rows)
    last = one(ask(prompt=prompt, pooling="last", max_tokens=None), max_rows=rows)
    toy = Toy(128)
    want = np.full(5, 2, np.uint8)
    batch = Batch(
        np.array(prompt, np.int32),
        np.arange(5, dtype=np.int32),
        np.array([0, 5], np.int32),
        (([0, 1],),),
        want,
    )
    hidden = toy.submit(batch).result().hidden_RD
    assert hidden is not None
    np.testing.assert_array_equal(last.updates[-1].hidden, hidden[-1])
    np.testing.assert_allclose(mean.updates[-1].hidden, hidden.mean(0), rtol=1e-6)
    assert mean.finish == last.finish == "stop"
    assert mean.updates[-1].usage.completion_tokens == 0


@pytest.mark.parametrize("options", [{"prompt_logprobs": 1}, {"pooling": "mean"}], ids=str)
def test_a_preempted_prompt_is_neither_scored_nor_pooled_twice(options: Any) -> None:
    request = ask(prompt=range(1, 14), **{"max_tokens": None, **options})
    engine = make(max_rows=3, max_length=20)
    engine.add(request)
    updates = []
    for turn in range(60):
        updates += engine.step()
        if turn in (1, 3) and engine.scheduler.running:
            engine.scheduler.preempt(engine.scheduler.running[0])
            engine.blocks.forget_all()
    answer = collect(updates + drain(engine))["r", 0]
    expected = one(request, max_length=20)
    assert engine.scheduler.num_preemptions == 2
    assert answer.tokens == expected.tokens
    for told, due in zip(answer.updates, expected.updates, strict=True):
        assert told.prompt_logprobs == due.prompt_logprobs
        np.testing.assert_array_equal(told.hidden, due.hidden)


# ------------------------------------------------------------------- prefix cache


def test_a_known_prefix_is_not_computed_again() -> None:
    toy = Toy(256)
    engine = make(toy, max_rows=512)
    prompt = tuple(1 + i % 9 for i in range(400))
    first = run(engine, ask(prompt=prompt))["r", 0]
    before = toy.num_rows
    again = run(engine, ask(prompt=prompt))["r", 0]
    assert again.tokens == first.tokens
    assert again.updates[-1].usage.cached_tokens >= 0.95 * 400
    assert toy.num_rows - before <= 0.05 * 400 + 8
    other = run(engine, ask(prompt=prompt, tenant="other"))["r", 0]
    assert other.updates[-1].usage.cached_tokens == 0
    engine.blocks.forget_all()
    assert run(engine, ask(prompt=prompt))["r", 0].updates[-1].usage.cached_tokens == 0


def test_an_adapter_has_its_own_prefixes() -> None:
    engine = make(adapter_slots=2)
    prompt = tuple(range(1, 20))
    plain = run(engine, ask(prompt=prompt))["r", 0]
    first = run(engine, ask(prompt=prompt, adapter=1))["r", 0]
    assert first.updates[-1].usage.cached_tokens == 0
    assert first.tokens != plain.tokens
    with pytest.raises(InvalidRequest, match=r"adapter must be from -1 to 1, not 2"):
        engine.add(ask(adapter=2))


# ---------------------------------------------------------- cancels and deadlines


def test_a_cancelled_request_is_in_no_later_step() -> None:
    toy = Toy()
    engine = make(toy)
    engine.add(ask("a", max_tokens=50))
    engine.add(ask("b", max_tokens=3))
    engine.step()
    assert engine.cancel("a")
    assert not engine.cancel("a")
    answers = collect(drain(engine))
    assert answers["a", 0].finish == "cancelled"
    assert answers["a", 0].tokens == []
    assert toy.num_rows <= 6 + 3


def test_a_deadline_ends_a_request_whether_it_runs_or_waits() -> None:
    clock = Clock()
    engine = make(clock=clock, max_sequences=1)
    engine.add(ask("runs", max_tokens=50, deadline_seconds=3))
    engine.add(ask("waits", max_tokens=50, deadline_seconds=4))
    engine.add(ask("stays", max_tokens=4))
    updates = []
    while engine.has_work:
        updates += engine.step()
        clock.now += 1
    answers = collect(updates)
    assert len(answers["runs", 0].tokens) == 3
    assert answers["runs", 0].error.code == "deadline_exceeded"
    assert answers["waits", 0].finish == "deadline"
    assert answers["stays", 0].finish == "length"


def test_closing_ends_what_is_open() -> None:
    toy = Toy()
    engine = make(toy)
    engine.add(ask(n=2))
    engine.step()
    engine.close()
    engine.close()
    assert {u.error.code for u in engine.step()} == {"engine_closed"}
    assert toy.closed
    assert engine.blocks.num_used() == 0
    with pytest.raises(EngineClosed):
        engine.add(ask())


# ------------------------------------------------------------------------ faults


class Broken:
    """A transform that fails after a while, in one of several ways."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        if context.index < 2:
            return logits_NV
        if self.how == "raises":
            raise ZeroDivisionError("oh")
        if self.how == "exits":
            raise SystemExit(3)
        if self.how == "refuses":
            raise OptionsError("not like this")
        return {
            "shape": logits_NV[:, :-1],
            "none": None,
            "nan": logits_NV * np.nan,
            "forbids all": np.full_like(logits_NV, -np.inf),
        }[self.how]


@pytest.mark.parametrize(
    "how", ["raises", "exits", "refuses", "shape", "none", "nan", "forbids all"]
)
def test_a_broken_transform_ends_its_own_request_only(how: str) -> None:
    engine = make()
    bad = Request("bad", (1, 2, 3), Params(max_tokens=8, transforms=(Broken(how),)))
    answers = run(engine, bad, ask("good"))
    assert len(answers["bad", 0].tokens) == 2
    assert isinstance(answers["bad", 0].error, OptionsError if how == "refuses" else SamplingFault)
    assert answers["good", 0].finish == "length"


def test_a_transform_that_goes_on_failing_is_named_and_its_plugin_quarantined() -> None:
    @hookimpl
    def llama_create_transform(name: str, options: Any) -> Broken:
        return Broken(name)

    provides = [{"kind": "transform", "name": how, "api": 1} for how in ("raises", "shape")]
    plugins = Plugins([], Config(max_faults=2))
    plugins.register(
        SimpleNamespace(llama_create_transform=llama_create_transform),
        {"name": "mine", "summary": "Transforms that fail", "provides": provides},
    )
    engine = make(create=None, plugins=plugins)
    for how in ("raises", "shape"):
        broken = Params(max_tokens=8, transforms=(Link(how),), sampler=Greedy())
        error = run(engine, Request(how, (1, 2, 3), broken))[how, 0].error
        assert isinstance(error, PluginFault)
        assert "plugin 'mine' failed in transform Broken" in str(error)
    with pytest.raises(PluginQuarantined, match="mine"):
        engine.add(Request("again", (1, 2, 3), Params(transforms=(Link("raises"),))))


def test_faults_of_the_cores_own_transforms_take_nothing_from_others(monkeypatch: Any) -> None:
    def broken(self: Any, logits_NV: Any, context: Any) -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Temperature, "__call__", broken)
    plugins = Plugins(discover([]), Config(max_faults=2))
    engine = make(create=None, plugins=plugins)
    for number in range(5):
        hot = ask(f"hot{number}", transforms=(Link("temperature", {"temperature": 2.0}),))
        answers = run(engine, hot, ask(f"plain{number}"))
        error = answers[f"hot{number}", 0].error
        assert isinstance(error, PluginFault)
        assert "plugin 'builtin' failed in transform Temperature" in str(error)
        assert answers[f"plain{number}", 0].finish == "length"
    assert plugins["builtin"].state is State.ACTIVE
    assert plugins["builtin"].num_faults == 2


def test_a_fault_of_one_choice_ends_all_of_the_request() -> None:
    class Bad:
        def __init__(self, n: int = 0) -> None:
            pass

        def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
            return [10**9 if context.seed != 4 and context.index == 2 else 1]

    request = ask(n=3, seed=4, sampler=Link("bad"))
    engine = make(create=lambda kind, name, options: Bad())
    answers = run(engine, request)
    assert {a.finish for a in answers.values()} == {"error"}
    assert "token 1000000000 of 32" in str(answers["r", 1].error)


class Ill(Toy):
    """Gives logits that are none to whoever starts with a 9."""

    value = np.nan

    def _sequence(self, batch: Batch, s: int) -> list[int]:
        states = super()._sequence(batch, s)
        first = self.memory[0, batch.blocks_G[0][s][0], 0]
        return [-1 if first == 9000 else state for state in states]

    def _logits(self, state: int) -> Any:
        if state == -1:
            return np.full(self.vocab_size, self.value, np.float32)
        return super()._logits(state)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, SAMPLED, {"logprobs": 1}], ids=["plain", "sampled", "lp"])
def test_logits_that_are_none_are_named(value: float, options: Any) -> None:
    toy = Ill()
    toy.value = value
    answers = run(make(toy), ask("ill", (9, 1, 2), **options), ask("well", (1, 2), **options))
    assert answers["well", 0].finish == "length"
    assert answers["ill", 0].finish == "error"
    said = str(answers["ill", 0].error)
    assert ("NaN for 32 of 32 logits" if np.isnan(value) else "inf") in said


def test_a_program_fault_ends_the_requests_of_that_step() -> None:
    toy = Toy()
    toy.fail_in = {3}
    engine = make(toy, max_rows=4, max_sequences=2)
    answers = run(engine, ask("a"), ask("b"), ask("later", (1, 2)))
    for name in "ab":
        assert isinstance(answers[name, 0].error, ProgramFault)
        assert "told to break" in str(answers[name, 0].error)
    assert answers["later", 0].finish == "length"
    assert answers["later", 0].tokens == one(ask(prompt=(1, 2))).tokens
    assert engine.counters.program_faults == 1


def test_an_output_of_the_wrong_shape_is_the_programs_fault() -> None:
    class Short(Toy):
        def submit(self, batch: Batch) -> Ready:
            ready = super().submit(batch)
            assert ready.output.logits_RV is not None
            object.__setattr__(ready.output, "logits_RV", ready.output.logits_RV[:, :5])
            return ready

    assert "shape (1, 5), not (1, 32)" in str(one(ask(), program=Short()).error)


class Shout:
    """Holds everything back to the end, or breaks."""

    def __init__(self, breaks: str = "") -> None:
        self.held: list[str] = []
        self.breaks = breaks

    def feed(self, piece: Piece) -> list[Piece]:
        if self.breaks == "feed" and self.held:
            raise KeyError("feed")
        self.held.append(piece.text)
        return [Piece(stop=True)] if self.breaks == "stop" and len(self.held) == 3 else []

    def finish(self) -> list[Piece]:
        if self.breaks == "finish":
            raise LlamaError("a guard refused this")
        return [Piece("".join(self.held).upper())]


def test_postprocessors_are_fed_and_finished() -> None:
    plain = one(ask(max_tokens=6), tokenizer=Letters())
    loud = one(ask(max_tokens=6, postprocessors=(Shout(),)), tokenizer=Letters())
    assert loud.text == plain.text.upper()
    assert [u.text for u in loud.updates[:-1]] == [""] * 5
    short = one(ask(max_tokens=9, postprocessors=(Shout("stop"),)), tokenizer=Letters())
    assert short.finish == "stop"
    assert len(short.tokens) == 3


@pytest.mark.parametrize(("breaks", "says"), [("feed", "KeyError"), ("finish", "a guard refused")])
def test_a_broken_postprocessor_ends_its_own_request_only(breaks: str, says: str) -> None:
    engine = make(tokenizer=Letters())
    bad = ask("bad", max_tokens=4, postprocessors=(Shout(breaks),))
    answers = run(engine, bad, ask("good", max_tokens=6))
    assert says in str(answers["bad", 0].error)
    assert answers["bad", 0].text == ""
    assert answers["good", 0].finish == "length"


# ----------------------------------------------------------------- device sampling


@pytest.mark.parametrize("options", [{}, SAMPLED, {"n": 3, **SAMPLED}], ids=["greedy", "s", "n"])
def test_it_does_not_matter_where_the_chain_runs(options: Any) -> None:
    class Watched(Sampling):
        rows_of_tokens = 0

        def submit(self, batch: Batch) -> Ready:
            self.rows_of_tokens += int((batch.want_T == 3).sum())
            return super().submit(batch)

    device = Watched()
    request = ask(seed=9, **options)
    there, here = run(make(device), request), run(make(Toy()), request)
    assert {k: a.tokens for k, a in there.items()} == {k: a.tokens for k, a in here.items()}
    assert device.rows_of_tokens >= 7
    device.rows_of_tokens = 0
    run(make(device), ask(logprobs=1))
    assert device.rows_of_tokens == 0, "logprobs need logits"


class Halved:
    """What somebody installed under the name of a standard transform."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        return logits_NV / np.float32(2 * self.temperature)


def test_a_transform_of_ones_own_is_never_passed_over() -> None:
    def halving(kind: str, name: str, options: Any) -> Any:
        return Halved(**options) if name == "temperature" else create(kind, name, options)

    class Inherited(TRANSFORMS["temperature"]):  # type: ignore[misc]
        def __call__(self, logits_NV: Any, context: Any) -> Any:
            return logits_NV / np.float32(2 * self.temperature)

    def derived(kind: str, name: str, options: Any) -> Any:
        return Inherited(**options) if name == "temperature" else create(kind, name, options)

    for program, replaced in product((Sampling(), Toy()), (halving, derived)):
        theirs = run(make(program, create=replaced), ask(seed=9, **SAMPLED))["r", 0]
        doubled = (Link("temperature", {"temperature": 1.6}), Link("top-k", {"k": 12}))
        same = ask(seed=9, transforms=doubled, sampler=Link("sample"))
        assert theirs.tokens == run(make(Toy()), same)["r", 0].tokens
        assert theirs.tokens != run(make(Toy()), ask(seed=9, **SAMPLED))["r", 0].tokens


def test_a_standard_link_at_its_default_runs_there_too() -> None:
    chain = {"transforms": (Link("top-k"),), "sampler": Link("sample")}
    engine = make(Sampling(vocab_size=64))
    engine.add(ask(seed=4, **chain))
    (answer,) = engine._answers.values()
    assert answer.device == (("top-k", 40.0), ("sample", 0.0))
    tokens = collect(drain(engine))["r", 0].tokens
    assert tokens == run(make(Toy(vocab_size=64)), ask(seed=4, **chain))["r", 0].tokens


# --------------------------------------------------------------------- bad input

LIMITS = Limits(max_length=64, max_sequences=4, max_logprobs=5, max_stops=2, max_stop_characters=9)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (ask(prompt=()), "the prompt has no tokens"),
        (ask(prompt=(1, 32)), "token ids must be from 0 to 31, not 32"),
        (ask(prompt=(1, -1)), "token ids must be from 0 to 31, not -1"),
        (ask(prompt=("a",)), "token ids must be from 0 to 31, not 'a'"),
        (ask(prompt=[1] * 64), "may have 64 tokens together, and the prompt has 64"),
        (ask(max_tokens=62), "max_tokens must be from 1 to 61 after a prompt of 3"),
        (ask(max_tokens=0), "max_tokens must be at least 1, not 0"),
        (ask(max_tokens=2.5), "max_tokens must be a whole number, not 2.5"),
        (ask(n=0), "n must be from 1 to 4, not 0"),
        (ask(n=True), "n must be a whole number, not True"),
        (ask(seed=-1), "seed must be from 0 to 18446744073709551615, not -1"),
        (ask(logprobs=6), "logprobs must be from 0 to 5, not 6"),
        (ask(prompt_logprobs=-1), "prompt_logprobs must be from 0 to 5, not -1"),
        (ask(stop=("a", "b", "c")), "stop may have at most 2 texts, not 3"),
        (ask(stop=(1,)), "stop must be a text, not 1"),
        (ask(stop_tokens=[99]), "token ids must be from 0 to 31, not 99"),
        (ask(stop=("",)), "stop must have from 1 to 9 characters, not 0"),
        (ask(stop=("x" * 10,)), "stop must have from 1 to 9 characters, not 10"),
        (ask(stop_tokens=frozenset({99})), "token ids must be from 0 to 31, not 99"),
        (ask(priority=101), "priority must be from -100 to 100, not 101"),
        (ask(deadline_seconds=0), "deadline_seconds must be above 0 and at most 86400, not 0"),
        (ask(deadline_seconds=float("nan")), "deadline_seconds must be above 0"),
        (ask(tenant="x" * 257), "tenant must have from 0 to 256 characters, not 257"),
        (ask(""), "id must have from 1 to 256 characters, not 0"),
        (ask(pooling="max"), "pooling must be 'last' or 'mean', not 'max'"),
        (ask(pooling="mean", n=2), "n must be 1"),
        (ask(pooling="mean", prompt=[1] * 65), "may have 64 tokens, and has 65"),
        (ask(transforms=(Link("top-k"),) * 33), "transforms may have at most 32 parts, not 33"),
        (ask(transforms=(Link("top-k", {"k": 0}),)), "top-k's k must be at least 1, not 0"),
        (ask(adapter=0), "adapter must be -1, not 0: the program has no slots for adapters"),
    ],
    ids=str,
)
def test_impossible_parameters_are_refused_with_their_bound(request_: Request, says: str) -> None:
    engine = make(tokenizer=Letters(), limits=LIMITS)
    with pytest.raises(LlamaError) as refused:
        engine.add(request_)
    assert says in str(refused.value)
    assert not engine.has_work
    assert not engine._open


def test_stop_tokens_are_a_set_or_a_list() -> None:
    second = run(make(), ask())["r", 0].tokens[1]
    for given in (frozenset({second}), {second}, [second], (second,)):
        found = run(make(), ask(stop_tokens=given))["r", 0]
        assert (found.finish, found.updates[-1].stopped_by) == ("stop", second)


def test_an_overflow_has_the_code_clients_know() -> None:
    with pytest.raises(ContextOverflow) as refused:
        make(limits=LIMITS).add(ask(prompt=[1] * 70))
    assert refused.value.code == "context_length_exceeded"
    assert "Shorten it by 7" in str(refused.value)


def test_an_id_is_open_once() -> None:
    engine = make()
    engine.add(ask())
    with pytest.raises(InvalidRequest, match="is open"):
        engine.add(ask())


def test_a_full_queue_says_when_to_come_back() -> None:
    engine = make(max_queued=2)
    engine.add(ask("a"))
    engine.add(ask("b"))
    with pytest.raises(QueueFull) as refused:
        engine.add(ask("c"))
    assert refused.value.retry_after_seconds > 0
    drain(engine)


def test_stop_strings_need_a_tokenizer() -> None:
    with pytest.raises(InvalidRequest, match="need an engine with a tokenizer"):
        make().add(ask(stop=("a",)))


def test_choices_cannot_share_what_remembers() -> None:
    class Grammar:
        def __call__(self, logits_NV: Any, context: Any) -> Any:
            return logits_NV

        def accept(self, token: int) -> None:
            pass

    with pytest.raises(InvalidRequest, match="cannot share one Grammar"):
        make().add(Request("r", (1,), Params(n=2, transforms=(Grammar(),))))
