"""The folder's map: every module is on it, and what it says of who imports whom is so."""

from __future__ import annotations

import re
from pathlib import Path

import llama_core.engine

GROUPS = [
    set(re.findall(r"[a-z]+", line.partition(":")[2]))
    for line in (llama_core.engine.__doc__ or "").split("\n- ")[1:]
]
FOLDER = Path(llama_core.engine.__file__).parent


def test_every_module_is_on_the_map() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert not modules - set().union(*GROUPS)
    assert len(GROUPS) == 5


def test_the_first_three_groups_import_nothing_of_the_last_two() -> None:
    for module in set().union(*GROUPS[:3]) - set().union(*GROUPS[3:]):
        path = FOLDER / f"{module}.py"
        text = path.read_text("utf-8") if path.is_file() else ""  # a word between the names
        found = set(re.findall(r"^from llama_core\.engine\.(\w+) import", text, re.MULTILINE))
        assert not found & set().union(*GROUPS[3:]), module
