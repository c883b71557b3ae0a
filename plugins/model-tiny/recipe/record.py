"""What is kept of a run: its metrics, thinned until they are small, and the curve drawn from them.

It reads the lines that a run of `llama train` writes, and knows nothing of the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llama_core.cli.chart import Curve, Panel, svg

Row = dict[str, Any]

MOST_BYTES = 200_000
OF_A_STEP = ("loss", "rate", "gradient_norm", "tokens", "tokens_per_second")
KEPT: Mapping[str, tuple[str, ...]] = {
    "started": ("steps", "resumed", "parameters", "tokens_per_step", "device", "dtype", "ranks"),
    "step": OF_A_STEP,
    "evaluation": ("loss", "perplexity", "tokens", "best"),
    "sample": ("prompt", "text"),
    "change": ("command", "arguments", "error"),
    "warning": ("what", "message"),
    "ended": ("reason", "loss"),
}
PATH = re.compile(r'"/(?:[^"]*?/)?(?:(runs/[^"/]+/model)|([^"/]+))"')


def read_metrics(file: Path) -> list[Row]:
    """What a run told, in the order in which it told it; of what was done again, the last."""
    found: dict[tuple[Any, ...], Row] = {}
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        if (back := row.get("resumed_at")) is not None:  # what came after that step was done again
            found = {key: one for key, one in found.items() if one["step"] <= back}
        if (kind := row.get("event")) not in KEPT:
            continue
        key = (kind, row["step"], row.get("prompt"), row.get("id"), row.get("what"))
        found.pop(key, None)
        found[key] = {"event": kind, "step": row["step"], **_picked(row, KEPT[kind])}
    return list(found.values())


def thinned(rows: Iterable[Row], most_bytes: int = MOST_BYTES) -> str:
    """The rows as JSON lines, with only so many of the steps that they stay small."""
    rows = list(rows)
    steps = [row for row in rows if row["event"] == "step"]
    every = 1
    while True:
        kept = {id(row) for row in [*steps[::every], *steps[-1:]]}
        chosen = (row for row in rows if row["event"] != "step" or id(row) in kept)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        if len(text.encode()) <= most_bytes or every > len(steps):
            return text
        every *= 2


def drawn(rows: Iterable[Row]) -> str:
    """The losses over the steps, as SVG."""
    rows = list(rows)
    curves = [
        Curve(name, [(row["step"], row["loss"]) for row in rows if row["event"] == event])
        for name, event in (("trained on", "step"), ("held out", "evaluation"))
    ]
    return svg([Panel("Loss", "step", "nats a token", curves, log_y=True)])


def without_folders(config: str) -> str:
    """A run's configuration with its files named as the recipe names them, wherever they lay."""
    return PATH.sub(lambda found: f'"../../{found[1] or f"corpus/{found[2]}"}"', config)


def _picked(row: Row, words: Iterable[str]) -> Row:
    return {word: _short(row[word]) for word in words if row.get(word) is not None}


def _short(value: Any) -> Any:
    """Six digits are what a reader or a curve can see."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
