"""What can happen in a story: each plot tells itself and writes down what is true in it."""

from __future__ import annotations

from collections.abc import Callable

from recipe.corpus.plots import company, journeys, losses, works
from recipe.corpus.world import Story

PLOTS: dict[str, Callable[[Story], None]] = {
    **losses.PLOTS,
    **company.PLOTS,
    **journeys.PLOTS,
    **works.PLOTS,
}
