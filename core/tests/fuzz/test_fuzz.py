"""Every parser, given what a fuzzer that knows its format makes up, keeps within its bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llama_core.errors import LlamaError

from .bounds import COUNTS, MEMORY_BYTES, Counts, check
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


def fails(_: bytes) -> None:
    raise IndexError("list index out of range")


def refuses_at_length(data: bytes) -> None:
    raise LlamaError(repr(data) * 30_000)


def keeps_too_much(_: bytes) -> None:
    kept.append(bytes(MEMORY_BYTES + 100))


kept: list[bytes] = []


@pytest.mark.parametrize("parser", [fails, refuses_at_length, keeps_too_much])
def test_the_check_is_able_to_say_no(
    monkeypatch: pytest.MonkeyPatch, parser: Callable[[bytes], None]
) -> None:
    monkeypatch.setitem(PARSERS, "gguf", parser)
    monkeypatch.setitem(COUNTS, "gguf", Counts(accepted=15))  # the one of sixteen
    with pytest.raises((IndexError, AssertionError)):
        check("gguf", b"x")
    kept.clear()
