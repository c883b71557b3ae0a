"""Rows of the CPU benchmark: goals, what the probe of the same run allows, whether they hold."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cpu_models as models
from report import Row


@dataclass(frozen=True, slots=True)
class Probe:
    """What the machine did at most, the median of a run's probes."""

    read: float  # bytes a second
    ints: float  # operations a second
    floats: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs, ours as it lies in its file."""

    weights: int  # bytes read for a token: all but the embedding
    kv: int  # bytes of a token that is kept
    body: int  # multiplications of a token, without embedding and head
    head: int
    exact: bool = False

    def fastest(self, metric: str, probe: Probe) -> float | None:
        """Tokens a second that the probe allows."""
        peak = probe.floats if self.exact else probe.ints
        if metric == "prefill":
            return peak / (2 * self.body)
        if metric not in LIMITED:
            return None
        sequences, context = LIMITED[metric]
        arithmetic = 2 * (self.body + self.head) * sequences / peak
        reading = (self.weights + self.kv * context * sequences) / probe.read
        return sequences / max(arithmetic, reading)


LIMITED = {"decode": (1, 64), "batch8": (8, 16), "decode8k": (1, 8192)}


def cost(shape: str, path: Any, exact: bool) -> Cost:
    """From a folder or a GGUF file."""
    from llama_core.builtin.gguf_format import GgufFormat

    files = GgufFormat().open(path) if path.suffix == ".gguf" else models.opened(path)
    sizes = {name: files.weights.bytes_of(name) for name in files.weights}
    c = models.SHAPES[shape]
    kv = 2 * c["num_key_value_heads"] * c["head_dim"]
    layer = c["hidden_size"] * (2 * c["hidden_size"] + kv + 3 * c["intermediate_size"])
    return Cost(
        sum(size for name, size in sizes.items() if "embed_tokens" not in name),
        kv * 2 * c["num_hidden_layers"],
        layer * c["num_hidden_layers"],
        c["hidden_size"] * c["vocab_size"],
        exact,
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """What one figure should be, as far as something was asked of it."""

    best: float | None = None  # times the best peer
    llama_cpp: float | None = None  # times llama.cpp's best or nearest
    limit: float | None = None  # of what the probe allows
    alone: float | None = None  # times our own batch of one

    def parts(self) -> list[tuple[float | None, str]]:
        return [
            (self.best, "x best peer"),
            (self.llama_cpp, "x llama.cpp"),
            (self.limit, " of limit"),
            (self.alone, "x batch of 1"),
        ]

    def text(self) -> str:
        return ", ".join(f">={value:g}{what}" for value, what in self.parts() if value is not None)


NARROW = {
    "prefill": Goal(1.2, 2.5, 0.7),
    "decode": Goal(1.3, 1.5, 0.9),
    "batch8": Goal(2, 3, alone=5),
    "decode8k": Goal(1.5),
}
GOALS: Mapping[str, Mapping[str, Goal]] = {
    "4bit": NARROW,
    "8bit": NARROW,
    "2bit": {"decode": Goal(llama_cpp=2)},
    "1bit": {"decode": Goal(llama_cpp=2)},
}


@dataclass(slots=True)
class Figures:
    """What was found of one of ours and of its peers, in tokens a second."""

    samples: Sequence[float]
    peers: dict[str, Sequence[float] | None]
    notes: list[str] = field(default_factory=list)
    alone: float | None = None


def speed(name: str, metric: str, goal: Goal, found: Figures, fastest: float | None) -> Row:
    """A row in tokens a second."""
    value = statistics.median(found.samples) if found.samples else None
    peers = {k: statistics.median(v) if v else None for k, v in found.peers.items()}
    known = {k: v for k, v in peers.items() if v is not None}
    best = max(known.values(), default=None)
    theirs = max((v for k, v in known.items() if k.startswith("llama.cpp")), default=None)
    made = Row(f"{name}.{metric}", value, "tok/s", peers=peers, goal=goal.text() or None)
    notes = list(found.notes)
    if value is not None:
        made.spread = (min(found.samples), max(found.samples))
        made.ratio = value / best if best else None
        made.fraction_of_limit = value / fastest if fastest else None
        bases = (best, theirs, fastest, found.alone)
        asked = [(part, base) for part, base in zip(goal.parts(), bases, strict=True) if part[0]]
        measured = [(times or 0, what, value / base) for (times, what), base in asked if base]
        short = [f"{is_so:.2f}{what}" for times, what, is_so in measured if is_so < times]
        if short:
            made.holds = False
            notes.insert(0, f"missed: {', '.join(short)}")
        elif len(measured) == len(asked):
            made.holds = True if asked else None
        else:
            notes.append("not all that the goal compares with was measured")
        notes += _capped(goal, best, theirs, fastest)
        if made.fraction_of_limit and made.fraction_of_limit > 1.05:
            notes.append("above the limit: something else took from the probe")
        notes.append(f"repetitions: {len(found.samples)}")
        notes += [
            f"{k} {min(v):.4g}-{max(v):.4g}" for k, v in found.peers.items() if v and len(v) > 1
        ]
    made.note = "; ".join(notes)
    return made


def _capped(
    goal: Goal, best: float | None, theirs: float | None, fastest: float | None
) -> list[str]:
    """Where even the whole of the probe would not do."""
    said = []
    for times, base, whom in (
        (goal.best, best, "the best peer"),
        (goal.llama_cpp, theirs, "llama.cpp"),
    ):
        if times and base and fastest and times * base > fastest:
            said.append(
                f"out of reach here: all that the probe allows is {fastest / base:.2f}x {whom}"
            )
    return said
