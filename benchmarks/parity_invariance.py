"""Whether a sequence's logits depend on its company, on how its prompt is cut, or on the threads.

A backend that declares `bitwise` is held to the bit, any other to the bound of parity where
activations are not rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from parity_backends import Part, built, compiled, logits, make, step
from parity_cases import sizes
from report import Row

if TYPE_CHECKING:
    from llama_core.contracts.backend import Backend
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights

PROMPT, STEPS, COMPANY = 70, 6, 7
CHUNKS = (1, 7, 64)
BOUND = 1e-4
# What else a model is made of, besides its sizes: windows, experts, and weights in few bits.
MODELS: Mapping[str, tuple[str, Mapping[str, Any], str | None, str]] = {
    "llama": ("llama", {}, None, "none"),
    "gemma2-window": ("gemma2", {"sliding_window": 9}, None, "none"),
    "mixtral": ("mixtral", {"num_local_experts": 6, "num_experts_per_tok": 2}, None, "none"),
    "llama-q4": ("llama", {}, "q4:g32:min", "none"),
    "llama-q4-act-q8": ("llama", {}, "q4:g32:min", "q8:32"),
    "llama-q6_k-act-q8": ("llama", {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64},
                          "gguf:q6_k", "q8:256"),
}  # fmt: skip


def model(name: str) -> tuple[Graph, Weights]:
    """One of the models, with random weights."""
    from llama_core.model.generated import random_weights
    from llama_core.model.rewrites.act import SetAct
    from llama_core.model.rewrites.reencode import Reencode

    architecture, more, encoding, act = MODELS[name]
    graph = built({**sizes(architecture, 0), "intermediate_size": 96, "hidden_size": 64, **more})
    weights = random_weights(graph, 0)
    if encoding is not None:
        graph, weights = Reencode(encoding)(graph, weights)
    if act != "none":
        graph, weights = SetAct(act)(graph, weights)
    return graph, weights


def rows(name: str) -> Iterator[Row]:
    """One row for each model on a backend."""
    for label in MODELS:
        graph, weights = model(label)
        found = differences(name, graph, weights)
        declared = found.pop("declared")
        worst = max(found.values())
        goal = 0.0 if declared == "bitwise" else BOUND
        note = f"declares '{declared}'; " + ", ".join(f"{k} {v:.2g}" for k, v in found.items())
        made = Row(f"parity.invariance.{label}.{name}", worst, "logit", note=note)
        if declared == "bitwise" or MODELS[label][3] == "none":
            made.goal, made.holds = f"<={goal:g}", worst <= goal
        else:
            made.note += "; of no bound, since a last bit may round an activation the other way"
        yield made


def differences(name: str, graph: Graph, weights: Weights) -> dict[str, Any]:
    """By way of running: the largest difference from the sequence alone, its prompt at once."""
    dice = np.random.default_rng(5)
    tokens = dice.integers(0, graph.vocab_size, PROMPT + STEPS).tolist()
    steps = list(range(PROMPT + 1, PROMPT + STEPS + 1))
    backend = make(name)
    probe = compiled(backend, graph, weights, 16)
    found: dict[str, Any] = {"declared": probe.invariance}
    probe.close()
    alone = logits(backend, graph, weights, tokens, [PROMPT, *steps])
    for size in CHUNKS:
        ends = [*range(size, PROMPT, size), PROMPT, *steps]
        other = logits(backend, graph, weights, tokens, ends)
        found[f"chunks of {size}"] = apart(alone, other)
    found[f"with {COMPANY} others"] = apart(alone, in_company(backend, graph, weights, tokens))
    if name != "reference":
        two = logits(make(name, threads=2), graph, weights, tokens, [PROMPT, *steps])
        found["on two threads"] = apart(alone, two)
        make(name, threads=1)  # torch's number is the process's
    return found


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference; more than nothing where only bits differ, as those of 0 and -0."""
    worst = float(np.abs(one - other).max())
    return worst if worst or one.tobytes() == other.tobytes() else float(np.finfo(np.float32).tiny)


def in_company(backend: Backend, graph: Graph, weights: Weights, tokens: list[int]) -> np.ndarray:
    """The fifth of eight sequences of other lengths, their prompts and then their steps mixed."""
    dice = np.random.default_rng(6)
    length = PROMPT + STEPS + COMPANY
    every = [
        dice.integers(0, graph.vocab_size, PROMPT - 9 * i + STEPS).tolist() for i in range(COMPANY)
    ]
    every.insert(4, tokens)
    program = compiled(backend, graph, weights, length, COMPANY + 1)
    starts = [len(one) - STEPS for one in every]
    found = [step(program, length, *(Part(i, t[: starts[i]]) for i, t in enumerate(every)))[4]]
    for at in range(STEPS):
        parts = (Part(i, t[starts[i] + at :][:1], starts[i] + at) for i, t in enumerate(every))
        found.append(step(program, length, *parts)[4])
    program.close()
    return np.concatenate(found)
