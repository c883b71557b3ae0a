"""The one shape in which every benchmark here reports: machine, versions, command, rows.

A row says its metric, value, unit, spread, goal and whether it holds, and beside it the peers
measured in the same run. A row that could not be measured says so in its note; none is left out.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One measured figure."""

    metric: str
    value: float | None
    unit: str
    spread: tuple[float, float] | None = None  # smallest and largest of the repetitions
    goal: str | None = None  # as in "<=40"
    holds: bool | None = None
    peers: dict[str, float | None] = field(default_factory=dict)
    ratio: float | None = None  # ours against the best peer; above 1 is better
    fraction_of_limit: float | None = None
    note: str = ""


def row(metric: str, samples: Sequence[float], unit: str, **more: Any) -> Row:
    """A row from repetitions: the median, with the range; `goal` is checked against the median."""
    value = statistics.median(samples) if samples else None
    spread = (min(samples), max(samples)) if samples else None
    made = Row(metric, value, unit, spread, **more)
    if made.goal and value is not None:
        bound = float(made.goal.lstrip("<>="))
        made.holds = value <= bound if made.goal.startswith("<=") else value >= bound
    return made


def lower_is_better(made: Row) -> Row:
    """Set the ratio against the best peer where a smaller value wins."""
    known = [value for value in made.peers.values() if value is not None]
    if known and made.value:
        made.ratio = min(known) / made.value
    return made


def machine() -> dict[str, Any]:
    """What it was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": cores,
        "memory_gib": round(memory / 2**30, 1),
        "gpu": None,
        "system": platform.platform(),
    }


def versions(*packages: str) -> dict[str, str | None]:
    """The versions of Python and of the packages named, None for those not here."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def publish(name: str, rows: Sequence[Row], *, as_json: bool, versions: dict[str, Any]) -> None:
    """Print the report: one JSON object, or a table for people."""
    made = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions,
        "command": shlex.join(["python", *sys.argv]),
        "rows": [asdict(each) for each in rows],
    }
    if as_json:
        print(json.dumps(made, indent=2))
        return
    for each in rows:
        shown = "not measured" if each.value is None else f"{each.value:,.4g} {each.unit}"
        verdict = {True: "holds", False: "MISSED", None: ""}[each.holds]
        goal = f"goal {each.goal} {verdict}" if each.goal else ""
        peers = ", ".join(
            f"{name} -" if value is None else f"{name} {value:,.4g}"
            for name, value in each.peers.items()
        )
        print(f"{each.metric:42} {shown:>16}  {goal:22} {peers}  {each.note}".rstrip())


def environment(name: str, *requirements: str) -> Path | str:
    """A virtual environment for a peer, made once; its Python, or why it could not be made."""
    folder = Path(__file__).parent / ".envs" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    whole, wanted = folder / ".whole", "\n".join(requirements)
    if whole.is_file() and whole.read_text("utf-8") == wanted:
        return python
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", *requirements],
    ]
    for command in commands:
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            return (made.stderr.strip().splitlines() or ["no message"])[-1]
    whole.write_text(wanted, "utf-8")
    return python
