"""Events in words and small pictures, for people. Knows the objects for JSON, and no terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from llama_core.errors import plain

_BLOCKS = "▁▂▃▄▅▆▇█"


def line(event: Mapping[str, Any]) -> str | None:
    """One line for an event, or None where it is not worth one."""
    say = _LINES.get(str(event.get("event")))
    return None if say is None else say(event)


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve in one line of text: the mean of each part of it, between its own extremes."""
    good = [value for value in values if math.isfinite(value)]
    if not good or width < 1:
        return ""
    count = min(width, len(good))
    edges = [len(good) * i // count for i in range(count + 1)]
    means = [sum(good[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[0] * count
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / (high - low) * top)] for value in means)


def duration(seconds: float) -> str:
    """As a clock shows it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(num_bytes: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def speed(step: Mapping[str, Any]) -> str:
    """How fast a step went, and what it held."""
    parts = [f"{_number(step['tokens_per_second'], ',.0f')} tokens/s"]
    if step.get("utilization") is not None:
        parts.append(f"MFU {step['utilization']:.1%}")
    parts.append(size(step["memory_bytes"]))
    return "  ".join(parts)


def _number(value: float | None, how: str) -> str:
    """A number; what is not finite is null in JSON."""
    return "nan" if value is None else format(value, how)


def _preparing(e: Mapping[str, Any]) -> str:
    return f"preparing {size(e['done_bytes'])} of {size(e['total_bytes'])}"


def _started(e: Mapping[str, Any]) -> str:
    begins = f"goes on from step {e['step']}" if e["resumed"] else "begins"
    ranks = f", {e['ranks']} ranks" if e["ranks"] > 1 else ""
    return (
        f"{plain(e['run'])} {begins}: {e['parameters']:,} parameters, {e['steps']} steps of "
        f"{e['tokens_per_step']:,} tokens, {e['device']} {e['dtype']}{ranks}"
    )


def _step(e: Mapping[str, Any]) -> str:
    return (
        f"step {e['step']}  loss {_number(e['loss'], '.4f')}  rate {_number(e['rate'], '.2e')}  "
        f"norm {_number(e['gradient_norm'], '.3g')}  {speed(e)}"
    )


def _evaluation(e: Mapping[str, Any]) -> str:
    best = ", the best so far" if e["best"] else ""
    return (
        f"step {e['step']}  held out: loss {_number(e['loss'], '.4f')}, "
        f"perplexity {_number(e['perplexity'], '.2f')}{best}"
    )


def _sample(e: Mapping[str, Any]) -> str:
    return f"step {e['step']}  {plain(e['prompt'], 60)} → {plain(e['text'], 400)}"


def _checkpoint(e: Mapping[str, Any]) -> str:
    return f"step {e['step']}  checkpoint in {e['seconds']:.1f} s: {plain(e['location'], 200)}"


def _change(e: Mapping[str, Any]) -> str:
    told = "".join(f" {key}={plain(value)}" for key, value in e["arguments"].items())
    again = " (again, from the log)" if e["replayed"] else ""
    refused = f": refused, {plain(e['error'], 200)}" if e["error"] else ""
    return f"step {e['step']}  {e['command']}{told}{again}{refused}"


def _warning(e: Mapping[str, Any]) -> str:
    return f"step {e['step']}  {e['what']}: {plain(e['message'], 400)}"


def _paused(e: Mapping[str, Any]) -> str:
    return f"step {e['step']}  paused"


def _ended(e: Mapping[str, Any]) -> str:
    words = f"step {e['step']}  {e['reason']} after {duration(e['seconds'])}"
    if e["loss"] is not None:
        words += f", loss {e['loss']:.4f}"
    if e["error"]:
        words += f": {plain(e['error'], 400)}"
    return words


_LINES = {
    "preparing": _preparing,
    "started": _started,
    "step": _step,
    "evaluation": _evaluation,
    "sample": _sample,
    "checkpoint": _checkpoint,
    "change": _change,
    "warning": _warning,
    "paused": _paused,
    "ended": _ended,
}
