"""Rows of architectures: random models of transformers against every backend, and the mutants.

The model is opened from the folder that transformers wrote. Its config there is in newer words
than the case's own, and the two must give one graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from parity_backends import built, logits, make, named, opened
from parity_cases import DROP, Case, sizes
from parity_families import cases
from parity_truth import Truth, transformers_says
from report import Row

if TYPE_CHECKING:
    from llama_core.contracts.backend import Backend
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights

BOUND = 1e-4
MARGIN = 10 * BOUND
NOTICED = 100 * BOUND
AGAINST_REFERENCE = 1e-5  # of the largest logit


@dataclass
class Found:
    """What one backend gave over the seeds of a case."""

    worst: float = 0.0
    wrong: int = 0
    against_reference: float = 0.0


@dataclass
class Seen:
    """What else was seen over the seeds of a case."""

    spreads: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    weakest: dict[str, float] = field(default_factory=dict)  # by mutant
    other_graphs: int = 0  # whose folder's config said something else than the case's


def rows(architecture: str, seeds: int, backends: Sequence[str]) -> Iterator[Row]:
    """The rows of one architecture: each case on each backend, then backends and reference."""
    worst = dict.fromkeys((name for name in backends if name != "reference"), 0.0)
    for number, label in enumerate(case.name for case in cases(architecture, 0)):
        found, seen = {name: Found() for name in backends}, Seen()
        for seed in range(seeds):
            one_seed(architecture, number, seed, found, seen)
        slug = label.replace(", ", "-").replace(" ", "-")
        for name, one in found.items():
            yield case_row(f"parity.{architecture}.{slug}.{name}", one, seen, seeds, name)
            if name in worst:
                worst[name] = max(worst[name], one.against_reference)
    for name, value in worst.items():
        yield Row(
            f"parity.{architecture}.against-reference.{name}", value, "of the largest logit",
            goal=f"<={AGAINST_REFERENCE:g}", holds=value <= AGAINST_REFERENCE,
            note=f"f32, end to end, all cases of {seeds} seeds",
        )  # fmt: skip


def case_row(metric: str, one: Found, seen: Seen, seeds: int, backend: str) -> Row:
    note = f"logits spread {min(seen.spreads):.1f}-{max(seen.spreads):.1f}, {seeds} seeds"
    note += f", {np.mean(seen.compared):.0%} of tokens compared, {one.wrong} differ"
    holds = one.worst <= BOUND and one.wrong == 0
    if backend == "reference":
        missed = [name for name, off in seen.weakest.items() if not off >= NOTICED]
        if seen.weakest:
            note += "; mutants " + ", ".join(f"{k} {v:.2g}" for k, v in seen.weakest.items())
        if missed:
            note += f"; NOT NOTICED: {', '.join(missed)}"
        if seen.other_graphs:
            note += f"; THE FOLDER'S CONFIG GIVES ANOTHER GRAPH for {seen.other_graphs} seeds"
        holds = holds and not missed and not seen.other_graphs
    return Row(metric, one.worst, "logit", goal=f"<={BOUND:g}", holds=holds, note=note)


def one_seed(
    architecture: str, number: int, seed: int, found: Mapping[str, Found], seen: Seen
) -> None:
    """One case of one seed: the truth once, then every backend, then the mutants."""
    case = cases(architecture, seed)[number]
    config = {**sizes(architecture, seed), **case.config}
    with tempfile.TemporaryDirectory() as temporary:
        truth = transformers_says(dict(config), case, seed, Path(temporary))
        files = opened(Path(temporary))
        weights = named(files)
        graph = built({**files.config, **case.ours})
        told = {**config, **case.ours}
        seen.other_graphs += graph != built(told)
        best = np.sort(truth.logits_TV, axis=1)
        clear = best[:, -1] - best[:, -2] > MARGIN
        seen.compared.append(float(clear.mean()))
        seen.spreads.append(float(truth.logits_TV.std()))
        expected = said(make("reference"), graph, weights, truth)
        for name, one in found.items():
            given = expected if name == "reference" else said(make(name), graph, weights, truth)
            one.worst = max(one.worst, apart(given, truth.logits_TV))
            one.wrong += int((given.argmax(1) != truth.logits_TV.argmax(1))[clear].sum())
            relative = apart(given, expected) / float(np.abs(expected).max())
            one.against_reference = max(one.against_reference, relative)
        if "reference" in found:
            for name, off in mutants(case, told, graph, weights, truth):
                seen.weakest[name] = min(seen.weakest.get(name, np.inf), off)


def mutants(
    case: Case, told: Mapping[str, Any], graph: Graph, weights: Weights, truth: Truth
) -> Iterator[tuple[str, float]]:
    """How far off the reference is without each quirk."""
    for name, change in case.mutants.items():
        if callable(change):
            mutant = change(graph)
        else:
            config = {k: v for k, v in {**told, **change}.items() if v is not DROP}
            mutant = replace(built(config), context_length=graph.context_length)
        yield name, apart(said(make("reference"), mutant, weights, truth), truth.logits_TV)


def said(backend: Backend, graph: Graph, weights: Weights, truth: Truth) -> np.ndarray:
    """The same tokens through one program: the prompt at once, then one step each."""
    num = len(truth.tokens)
    ends = (truth.prompt, *range(truth.prompt + 1, num + 1))
    return logits(backend, graph, weights, truth.tokens, ends)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())
