"""Whether our models compute what transformers computes, and whether the test would notice if not.

Every architecture is built small and at random, saved by transformers as a checkpoint, and read
back as ours: logits of a prompt and of greedy steps after it may differ by 1e-4 at most, and the
next tokens are equal wherever the two best are ten bounds apart. Then each quirk is taken out of
our model, one at a time, and that must show a hundredfold.

    python benchmarks/parity.py --json
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import Row, environment, publish, versions

if TYPE_CHECKING:
    import numpy as np
    from parity_cases import Case

    from llama_core.contracts.backend import Backend
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights

BOUND = 1e-4
MARGIN = 10 * BOUND
NOTICED = 100 * BOUND
PEERS = ("torch==2.13.0", "transformers==5.23.0", "safetensors", "numpy", "pydantic", "packaging")


@dataclass
class Truth:
    """What transformers gave: the tokens it chose and the logits of every row."""

    tokens: list[int]
    prompt: int
    logits_TV: np.ndarray


def reference() -> Backend:
    from llama_core.builtin.reference import Reference

    return Reference()


BACKENDS: dict[str, Callable[[], Any]] = {"reference": reference}


def transformers_says(config: dict[str, Any], case: Case, seed: int, folder: Path) -> Truth:
    """Build the model, fill it, save it, and run prompt and greedy steps with its cache."""
    import numpy as np
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    kind = config["model_type"]
    given = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model(kind, **given)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_config(made, dtype=torch.float32, **eager)
    model.eval()
    fill(model, np.random.default_rng(seed), case.negative_gates)
    model.save_pretrained(folder)
    generator = np.random.default_rng([seed, 1])
    tokens = generator.integers(0, made.vocab_size, case.prompt).tolist()
    with torch.no_grad():
        out = model(torch.tensor([tokens]), use_cache=True)
        rows = [out.logits[0]]
        for _ in range(case.steps):
            tokens.append(int(rows[-1][-1].argmax()))
            out = model(
                torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True
            )
            rows.append(out.logits[0])
    return Truth(tokens, case.prompt, torch.cat(rows).numpy().copy())


def fill(model: Any, generator: np.random.Generator, negative_gates: bool) -> None:
    """Random weights under which nothing hides, in the model's own names."""
    import torch

    from llama_core.model.generated import random_array

    offset = 1.0 if model.config.model_type.startswith("gemma") else 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            bare = name.removeprefix("model.")
            array = random_array(bare, tuple(parameter.shape), generator, offset)
            if negative_gates and "embed_tokens" in name:
                array += array.std()  # so that all hidden states have a direction in common
            if negative_gates and "gate_proj" in name:
                array -= 4 / array.shape[1]
            if negative_gates and "down_proj" in name:
                array *= 12  # what such gates let through is small
            parameter.copy_(torch.from_numpy(array))


