"""The process in which one side of the CPU benchmark runs, ours or a peer's: a line in, a line out.

    python -c "import cpu_peers as p, cpu_child; cpu_child.serve(p.SIDES)" '{"side": …, "path": …}'

It imports nothing but the standard library, so that every environment has it. A side is opened
once and then timed on request, in turns with others; what it times, it says itself.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

FIRST = 16  # tokens of the prompt that loading ends with


class Side(Protocol):
    """A program with a model. Its imports are done when it is made, its loading by `open`."""

    def open(self) -> None: ...

    def prefill(self, tokens: list[int]) -> float:
        """Seconds from a prompt's tokens to the first new one."""

    def decode(self, prompts: list[list[int]], steps: int) -> float:
        """Seconds a step, each giving every one of the prompts its next token."""


def tokens(count: int, vocabulary: int, seed: int) -> list[int]:
    """A prompt that was not met before, of words without a meaning to any tokenizer."""
    dice = random.Random(seed)
    return [dice.randrange(300, vocabulary) for _ in range(count)]


def serve(sides: Mapping[str, Callable[[dict[str, Any]], Side]]) -> None:
    """Open the side that the job names, say how long it took, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    job = json.loads(sys.argv[1])
    words = job["vocabulary"]
    try:
        side = sides[job["side"]](job)
        began = time.perf_counter()
        side.open()
        side.prefill(tokens(FIRST, words, 0))
        print(json.dumps({"seconds": time.perf_counter() - began}), file=answers)
    except BaseException as error:
        print(json.dumps({"error": _said(error)}), file=answers)
        raise
    for number, line in enumerate(sys.stdin, 1):
        try:
            found = _answer(side, json.loads(line), words, number * 1000)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            found = {"error": _said(error)}
        print(json.dumps(found), file=answers)


def _answer(side: Side, asked: dict[str, Any], words: int, seed: int) -> dict[str, Any]:
    match asked["do"]:
        case "prefill":
            return {"seconds": side.prefill(tokens(asked["tokens"], words, seed))}
        case "decode":
            prompts = [tokens(asked["context"], words, seed + i) for i in range(asked["sequences"])]
            return {"seconds": side.decode(prompts, asked["steps"])}
        case "memory":
            return memory() | getattr(side, "memory", dict)()
        case other:
            return getattr(side, other)(asked, seed)


def _said(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def memory() -> dict[str, int]:
    """Bytes: the highest resident so far, and what of now's is the process's own."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmHWM", "RssAnon", "RssFile"):
            found[name] = int(rest.split()[0]) * 1024
    return found
