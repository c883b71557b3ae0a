"""What `llama eval` says of a text: as an object, as lines, as curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from llama_core.cli.chart import Curve, Panel, svg
from llama_core.engine.evaluate import Divergence, Estimate, Prediction, Text

BUCKETS = 32  # points of a curve over the positions of a window


def facts(
    text: Text, own: Prediction, base: Prediction | None, strayed: Divergence | None
) -> dict[str, Any]:
    windows, length = text.windows_WN.shape
    facts: dict[str, Any] = {
        "text": {
            "windows": windows,
            "window": length,
            "begins_with_bos": text.begins,
            "scored_tokens": own.nll_WP.size,
            "left_out_tokens": text.left_out,
        },
        "model": _predicted(own),
    }
    if base is not None and strayed is not None:
        facts["against"] = _predicted(base)
        facts["comparison"] = {
            "kld": {
                **_plain(asdict(strayed.kld)),
                "max": _finite(float(strayed.kld_WP.max())),
                "percentiles": _plain(strayed.percentiles()),
            },
            "same_top": _plain(asdict(strayed.same_top)),
            "nll_difference": _plain(asdict(strayed.nll_difference)),
            "perplexity_ratio": _finite(strayed.perplexity_ratio),
        }
    return facts


def _predicted(one: Prediction) -> dict[str, Any]:
    return {
        "name": one.name,
        "backend": one.backend,
        "rewrites": list(one.rewrites),
        "perplexity": _finite(one.perplexity),
        "perplexity_error": _finite(one.perplexity * one.nll.error),
        "nll": _plain(asdict(one.nll)),
    }


def _plain(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if x is None else _finite(x) for name, x in numbers.items()}


def _finite(x: float) -> float | None:
    """JSON has no infinity."""
    return x if math.isfinite(x) else None


def lines(
    text: Text, own: Prediction, base: Prediction | None, strayed: Divergence | None
) -> Iterator[str]:
    windows, length = text.windows_WN.shape
    begun = "each begun with BOS" if text.begins else "none begun with BOS"
    yield (
        f"{windows} windows of {length} tokens, {begun}; {own.nll_WP.size} tokens scored, "
        f"{text.left_out} left out at the end"
    )
    for each in (own, base):
        if each is not None:
            how = ", ".join((each.backend, *each.rewrites))
            role = "the base, " if each is base else ""
            yield f"perplexity   {_shown(each.nll, each.perplexity)}   {role}{each.name} ({how})"
    if base is None or strayed is None:
        return
    ratio = strayed.perplexity_ratio
    yield f"ratio        {_shown(strayed.nll_difference, ratio)}   paired, token by token"
    yield f"mean KLD     {_shown(strayed.kld)}   nats, of the base from the model"
    parts = [f"{name}% {value:.3g}" for name, value in strayed.percentiles().items()]
    yield f"KLD          {'  '.join(parts)}  max {strayed.kld_WP.max():.3g}"
    yield f"same top     {_shown(strayed.same_top, unit=100, digits=4)} %"


def _shown(
    estimate: Estimate, value: float | None = None, unit: float = 1.0, digits: int = 5
) -> str:
    """A mean, or the exponential of it, with both its errors."""
    by = unit if value is None else value  # the error of exp(x) is exp(x) times that of x
    middle = estimate.mean * unit if value is None else value
    said = f"{middle:.{digits}g} ± {by * estimate.error:.2g}"
    if estimate.error_by_window is not None:
        said += f" (± {by * estimate.error_by_window:.2g} by windows)"
    return said


def drawn(own: Prediction, base: Prediction | None, strayed: Divergence | None) -> str:
    both = [("", own)] if base is None else [("", own), ("the base, ", base)]
    curves = [
        Curve(f"{role}{one.name} ({', '.join((one.backend, *one.rewrites))})",
              _by_position(one.nll_WP))
        for role, one in both
    ]  # fmt: skip
    panels = [Panel("Surprise by position", "tokens before", "nats a token", curves)]
    if strayed is not None:
        ordered = sorted(strayed.kld_WP.reshape(-1).tolist())
        most = len(ordered) - 1
        steps = sorted({round(most * i / 200) for i in range(201)})
        points = [(100 * i / max(most, 1), ordered[i]) for i in steps]
        curve = Curve("KLD", points)
        panels.append(Panel("Divergence", "percentile of tokens", "nats", [curve], log_y=True))
    return svg(panels)


def _by_position(nll_WP: Any) -> list[tuple[float, float]]:
    """Means of stretches of positions, over all windows."""
    mean_P = nll_WP.mean(0).tolist()
    size = max(1, math.ceil(len(mean_P) / BUCKETS))
    cuts = range(0, len(mean_P), size)
    return [(1 + cut, sum(part) / len(part)) for cut in cuts if (part := mean_P[cut : cut + size])]