def we_say(backend: Backend, graph: Graph, weights: Weights, truth: Truth) -> np.ndarray:
    """The same tokens through one program: the prompt at once, then one step each."""
    import numpy as np

    from llama_core.contracts.step import Batch, Plan, Want

    num = len(truth.tokens)
    plan = Plan(max_tokens=num, kv_bytes=1 << 26)
    program = backend.compile(graph, weights, plan)
    table = tuple(range(-(-num // plan.block_size)))
    rows, start = [], 0
    for stop in (truth.prompt, *range(truth.prompt + 1, num + 1)):
        batch = Batch(
            np.array(truth.tokens[start:stop], np.int32),
            np.arange(start, stop, dtype=np.int32),
            np.array([0, stop - start], np.int32),
            tuple((table,) for _ in program.kv.groups),
            np.full(stop - start, Want.LOGITS, np.uint8),
        )
        rows.append(program.submit(batch).result().logits_RV)
        start = stop
    program.close()
    return np.concatenate(rows)


def ours(config: Mapping[str, Any], folder: Path) -> tuple[Graph, Weights]:
    """The checkpoint as our graph and weights."""
    from safetensors.numpy import load_file

    from llama_core.model.architectures import create, model_type
    from llama_core.model.weights import DenseWeights, RenamedWeights

    architecture = create(model_type(config))
    arrays = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    return architecture.build(config), RenamedWeights(DenseWeights(arrays), architecture.rename)


def changed(config: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    from parity_cases import DROP

    return {key: value for key, value in {**config, **change}.items() if value is not DROP}


def measure(architecture: str, seeds: int, backend: str) -> list[Row]:
    """The rows of one architecture on one backend."""
    import numpy as np
    from parity_cases import cases, sizes

    rows: list[Row] = []
    for number, label in enumerate(case.name for case in cases(architecture, 0)):
        worst, spreads, margins, wrong, missed = 0.0, [], [], 0, []
        weakest: dict[str, float] = {}
        began = time.perf_counter()
        for seed in range(seeds):
            case = cases(architecture, seed)[number]
            config = {**sizes(architecture, seed), **case.config}
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                truth = transformers_says(dict(config), case, seed, folder)
                told = {**config, **case.ours}
                graph, weights = ours(told, folder)
                logits = we_say(BACKENDS[backend](), graph, weights, truth)
                worst = max(worst, float(np.abs(logits - truth.logits_TV).max()))
                spreads.append(float(truth.logits_TV.std()))
                best = np.sort(truth.logits_TV, axis=1)
                clear = best[:, -1] - best[:, -2] > MARGIN
                margins.append(float(clear.mean()))
                wrong += int((logits.argmax(1) != truth.logits_TV.argmax(1))[clear].sum())
                for name, change in case.mutants.items():
                    if callable(change):
                        mutant = change(graph)
                    else:
                        mutant, _ = ours(changed(told, change), folder)
                    off = np.abs(
                        we_say(BACKENDS[backend](), mutant, weights, truth) - truth.logits_TV
                    )
                    weakest[name] = min(weakest.get(name, np.inf), float(off.max()))
        missed = [name for name, off in weakest.items() if not off >= NOTICED]
        metric = f"parity.{architecture}.{label.replace(', ', '-').replace(' ', '-')}.{backend}"
        note = f"logits spread {min(spreads):.1f}-{max(spreads):.1f}, {seeds} seeds"
        note += f", {np.mean(margins):.0%} of tokens compared, {wrong} differ"
        if weakest:
            note += "; mutants " + ", ".join(f"{k} {v:.2g}" for k, v in weakest.items())
        if missed:
            note += f"; NOT NOTICED: {', '.join(missed)}"
        holds = worst <= BOUND and wrong == 0 and not missed
        rows.append(Row(metric, worst, "logit", goal=f"<={BOUND}", holds=holds, note=note))
        print(f"{metric}: {worst:.2g} {holds} {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="architectures; all by default")
    arguments = parser.parse_args()
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        return elsewhere(arguments.json)
    import torch

    torch.set_num_threads(1)
    from llama_core.model.architectures import ARCHITECTURES

    rows = [
        row
        for architecture in arguments.only or ARCHITECTURES
        for backend in BACKENDS
        for row in measure(architecture, arguments.seeds, backend)
    ]
    publish(
        "parity", rows, as_json=arguments.json, versions=versions("numpy", "torch", "transformers")
    )
    return 0 if all(row.holds for row in rows) else 1


def elsewhere(as_json: bool) -> int:
    """Run again in an environment that has the peers, made once beside this file."""
    python = environment("parity", *PEERS)
    if isinstance(python, str):
        note = f"torch and transformers could not be installed: {python}"
        unmeasured = Row("parity", None, "logit", goal=f"<={BOUND}", note=note)
        publish("parity", [unmeasured], as_json=as_json, versions=versions("numpy"))
        return 1
    source = Path(__file__).parent.parent / "core" / "src"
    env = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(python), *sys.argv], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
