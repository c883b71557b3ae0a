"""How fast `llama train` is beside training scripts in plain torch, and beside the machine.

    python benchmarks/train.py --json              both sizes, in most of an hour on two cores
    python benchmarks/train.py --minutes 25        the same with fewer rounds
    python benchmarks/train.py --quick --json      the small one, fewer rounds
    python benchmarks/train.py --python PYTHON     with the torch and trainer of another interpreter

The sides take turns, each a process of its own: ours is the trainer with feed, guard and reports;
`eager` is `train_script.py`, `compile` the same under torch.compile, `transformers` its Trainer.
All learn the same rows in the same order and precision. Without `--python` and where this
interpreter has no torch, an environment is made once under `benchmarks/.envs`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from cpu_rounds import probe, tell
from report import Row, publish, row, versions
from train_sides import ON_GPU, SIZES, Side, Size, interpreter, write

PEERS = ("eager", "compile", "transformers")
# Of the time there is: the scripts' part, then the variants', about as one round more costs them.
SHARES = {"15m": (6, 3), "124m": (15, 9)}
VERSIONS = """
import json, torch, importlib.metadata as m
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
names = ("torch", "transformers", "accelerate", "llama-plugin-train")
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
print(json.dumps([{name: version(name) for name in names}, gpu]))
"""


@dataclass(slots=True)
class Told:
    """What the sides of one size answered, round by round, and why some did not."""

    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    floats: list[float] = field(default_factory=list)  # operations a second, by the probe
    reasons: dict[str, str] = field(default_factory=dict)

    def speeds(self, name: str, tokens: int) -> list[float]:
        """Tokens a second, of each round."""
        return [tokens * len(one["losses"]) / one["seconds"] for one in self.answers.get(name, [])]

    def loss(self, name: str) -> float | None:
        """The mean of the last round."""
        every = self.answers.get(name)
        return statistics.mean(every[-1]["losses"]) if every else None

    def memory(self, name: str) -> list[float]:
        """MiB, the most that was held."""
        return [one["memory"] / 2**20 for one in self.answers.get(name, [])][-1:]


def take_turns(
    makers: Mapping[str, Callable[[], Side]],
    rounds: int,
    steps: int,
    *,
    probing: bool = True,
    until: float = math.inf,
) -> Told:
    """Each side does so many steps in each round; one that fails is left out, and why is kept.
    After the first, no round is begun that would not be over in time."""
    told, took = Told(), 0.0
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, make in makers.items():
            tell(f"{name} begins")
            try:
                sides[name] = stack.enter_context(make())
                told.first[name] = sides[name].first
            except ValueError as error:
                told.reasons[name] = str(error)
        for number in range(rounds):
            began = time.monotonic()
            if number and began + took > until:
                break
            if probing:
                told.floats.append(probe(2).floats)
            for name, side in list(sides.items()):
                tell(f"round {number + 1} of {rounds}: {name}")
                try:
                    told.answers.setdefault(name, []).append(side.steps(steps))
                except ValueError as error:
                    told.reasons[name] = str(error)
                    del sides[name]
            took = time.monotonic() - began
    return told


def beside_scripts(
    python: Path,
    folder: Path,
    size: Size,
    device: str,
    rounds: int,
    steps: int,
    until: float = math.inf,
) -> Told:
    write(folder, size, rounds * steps + 1)
    makers = {
        name: partial(Side, python, name, folder, size, device=device) for name in ("ours", *PEERS)
    }
    return take_turns(makers, rounds, steps, probing=device == "cpu", until=until)


def speed_rows(name: str, size: Size, told: Told, goals: dict[str, str]) -> Iterator[Row]:
    """Tokens a second and their ratio to each script's, round by round."""
    ours = told.speeds("ours", size.tokens)
    theirs = {peer: told.speeds(peer, size.tokens) for peer in PEERS}
    middle = {peer: statistics.median(each) if each else None for peer, each in theirs.items()}
    notes = [f"{size.rows} rows of {size.length} tokens a step, {len(ours)} rounds"]
    notes += [f"{side} not measured: {why}" for side, why in told.reasons.items()]
    notes += [f"{peer}: {one['note']}" for peer, one in told.first.items() if "note" in one]
    made = row(f"{name}.speed", ours, "tok/s", peers=middle, note="; ".join(notes))
    known = [value for value in middle.values() if value]
    if made.value and known:
        made.ratio = made.value / max(known)
    if made.value and told.floats:
        limit = statistics.median(told.floats) / told.first["ours"]["flops"]
        made.fraction_of_limit = made.value / limit
    yield made
    for peer, goal in goals.items():
        pairs = [our / their for our, their in zip(ours, theirs[peer], strict=False)]
        note = "ours over the script's, each in the same round"
        note += "" if pairs else f"; not measured: {told.reasons.get(peer, 'ours failed')}"
        yield row(f"{name}.over.{peer}", pairs, "x", goal=goal, note=note)


