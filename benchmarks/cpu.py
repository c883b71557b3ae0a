"""How fast the CPU plugin is beside its peers, all in turns within one run, and beside the machine.

    python benchmarks/cpu.py --prepare        environments and models: once, and for long
    python benchmarks/cpu.py --quick --json   the 1.1B shape, in about six minutes
    python benchmarks/cpu.py --json           everything, in an hour and more
    python benchmarks/cpu.py --shape 8b --as-is --json    one shape, with what was prepared

Every side lives in a process of its own that stands still while others are timed. A round is: what
the machine can do (`probe.c`), then each metric on each side. Figures are medians of the rounds.
Ours are `Program.submit` unless the metric says `engine`; what peers' times hold, `cpu_peers` says.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import cpu_models as models
from cpu_calls import call_rows
from cpu_loading import load_rows
from cpu_rounds import METRICS, Found, Work, long_prompt, may, once, probe, probe_program, rounds
from cpu_rows import GOALS, Cost, Figures, Goal, Probe, cost, speed
from cpu_sides import ENVIRONMENTS, FAMILIES, STEP, Child, Model
from report import Row, publish, row, versions

# ---------------------------------------------------------------- speeds


def probe_rows(found: Mapping[int, list[Probe]]) -> Iterator[Row]:
    command = [probe_program(), "1", "0.001"]
    tier = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[3]
    for threads, every in sorted(found.items()):
        for name, scale, unit, note in (
            ("read", 1e9, "GB/s", "256 MiB a thread"),
            ("ints", 1e12, "TOP/s", f"int8 by {tier}"),
            ("floats", 1e12, "TFLOP/s", "fused multiply-add"),
        ):
            values = [getattr(one, name) / scale for one in every]
            yield row(f"cpu.probe.{name}.t{threads}", values, unit, note=note)


def family_rows(work: Work, shape: str, label: str, until: float) -> Iterator[Row]:
    """All speeds of one family on one shape."""
    family = FAMILIES[label]
    sides = work.sides(family)
    metrics = [name for name in METRICS if work.wants(name)]
    found = rounds(work, shape, sides, 2, metrics, until)
    PROBES.setdefault(2, []).extend(found.probes.get(2, []))
    for one in (side for side in sides if side.is_ours):
        its = cost_of(shape, one, family.exact)
        for metric in metrics:
            yield speed_row(work, shape, label, one, sides, found, metric, its)


def speed_row(
    work: Work, shape: str, label: str, one: Model, sides: Sequence[Model], found: Found,
    metric: str, its: Cost | str,
) -> Row:  # fmt: skip
    plain = metric.removeprefix("engine.")
    goal = GOALS.get(label, {}).get(metric, Goal())
    peers, notes = {}, []
    for peer in sides:
        if peer.is_ours:
            continue
        peers[peer.name] = found.samples.get((peer.name, plain))
        why = found.reasons.get(peer.name) or found.reasons.get(f"{peer.name} {plain}")
        if not why and not may(peer, plain, work.quick, shape):
            why = "takes too long for --quick, or --prepare was not run"
        notes += [f"{peer.name}: {why}"] if why else []
    reason = found.reasons.get(one.name) or found.reasons.get(f"{one.name} {metric}")
    notes += [f"not measured: {reason}"] if reason else []
    alone = found.samples.get((one.name, "decode"))
    figures = Figures(
        found.samples.get((one.name, metric), []),
        peers,
        notes,
        statistics.median(alone) if alone else None,
    )
    fastest = None
    if isinstance(its, Cost) and found.probes.get(2):
        fastest = its.fastest(plain, found.probe(2))
        notes.append(f"{its.weights / 1e6:,.0f} MB of weights a token")
    return speed(f"cpu.{shape}.{one.name}", metric, goal, figures, fastest)


def cost_of(shape: str, one: Model, exact: bool) -> Cost | str:
    path = one.path(shape)
    return path if isinstance(path, str) else cost(shape, path, exact)


# ---------------------------------------------------------------- threads, a step


def thread_rows(work: Work, shape: str, until: float) -> Iterator[Row]:
    """What the second thread gives."""
    one = FAMILIES["4bit"].ours[0]
    metrics = ("prefill", "decode")
    with ExitStack() as stack:
        try:
            both = {n: stack.enter_context(Child(one, shape, n)) for n in (1, 2)}
        except (ValueError, OSError) as error:
            for metric in metrics:
                name = f"cpu.{shape}.{one.name}.{metric}.threads"
                yield Row(name, None, "x", note=f"not measured: {error}")
            return
        found = {n: Found() for n in both}
        for number in range(work.repeat):
            if number and time.monotonic() > until:
                break
            for threads in both:
                found[threads].probes.setdefault(threads, []).append(probe(threads))
                PROBES.setdefault(threads, []).append(found[threads].probes[threads][-1])
            for metric in metrics:
                for threads, child in both.items():
                    once(found[threads], child, metric, work.steps)
    gain = found[2].probe(2).read / found[1].probe(1).read
    for metric, goal in (("prefill", 1.9), ("decode", 0.9 * gain)):
        name = f"cpu.{shape}.{one.name}.{metric}.threads"
        pairs = [found[n].samples.get((one.name, metric), []) for n in (1, 2)]
        ratios = [two / alone for alone, two in zip(*pairs, strict=False)]
        made = row(name, ratios, "x", goal=f">={goal:.3g}")
        made.note = f"two threads over one; the probe's own gain in reading is {gain:.2f}"
        if pairs[0]:
            made.note += f"; one thread {statistics.median(pairs[0]):.4g} tok/s"
        for threads in both:
            if why := found[threads].reasons.get(f"{one.name} {metric}"):
                made.note += f"; not measured on {threads}: {why}"
        yield made


def step_rows(work: Work) -> Iterator[Row]:
    """One step of a model of 260,000 numbers: what a step costs when it computes nothing."""
    sides = work.sides(STEP)
    asked = {"do": "decode", "sequences": 1, "context": 16, "steps": 200}
    taken: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    with ExitStack() as stack:
        children = []
        for model in sides:
            try:
                children.append(stack.enter_context(Child(model, "260k", 2)))
            except (ValueError, OSError) as error:
                reasons[model.name] = str(error)
        for _ in range(max(5, work.repeat)):
            for child in (one for one in children if one.model.name not in reasons):
                name = child.model.name
                try:
                    taken.setdefault(name, []).append(child.ask(**asked)["seconds"] * 1e6)
                except (ValueError, OSError) as error:
                    reasons[name] = str(error)
    for one in (side for side in sides if side.is_ours):
        notes = [f"{name}: {why}" for name, why in reasons.items()]
        made = row(f"cpu.260k.{one.name}.step", taken.get(one.name, []), "us", goal="<=60")
        made.peers = {
            peer.name: statistics.median(taken[peer.name]) if taken.get(peer.name) else None
            for peer in sides
            if not peer.is_ours
        }
        known = [value for value in made.peers.values() if value is not None]
        made.ratio = min(known) / made.value if known and made.value else None
        made.note = "; ".join(["one sequence, context 16 to 216", *notes])
        yield made


# ---------------------------------------------------------------- the whole of it

GROUPS = (*METRICS, "load", "step", "calls", "threads")
QUICK = ("4bit", "8bit")  # families where there is little time
PROBES: dict[int, list[Probe]] = {}  # of the whole run, by threads


def every_row(work: Work) -> Iterator[Row]:
    families = [name for name in FAMILIES if work.wants(name) or not work.only & set(FAMILIES)]
    families = [name for name in families if not work.quick or name in QUICK]
    began = time.monotonic()
    budget = work.minutes * 60
    if work.wants("load"):
        for shape in work.shapes:
            for label in families[:1] if work.quick else families:
                yield from load_rows(work, shape, label)
    if work.wants("step"):
        yield from step_rows(work)
    if work.wants("calls"):
        yield from call_rows()
    if work.wants("threads"):
        until = began + 0.35 * budget
        for shape in work.shapes:
            yield from thread_rows(work, shape, until)
    if work.wants(*METRICS):
        left = [(shape, label) for shape in work.shapes for label in families]
        for number, (shape, label) in enumerate(left, 1):
            share = (began + budget - time.monotonic()) / (len(left) - number + 1)
            yield from family_rows(work, shape, label, time.monotonic() + 0.7 * share)
    yield from probe_rows(PROBES)


def prepare(work: Work) -> None:
    """Make every environment and every file; say what could not be made."""
    probe_program()
    for shape in work.shapes:
        for label, family in FAMILIES.items():
            if work.wants(label) or not work.only & set(FAMILIES):
                for model in work.sides(family):
                    made = model.path(shape)
                    print(f"{shape} {model.name}: {made}", flush=True)
                    long = model.side == "llama.cpp" and not long_prompt(shape).is_file()
                    if long and not isinstance(made, str):
                        remember(model, shape)
    for model in (*STEP.ours, *STEP.peers):
        model.path("260k")


def remember(model: Model, shape: str) -> None:
    """Have it keep the long prompt's memory on disk, so that a run need not compute it."""
    asked, _ = METRICS["decode8k"]
    try:
        with Child(model, shape, 2) as child:
            child.ask(**asked, steps=1)
    except ValueError as error:
        print(f"{shape} {model.name}, 8,192 tokens: {error}", flush=True)


