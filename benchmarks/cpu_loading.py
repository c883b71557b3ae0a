"""Loading and memory of the CPU benchmark: each time a fresh process, ours and peers' in turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from cpu_child import FIRST
from cpu_rounds import Work, tell
from cpu_sides import FAMILIES, Child, Model
from report import Row, row

OVERHEAD = 80e6  # bytes beside weights and memory of past tokens


def load_rows(work: Work, shape: str, label: str) -> Iterator[Row]:
    """From a fresh process: files to the first token; cold: files, and what was packed,
    dropped from memory first."""
    family = FAMILIES[label]
    ours, *rest = work.sides(family)
    sides = [ours, *(one for one in rest if not (work.quick and one.is_ours))]
    times: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
    memory: dict[str, dict[str, int]] = {}
    whole: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for model in sides:
        if model.is_ours:
            with suppress(ValueError, OSError):  # said below
                Child(model, shape, 2, 1024).close()  # packed once, which no row tells
    for _ in range(work.repeat):
        for kind, taken in times.items():
            for model in sides:
                tell(f"{shape} {model.name}, {kind}")
                try:
                    with Child(model, shape, 2, 1024, cold=kind == "cold") as child:
                        taken.setdefault(model.name, []).append(child.load_seconds)
                        whole[model.name] = child.start_seconds
                        if kind == "warm":
                            child.ask(do="prefill", tokens=512)
                            memory[model.name] = child.ask(do="memory")
                except (ValueError, OSError) as error:
                    reasons[model.name] = str(error)
    for one in (side for side in sides if side.is_ours):
        for kind, taken in times.items():
            yield load_row(f"cpu.{shape}.{one.name}.load.{kind}", one, sides, taken, reasons, whole)
        yield memory_row(shape, one, sides, memory, reasons)


def load_row(
    metric: str, one: Model, sides: Sequence[Model], taken: Mapping[str, list[float]],
    reasons: Mapping[str, str], whole: Mapping[str, float],
) -> Row:  # fmt: skip
    made = row(metric, taken.get(one.name, []), "s")
    made.peers = {
        peer.name: statistics.median(taken[peer.name]) if peer.name in taken else None
        for peer in sides
        if not peer.is_ours
    }
    known = [value for value in made.peers.values() if value is not None]
    if known and made.value:
        made.ratio = min(known) / made.value
    if metric.startswith("cpu.1b.") and metric.endswith("warm"):
        made.goal = "<=0.3 s and before every peer"
        if made.value is not None and (made.value > 0.3 or known):
            made.holds = made.value <= 0.3 and made.value < min(known)
    notes = [f"imports done, to the first token of a prompt of {FIRST}"]
    notes += [f"{name}: {why}" for name, why in reasons.items() if name in made.peers]
    notes += [f"not measured: {reasons[one.name]}"] if one.name in reasons else []
    shown = {one.name, *made.peers}
    notes.append(
        "with interpreter and imports: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in whole.items() if name in shown)
    )
    made.note = "; ".join(notes)
    return made


def memory_row(
    shape: str, one: Model, sides: Sequence[Model], memory: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, str],
) -> Row:  # fmt: skip
    made = Row(f"cpu.{shape}.{one.name}.memory.peak", None, "MB")
    made.peers = {
        peer.name: memory[peer.name]["VmHWM"] / 1e6 if peer.name in memory else None
        for peer in sides
        if not peer.is_ours
    }
    path = one.path(shape)
    if one.name not in memory or isinstance(path, str):
        made.note = f"not measured: {reasons.get(one.name, path)}"
        return made
    mine = memory[one.name]
    made.value = mine["VmHWM"] / 1e6
    known = [value for value in made.peers.values() if value is not None]
    made.ratio = min(known) / made.value if known else None
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    packed = sum(each.stat().st_size for each in files)
    bound = (packed + mine["kv"] + OVERHEAD) / 1e6
    made.goal, made.holds = f"<={bound:.0f}", made.value <= bound
    made.note = (
        f"whole process, files mapped included, after a prompt of 512; weights {packed / 1e6:,.0f}"
        f" MB, keys and values {mine['kv'] / 1e6:,.0f} MB; of the process's own in the end "
        f"{mine['RssAnon'] / 1e6:,.0f} MB"
    )
    return made
