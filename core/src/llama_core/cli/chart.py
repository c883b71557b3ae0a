"""Curves over a number, drawn as SVG: panels below each other, each with axes and a legend.

It knows numbers and words only, and writes strings. A gap is left where a value is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 46  # margins within it
COLOURS = ("#2563eb", "#d97706", "#059669", "#be185d")
INK, PALE = "#0f172a", "#cbd5e1"


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_y: bool = False  # values of 0 and below are gaps


def svg(panels: Sequence[Panel]) -> str:
    """The whole picture."""
    body = "\n".join(_panel(panel, number * HEIGHT) for number, panel in enumerate(panels))
    size = f'width="{WIDTH}" height="{len(panels) * HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {WIDTH} {len(panels) * HEIGHT}" font-family="sans-serif" font-size="11">\n'
        f'<rect {size} fill="white"/>\n{body}\n</svg>\n'
    )


def _panel(panel: Panel, top: int) -> str:
    def height(y: float) -> float:
        return math.log10(y) if panel.log_y else y

    def shown(y: float) -> bool:
        return math.isfinite(y) and (y > 0 or not panel.log_y)

    drawn = [[(x, height(y)) for x, y in c.points if shown(y)] for c in panel.curves]
    every = [point for points in drawn for point in points]
    parts = [_text(LEFT, top + 20, panel.title, size=13)]
    if not every:
        return "\n".join([*parts, _text(LEFT, top + HEIGHT // 2, "nothing to draw")])
    (x0, x1), (y0, y1) = (_range([p[axis] for p in every]) for axis in (0, 1))
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * across,
            top + TOP + (y1 - y) / (y1 - y0) * down,
        )

    for y in _ticks(y0, y1):
        _, at = place(x0, y)
        parts.append(f'<path d="M{LEFT} {at:.1f}h{across}" stroke="{PALE}"/>')
        label = f"{10**y:.3g}" if panel.log_y else f"{y:.4g}"
        parts.append(_text(LEFT - 6, at + 4, label, anchor="end"))
    for x in _ticks(x0, x1):
        at, _ = place(x, y0)
        parts.append(_text(at, top + HEIGHT - BOTTOM + 16, f"{x:.4g}", anchor="middle"))
    parts.append(_text(LEFT + across / 2, top + HEIGHT - 8, panel.x_label, anchor="middle"))
    parts.append(_text(LEFT, top + 34, panel.y_label))
    for number, (curve, points) in enumerate(zip(panel.curves, drawn, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        row = top + 20 + 14 * number
        parts.append(_text(WIDTH - RIGHT, row, curve.name, colour=colour, anchor="end"))
    return "\n".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within the range."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _text(
    x: float, y: float, words: str, *, size: int = 11, colour: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )
