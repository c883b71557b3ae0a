"""Rounds of the CPU benchmark: what the machine can do, then each metric on each side in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cpu_models as models
from cpu_rows import Probe
from cpu_sides import Child, Family, Model

# What is asked of a side, and how many tokens come of it in the seconds that it answers with.
METRICS: Mapping[str, tuple[dict[str, Any], int]] = {
    "prefill": ({"do": "prefill", "tokens": 512}, 512),
    "decode": ({"do": "decode", "sequences": 1, "context": 64}, 1),
    "batch8": ({"do": "decode", "sequences": 8, "context": 16}, 8),
    "decode8k": ({"do": "decode", "sequences": 1, "context": 8192}, 1),
    "engine.decode": ({"do": "engine", "sequences": 1, "context": 64}, 1),
    "engine.batch8": ({"do": "engine", "sequences": 8, "context": 16}, 8),
}

Samples = dict[tuple[str, str], list[float]]  # by side and metric, tokens a second


@dataclass(frozen=True, slots=True)
class Work:
    """What was asked for on the command line."""

    shapes: Sequence[str]
    only: frozenset[str]
    peers: frozenset[str] | None
    repeat: int
    quick: bool
    minutes: float

    def wants(self, *names: str) -> bool:
        """Whether one of these is among what `--only` names; all are where it names nothing."""
        return not self.only or not self.only.isdisjoint(names)

    def sides(self, family: Family) -> list[Model]:
        chosen = [one for one in family.ours if one.quick or not self.quick]
        for one in family.peers:
            asked = self.peers is None or one.side in self.peers
            chosen += [one] if asked and (one.quick or not self.quick) else []
        return chosen

    @property
    def steps(self) -> int:
        return 12 if self.quick else 32


@dataclass(slots=True)
class Found:
    """Samples of one family, and why some are missing."""

    samples: Samples = field(default_factory=dict)
    probes: dict[int, list[Probe]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def probe(self, threads: int) -> Probe:
        every = self.probes[threads]
        middle = statistics.median
        return Probe(
            middle(one.read for one in every),
            middle(one.ints for one in every),
            middle(one.floats for one in every),
        )


@cache
def probe_program() -> str:
    """Compiled here, for exactly this machine."""
    target = models.CACHE / "probe"
    models.CACHE.mkdir(exist_ok=True)
    command = ["cc", "-O3", "-march=native", "-pthread", str(models.HERE / "probe.c")]
    subprocess.run([*command, "-o", str(target)], check=True)
    return str(target)


def probe(threads: int, seconds: float = 0.15) -> Probe:
    command = [probe_program(), str(threads), str(seconds)]
    read, ints, floats, _ = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.split("\n", 3)
    return Probe(float(read) * 1e9, float(ints) * 1e12, float(floats) * 1e12)


def rounds(
    work: Work, shape: str, sides: Sequence[Model], threads: int, metrics: Sequence[str],
    until: float,
) -> Found:  # fmt: skip
    """Each metric on each side, in turns, as often as asked for and as there is time."""
    found = Found()
    with ExitStack() as stack:
        children = []
        for model in sides:
            tell(f"{shape} {model.name}")
            try:
                children.append(stack.enter_context(Child(model, shape, threads)))
                children[-1].ask(do="prefill", tokens=64)
            except (ValueError, OSError) as error:
                found.reasons[model.name] = str(error)
        for number in range(work.repeat):
            if number and time.monotonic() > until:
                break
            for metric in metrics:
                found.probes.setdefault(threads, []).append(probe(threads))
                for child in children:
                    if may(child.model, metric, work.quick, shape, number):
                        once(found, child, metric, work.steps)
    return found


def may(model: Model, metric: str, quick: bool, shape: str, number: int = 0) -> bool:
    """Whether a side is asked for a metric in a round: most peers take minutes to come to 8k."""
    if metric.startswith("engine"):
        return model.is_ours
    if metric != "decode8k" or model.is_ours:
        return True
    if model.side == "llama.cpp" and long_prompt(shape).is_file():
        return True
    return not quick and number == 0


def long_prompt(shape: str) -> Path:
    """Where `cpu_peers` keeps llama.cpp's memory of 8,192 tokens."""
    return models.CACHE / shape / "llama.cpp.8192.state"


def once(found: Found, child: Child, metric: str, steps: int) -> None:
    name = child.model.name
    if (name, metric) in found.samples or f"{name} {metric}" not in found.reasons:
        asked, count = METRICS[metric]
        try:
            seconds = child.ask(**asked, steps=steps)["seconds"]
            found.samples.setdefault((name, metric), []).append(count / seconds)
        except (ValueError, OSError) as error:
            found.reasons[f"{name} {metric}"] = str(error)


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