def memory_and_loss_rows(name: str, told: Told) -> Iterator[Row]:
    steps = sum(len(one["losses"]) for one in told.answers.get("ours", [])) + 1
    losses = {side: told.loss(side) for side in ("ours", *PEERS)}
    ours, eager = losses["ours"], losses["eager"]
    apart = [] if ours is None or eager is None else [abs(ours - eager)]
    note = f"after {steps} steps on the same rows, mean of the last round; ours against eager"
    peers = {side: losses[side] for side in PEERS}
    note += "" if ours is None else f"; ours {ours:.5f}"
    note += "; transformers begins with other random weights, and learns no row's last token"
    yield row(f"{name}.loss.apart", apart, "nats", goal="<=0.01", peers=peers, note=note)
    held = {side: (told.memory(side) or [None])[0] for side in PEERS}
    note = "the most that the process held in its steps, after the first"
    yield row(f"{name}.memory", told.memory("ours"), "MiB", peers=held, note=note)


def variant_rows(
    python: Path, folder: Path, name: str, size: Size, rounds: int, steps: int, until: float
) -> Iterator[Row]:
    """What chunks, recomputing, and a second rank do, each beside the plain run."""
    variants: dict[str, dict[str, Any]] = {
        "plain": {},
        "whole_logits": {"chunk": size.tokens},
        "recompute": {"recompute": True},
        "ranks": {"ranks": 2, "threads": 1},
    }
    makers = {
        variant: partial(Side, python, "ours", folder, size, **more)
        for variant, more in variants.items()
    }
    told = take_turns(makers, rounds, steps, probing=False, until=until)
    speeds = {variant: told.speeds(variant, size.tokens) for variant in variants}
    for variant in ("plain", "whole_logits", "recompute"):
        note = told.reasons.get(variant, f"{statistics.median(speeds[variant] or [0]):.4g} tok/s")
        yield row(f"{name}.memory.{variant}", told.memory(variant), "MiB", note=note)
    pairs = [two / one for two, one in zip(speeds["ranks"], speeds["plain"], strict=False)]
    note = "two gloo ranks of one thread each over one of two threads"
    if why := told.reasons.get("ranks") or told.reasons.get("plain"):
        note += f"; not measured: {why}"
    yield row(f"{name}.ranks", pairs, "x", goal=">=0.9", note=note)


def gpu_rows(python: Path, gpu: str | None, rounds: int) -> Iterator[Row]:
    for label, size in ON_GPU.items():
        name = f"train.gpu.{label}"
        if gpu is None:
            why = "not measured: torch finds no GPU here"
            yield Row(f"{name}.speed", None, "tok/s", note=why)
            yield Row(f"{name}.over.compile", None, "x", goal=">=1.25", note=why)
            yield Row(f"{name}.utilization", None, "of the peak", goal=">=0.6", note=why)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            told = beside_scripts(python, Path(temporary), size, "cuda", rounds, 20)
        yield from speed_rows(name, size, told, {"compile": ">=1.25"})
        every = [one["utilization"] for one in told.answers.get("ours", [])]
        known = [one for one in every if one is not None]
        note = "bf16, the last step of each round" if known else "its peak is not known here"
        yield row(f"{name}.utilization", known, "of the peak", goal=">=0.6", note=note)
        yield from memory_and_loss_rows(name, told)


def deadlines(labels: Sequence[str], minutes: float) -> Iterator[float]:
    """When the scripts of each size, and then its variants, are to be done."""
    began, shares = time.monotonic(), [share for label in labels for share in SHARES[label]]
    return (began + minutes * 60 * done / sum(shares) for done in accumulate(shares))


def measure(
    python: Path, gpu: str | None, quick: bool, only: Sequence[str], minutes: float
) -> Iterator[Row]:
    until = deadlines(only, minutes)
    for label, size in SIZES.items():
        if label not in only:
            continue
        name, small = f"train.cpu.{label}", label == "15m"
        rounds, steps = (3, 2) if quick else (7, 4) if small else (5, 2)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            told = beside_scripts(python, folder, size, "cpu", rounds, steps, next(until))
            yield from speed_rows(name, size, told, {"eager": ">=1.5"})
            yield from memory_and_loss_rows(name, told)
            few = 2 if quick else 3
            yield from variant_rows(python, folder, name, size, few, steps, next(until))
            floats = [one / 1e12 for one in told.floats]
            yield row(f"{name}.probe.floats", floats, "TFLOP/s", note="two threads")
    yield from gpu_rows(python, gpu, 3 if quick else 7)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="the small model, fewer rounds")
    parser.add_argument("--only", help=f"sizes, as in 15m: of {', '.join(SIZES)}")
    parser.add_argument(
        "--minutes", type=float, default=math.inf,
        help="begin no round on the processor that would end after so long; one of each is begun",
    )  # fmt: skip
    parser.add_argument("--python", help="an interpreter that has torch and the trainer")
    given = parser.parse_args(arguments)
    only = given.only.split(",") if given.only else ["15m"] if given.quick else list(SIZES)
    if unknown := set(only) - set(SIZES):
        parser.error(f"there is no size {', '.join(sorted(unknown))}; known: {', '.join(SIZES)}")
    python = interpreter(given.python)
    if isinstance(python, str):
        parser.error(f"no interpreter to train with: {python}")
    told = subprocess.run([str(python), "-c", VERSIONS], capture_output=True, check=True, text=True)
    theirs, gpu = json.loads(told.stdout)
    rows = list(measure(python, gpu, given.quick, only, given.minutes))
    publish("train", rows, as_json=given.json, versions={**versions("numpy"), **theirs})


if __name__ == "__main__":
    main()
