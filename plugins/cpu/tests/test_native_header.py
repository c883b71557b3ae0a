"""The C header and its reference page: every function is documented, on both, with its statuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llama_plugin_cpu import native

HERE = Path(__file__).parents[1]
PAGE = HERE.parents[1] / "docs" / "reference" / "c-interface.md"
HEADER = (HERE / "native" / "llama_cpu.h").read_text("utf-8")
FUNCTIONS = re.findall(r"^(?:const char \*|void |int\w* )(llama_\w+)\(", HEADER, re.MULTILINE)


def test_the_header_says_something_of_every_function() -> None:
    lines = HEADER.splitlines()
    at = [
        n for n, line in enumerate(lines) if re.match(r"(const char \*|void |int\w* )llama_", line)
    ]
    assert len(at) == len(FUNCTIONS)
    bare = [lines[n] for n in at if not re.search(r"[^-] \*/$", lines[n - 1])]
    assert bare == []


def test_every_function_of_the_library_is_in_the_header() -> None:
    _, lib = native.library()
    assert len(FUNCTIONS) == len(set(FUNCTIONS))
    assert {name for name in dir(lib) if name.startswith("llama_")} == set(FUNCTIONS)


@pytest.mark.skipif(not PAGE.is_file(), reason="only in the repository")
def test_every_function_has_its_row_in_the_reference() -> None:
    rows = re.findall(r"^\| `(llama_\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == FUNCTIONS


@pytest.mark.skipif(not PAGE.is_file(), reason="only in the repository")
def test_the_statuses_of_the_reference_are_those_of_the_header() -> None:
    [listed] = re.findall(r"enum llama_status \{(.*?)\};", HEADER, re.DOTALL)
    known = set(re.findall(r"LLAMA_(\w+) = ", listed))
    rows = [row.split("|") for row in PAGE.read_text("utf-8").splitlines() if "| `llama_" in row]
    named = {name for row in rows for name in re.findall(r"`([A-Z]+)`", row[2])}
    assert named == known - {"OK"}
