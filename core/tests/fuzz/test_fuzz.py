"""Every parser, given what a fuzzer that knows its format makes up, keeps within its bounds."""

from __future__ import annotations

import pytest

from .bounds import COUNTS
from .inputs import STRATEGIES, inputs_of
from .parsers import PARSERS


def test_every_parser_has_inputs() -> None:
    assert STRATEGIES.keys() == PARSERS.keys()


@pytest.mark.parametrize("name", PARSERS)
def test_any_input_is_read_or_refused(name: str) -> None:
    """And both happen: a fuzzer whose inputs are all refused at the door tests the door."""
    inputs_of(name)()
    counts = COUNTS[name]
    assert counts.accepted >= 300, counts
    assert counts.refused >= 300, counts
