"""How fast a model is: its program alone, and the engine around it; two side by side in turns.

The same made-up tokens go to both sides of a round, new ones in every round, so that nothing is
found in a cache. The first round only warms up, and is not counted. It times and counts; what the
figures are good for is for others to say.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.step import Want
from llama_core.engine.engine import Engine
from llama_core.engine.evaluate import stretch
from llama_core.engine.request import Request, Update
from llama_core.engine.subject import Subject, Wanted, open_subject
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins

Ints = NDArray[np.int32]
Samples = dict[str, list[float]]  # by metric, a number a round


# Why loading and its memory have no ratio.
FIRST = "; what two backends share is counted with the first"


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked in each round."""

    prompt_tokens: int
    max_tokens: int
    batches: tuple[int, ...]
    repeat: int


@dataclass(frozen=True, slots=True)
class Metric:
    """What one figure means."""

    unit: str
    higher_is_better: bool
    note: str


@dataclass(slots=True)
class Side:
    """One of the models measured, and what was found."""

    subject: Subject
    label: str  # in rows: the backend's name, and another where both sides are of one backend
    memory_bytes: int | None = None
    samples: Samples = field(default_factory=dict)

    @property
    def backend(self) -> str:
        return self.subject.choice.name


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in the shape that every benchmark here reports in."""

    metric: str
    value: float | None
    unit: str
    spread: tuple[float, float] | None = None  # smallest and largest of the rounds
    goal: str | None = None
    holds: bool | None = None
    peers: Mapping[str, float | None] = field(default_factory=dict)
    ratio: float | None = None  # ours over the peer's, above 1 is better
    fraction_of_limit: float | None = None
    note: str = ""


def metrics(work: Work) -> dict[str, Metric]:
    """Every figure of a round, by name."""
    p, n = work.prompt_tokens, work.max_tokens
    alone = "the program alone"
    found = {
        "program.prefill": Metric("tok/s", True, f"{alone}, {p} tokens of one sequence"),
    }
    for size in work.batches:
        note = f"{alone}, {size} sequences one token a step, from token {p} to {p + n}"
        found[f"program.decode.{size}"] = Metric("tok/s", True, note)
    found["engine.first_token"] = Metric("ms", False, f"from request to token, prompt of {p}")
    found["engine.decode"] = Metric("tok/s", True, f"one request, the {n - 1} tokens after it")
    for size in work.batches:
        note = f"{size} requests at once, their {n} tokens each, prompts of {p} included"
        found[f"engine.answers.{size}"] = Metric("tok/s", True, note)
    return found


def measure(
    plugins: Plugins,
    work: Work,
    wanted: Sequence[Wanted],
    opened: Callable[[Subject], object],
    progress: Callable[[], None] = lambda: None,
) -> list[Side]:
    """Load each side, then every round on all of them in turn. `opened` is given each subject as
    soon as it is there, to see to its end."""
    sides: list[Side] = []
    for one in wanted:
        before = _begin_peak()
        subject = open_subject(plugins, one)
        opened(subject)
        name = subject.choice.name
        side = Side(subject, f"{name} again" if any(name == s.label for s in sides) else name)
        _round(side.subject, work, np.random.default_rng(work.repeat))
        side.memory_bytes = None if before is None else _memory("VmHWM") - before
        sides.append(side)
        progress()
    for number in range(work.repeat):
        for side in sides:
            for name, value in _round(side.subject, work, np.random.default_rng(number)).items():
                side.samples.setdefault(name, []).append(value)
            progress()
    return sides


def rows(work: Work, side: Side, peer: Side | None = None) -> list[Row]:
    """The figures of a side, against those of the other one where there is one."""
    found = [_load_row(side, peer), _memory_row(side, peer)]
    for name, metric in metrics(work).items():
        value, ours = statistics.median(side.samples[name]), side.samples[name]
        peers: dict[str, float | None] = {}
        ratio, note = None, metric.note
        if peer is not None:
            theirs = peer.samples[name]
            other = peers[peer.label] = statistics.median(theirs)
            ratio = value / other if metric.higher_is_better else other / value
            note += f"; {peer.label} {min(theirs):.4g} to {max(theirs):.4g}"
        spread = min(ours), max(ours)
        full = f"{side.label}.{name}"
        found.append(Row(full, value, metric.unit, spread, peers=peers, ratio=ratio, note=note))
    return found


# ---------------------------------------------------------------- one round


def _round(subject: Subject, work: Work, dice: np.random.Generator) -> dict[str, float]:
    """Everything once; names as in `metrics`."""
    p, n = work.prompt_tokens, work.max_tokens
    vocab_size = subject.program.vocab_size

    def tokens(count: int, length: int) -> list[Ints]:
        return list(dice.integers(0, vocab_size, (count, length), np.int32))

    found = {"program.prefill": p / _feed(subject, tokens(1, p), 0, p)}
    for size in work.batches:
        sequences = tokens(size, p + n)
        _feed(subject, [each[:p] for each in sequences], 0, p + n)
        rest = [each[p:] for each in sequences]
        found[f"program.decode.{size}"] = size * n / _feed(subject, rest, p, p + n, at_once=1)
    first, after = _stream(subject, tokens(1, p)[0], n)
    found["engine.first_token"] = first * 1e3
    found["engine.decode"] = (n - 1) / after
    for size in work.batches:
        found[f"engine.answers.{size}"] = size * n / answers(subject, tokens(size, p), n)
    return found


def _feed(
    subject: Subject, tokens: Sequence[Ints], start: int, length: int, at_once: int | None = None
) -> float:
    """Seconds to compute the tokens, the last row of each step and sequence giving a token.

    The blocks are the engine's too: that is in order, since its prompts are never met again.
    """
    program, count = subject.program, len(tokens[0])
    greedy = "greedy" in getattr(program, "samples", ())
    width = at_once or max(1, subject.plan.max_tokens // len(tokens))
    batches = [
        stretch(
            program.kv,
            [each[at : at + width] for each in tokens],
            start + at,
            length,
            Want.TOKEN if greedy else Want.LOGITS,
            last=True,
        )
        for at in range(0, count, width)
    ]
    began = time.perf_counter()
    for batch in batches:
        program.submit(batch).result()
    return time.perf_counter() - began


def _stream(subject: Subject, prompt: Ints, max_tokens: int) -> tuple[float, float]:
    """Seconds to the first token of an answer, and from there to its last."""
    began = time.perf_counter()
    subject.engine.add(_request(subject, "one", prompt, max_tokens))
    first = ended = 0.0
    updates = []
    for update in _updates(subject.engine):
        ended = time.perf_counter()
        first = first or ended
        updates.append(update)
    _check(updates, max_tokens)
    return first - began, ended - first


def answers(subject: Subject, prompts: Iterable[Ints], max_tokens: int) -> float:
    """Seconds until requests that were sent at once are all answered in full."""
    requests = [_request(subject, f"r{n}", prompt, max_tokens) for n, prompt in enumerate(prompts)]
    began = time.perf_counter()
    for request in requests:
        subject.engine.add(request)
    updates = list(_updates(subject.engine))
    seconds = time.perf_counter() - began
    _check(updates, len(requests) * max_tokens)
    return seconds


def _check(updates: Sequence[Update], wanted: int) -> None:
    """Refuse to report a time in which something else was done than was to be timed."""
    given = sum(len(update.tokens) for update in updates)
    cached = sum(update.usage.cached_tokens for update in updates if update.usage is not None)
    if given != wanted or cached:
        raise LlamaError(
            f"{wanted} tokens were to be timed, computed from nothing; given were {given}, with "
            f"{cached} of their prompts from the cache"
        )


def _updates(engine: Engine) -> Iterator[Update]:
    """What the engine gives until it is idle, stepped here and not in a thread of its own: what a
    slow reader or a busy interpreter adds is not the engine's."""
    while engine.has_work:
        for update in engine.step():
            if update.error is not None:
                raise update.error
            if update.tokens or update.last:
                yield update


def _request(subject: Subject, name: str, prompt: Ints, max_tokens: int) -> Request:
    params = replace(subject.params, max_tokens=max_tokens, ignore_eos=True)
    return Request(name, tuple(prompt.tolist()), params)


# ---------------------------------------------------------------- figures


def _load_row(side: Side, peer: Side | None) -> Row:
    theirs = {} if peer is None else {peer.label: peer.subject.load_seconds}
    note = "from files to engine, once; the files may have been in the system's cache" + FIRST
    return Row(f"{side.label}.load", side.subject.load_seconds, "s", peers=theirs, note=note)


def _memory_row(side: Side, peer: Side | None) -> Row:
    theirs = {} if peer is None else {peer.label: peer.memory_bytes}
    note = "growth of resident memory over loading and one round; no device's own" + FIRST
    if side.memory_bytes is None:
        note = "this system does not tell a peak"
    return Row(f"{side.label}.memory.peak", side.memory_bytes, "bytes", peers=theirs, note=note)


def _begin_peak() -> int | None:
    """Forget the highest resident memory so far; gives what is resident now, where Linux tells."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except (OSError, ValueError):
        return None


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)
