"""Whether a call draws from the random generators that a whole process shares."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from llama_core.testing.verdict import check

REPEATS = 100  # of a call that must always give the same: what differs once in 20 is found


@contextmanager
def own_dice_only(remedy: str) -> Iterator[None]:
    """Fail where the block draws from, or seeds, the generator of `random` or `numpy.random`.

    Looking at their states finds a draw that hardly ever changes anything.
    """
    __tracebackhide__ = True
    before = _states()
    yield
    moved = [name for name, state in _states().items() if state != before[name]]
    check(
        not moved,
        f"it draws from the generator of {' and '.join(moved)}, which all of the process shares, "
        f"or seeds it. {remedy}",
    )


def repeated(call: Callable[[], Any]) -> list[Any]:
    """What a call gives, many times over."""
    return [call() for _ in range(REPEATS)]


def _states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "random": random.getstate(),
        "numpy.random": (name, np.asarray(keys).tobytes(), *rest),
    }