def peer_versions(work: Work) -> dict[str, Any]:
    """Ours and those of the peers, each asked in its own environment."""
    found = versions("llama-core", "llama-plugin-cpu", "numpy")
    packages = {"llama.cpp": "llama-cpp-python", "transformers": "transformers"}
    for side, folder in ENVIRONMENTS.items():
        if work.peers is not None and side not in work.peers:
            continue
        name = packages.get(side, side)
        code = f"from importlib.metadata import version; print(version({name!r}))"
        its = models.HERE / ".envs" / folder / "bin" / "python"
        if its.is_file():
            ran = subprocess.run([its, "-c", code], capture_output=True, text=True)
            found[name] = ran.stdout.strip() or None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one shape, few sides, few rounds")
    parser.add_argument("--prepare", action="store_true", help="make environments and models only")
    parser.add_argument(
        "--as-is", action="store_true", help="make none: a side that has none says so in its rows"
    )
    parser.add_argument("--shape", action="append", choices=["110m", "1b", "8b"])
    parser.add_argument(
        "--only", default="", metavar="NAME,NAME",
        help=f"of {', '.join([*FAMILIES, *GROUPS])}",
    )  # fmt: skip
    parser.add_argument("--peer", action="append", choices=[*ENVIRONMENTS, "none"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="begin no further round after so long")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or sides that stand still are left
    shapes = args.shape or (["1b"] if args.quick else ["110m", "1b", "8b"])
    only = frozenset(args.only.split(",")) - {""}
    if unknown := sorted(only - {*FAMILIES, *GROUPS}):
        parser.error(f"--only: there is no {', '.join(unknown)}")
    if args.quick and (left := sorted(only & {*FAMILIES} - {*QUICK})):
        parser.error(f"--quick is of {', '.join(QUICK)} and has no {', '.join(left)}")
    if only and not only & {*GROUPS}:
        only |= {*GROUPS}
    peers = None if args.peer is None else frozenset(args.peer)
    minutes = args.minutes or (5 if args.quick else 90)
    models.MAKES_NONE = args.as_is
    work = Work(shapes, only, peers, args.repeat, args.quick, minutes)
    if args.prepare:
        prepare(work)
        return
    rows = list(every_row(work))
    publish("cpu", rows, as_json=args.json, versions=peer_versions(work))


if __name__ == "__main__":
    main()
