"""What discovery remembers is what it would find: every change that matters is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .conftest import Llama

LOOK = (
    "import sys; from llama_core.discovery_cache import discover_cached; found = discover_cached();"
    "print(*(f'{one.name}={one.version}:{(one.table or {}).get(\"summary\")}' for one in found),"
    "sep='\\n'); print('scanned', 'importlib.metadata' in sys.modules)"
)


def look(llama: Llama) -> tuple[list[str], bool]:
    """What is found, and whether it had to be looked for."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        env=llama.env,
        cwd=llama.project,
    )
    assert done.returncode == 0, done.stderr
    *found, scanned = done.stdout.splitlines()
    return found, scanned == "scanned True"


def age(folder: Path) -> None:
    """Make a folder old enough that a later change must show in its time."""
    past = time.time_ns() - 10_000_000_000
    os.utime(folder, ns=(past, past))


def settled(llama: Llama) -> None:
    age(llama.site.folder)
    age(llama.project)
    look(llama)


PROVIDES = {"provides": [{"kind": "transform", "name": "one", "api": 1}]}


def test_the_second_look_does_not_scan(llama: Llama) -> None:
    llama.site.add("one", {**PROVIDES, "summary": "first"})
    settled(llama)
    found, scanned = look(llama)
    assert "one=0.1.0:first" in found
    assert not scanned


def test_a_new_and_a_removed_plugin_are_noticed(llama: Llama) -> None:
    llama.site.add("one", {**PROVIDES, "summary": "first"})
    settled(llama)
    llama.site.add("two", {**PROVIDES, "summary": "second"})
    assert "two=0.1.0:second" in look(llama)[0]
    settled(llama)
    for folder in llama.site.folder.glob("*two*"):
        shutil.rmtree(folder)
    assert not any(one.startswith("two") for one in look(llama)[0])


def test_an_edited_manifest_is_noticed(llama: Llama) -> None:
    package = llama.site.add("one", {**PROVIDES, "summary": "first"})
    settled(llama)
    manifest = package / "plugin.toml"
    manifest.write_text(manifest.read_text().replace("first", "other"))  # of the same length
    assert "one=0.1.0:other" in look(llama)[0]


def test_a_broken_plugin_is_looked_at_again_each_time(llama: Llama) -> None:
    llama.site.add("one", b"\xff")
    settled(llama)
    assert look(llama)[1]


def test_a_folder_changed_this_instant_is_not_trusted(llama: Llama) -> None:
    llama.site.add("one", {**PROVIDES, "summary": "first"})
    look(llama)
    assert look(llama)[1]


def test_a_damaged_entry_is_ignored(llama: Llama) -> None:
    llama.site.add("one", {**PROVIDES, "summary": "first"})
    settled(llama)
    (entry,) = (llama.root / "cache" / "llama-core" / "discovered").iterdir()
    whole = entry.read_text()
    for text in ("", "{", "[]", '{"places": []}', whole.replace('"dist"', '"dits"'), "null"):
        entry.write_text(text)
        found, scanned = look(llama)
        assert "one=0.1.0:first" in found
        assert scanned


def test_a_cache_that_cannot_be_written_costs_only_time(llama: Llama) -> None:
    llama.site.add("one", {**PROVIDES, "summary": "first"})
    (llama.root / "cache").write_text("a file where the folder should be")
    age(llama.site.folder)
    assert "one=0.1.0:first" in look(llama)[0]
    assert llama("--help").code == 0
