"""Pictures of curves: valid SVG, every point within its panel, gaps where there is no number."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from llama_core.cli.chart import HEIGHT, WIDTH, Curve, Panel, svg


def points(text: str) -> list[list[tuple[float, float]]]:
    found = []
    for each in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}polyline"):
        pairs = [pair.split(",") for pair in each.attrib["points"].split()]
        found.append([(float(x), float(y)) for x, y in pairs])
    return found


def words(text: str) -> list[str]:
    every = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    return [str(each.text) for each in every]


def test_points_lie_within_their_panel_and_higher_is_higher() -> None:
    rising = Curve("rising", [(0, 1.0), (5, 2.0), (10, 4.0)])
    flat = Curve("flat", [(0, 3.0), (10, 3.0)])
    panel = Panel("one <two>", "steps", "loss & more", [rising, flat])
    text = svg([panel, panel])
    up, level, *below = points(text)
    assert [x for x, _ in up] == sorted(x for x, _ in up)
    assert up[0][1] > up[1][1] > up[2][1]
    assert level[0][1] == level[1][1]
    for number, curves in enumerate(((up, level), below)):
        for x, y in (point for curve in curves for point in curve):
            assert 0 <= x <= WIDTH
            assert number * HEIGHT < y < (number + 1) * HEIGHT
    assert {"one <two>", "steps", "loss & more", "rising", "flat", "10", "4"} <= set(words(text))


@pytest.mark.parametrize("log_y", [False, True])
def test_what_is_no_number_is_a_gap(log_y: bool) -> None:
    curve = Curve("c", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 100.0), (4, 0.0)])
    (drawn,) = points(svg([Panel("t", "x", "y", [curve], log_y=log_y)]))
    assert len(drawn) == (2 if log_y else 3)


def test_one_value_and_none_are_drawn_too() -> None:
    (drawn,) = points(svg([Panel("t", "x", "y", [Curve("c", [(1, 5.0)])])]))
    assert len(drawn) == 1
    assert "nothing to draw" in words(svg([Panel("t", "x", "y", [Curve("c", [])])]))


def test_a_logarithmic_axis_is_labelled_with_the_values() -> None:
    curve = Curve("c", [(0, 0.001), (1, 1000.0)])
    assert {"0.01", "1", "100"} <= set(words(svg([Panel("t", "x", "y", [curve], log_y=True)])))
