"""How a run that does not run stands, by what it wrote: the same words as one that does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_plugin_train.control.hub import LATEST
from llama_plugin_train.control.protocol import PROTOCOL, VERSION
from llama_plugin_train.runs.directory import effective
from llama_plugin_train.runs.journal import Journal


def losses(records: list[Mapping[str, Any]]) -> list[float]:
    """The curve of the loss."""
    steps = (one for one in records if one.get("event") == "step")
    return [one["loss"] for one in steps if one["loss"] is not None]


def records(run: Path) -> list[Mapping[str, Any]]:
    """What a run told, as if it had never been interrupted."""
    return list(effective(Journal(run / "metrics.jsonl").read()))


def state(run: Path, told: list[Mapping[str, Any]]) -> dict[str, Any]:
    """As the hub of a run tells it; `interrupted` is one that ended without a word."""
    latest: dict[str, Any] = dict.fromkeys(LATEST.values())
    started = ended = None
    settings: dict[str, Any] = {}
    step = 0
    for one in told:
        kind = one.get("event")
        if kind == "started":
            started, ended = one, None
        elif kind == "ended":
            ended = one
        elif kind == "change" and one["command"] == "set" and one["error"] is None:
            settings.update(one["arguments"])
        elif kind in latest:
            latest[str(kind)] = one
        step = one.get("step", step)
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "run": str(run),
        "process": None,
        "state": "ended" if ended else "interrupted" if started else "not started",
        "step": step,
        "settings": settings,
        "started": started,
        "ended": ended,
        "latest": latest,
        "sequence": 0,
        "waiting": [],
    }
