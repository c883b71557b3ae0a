"""A plugin's command is had quickly where nothing has changed, and as before where anything has."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import pytest

from llama_core import plugins

from .conftest import COMMAND, Llama

PROVIDES = [{"kind": "command", "name": "greet", "api": 1, "summary": "Say hello."}]
QUICK = """
import sys
from llama_core.cli import app
code = app.run(sys.argv[1:])
print("quick" if "llama_core.plugins" not in sys.modules else "whole")
sys.exit(code)
"""


def greet(llama: Llama, **env: str) -> tuple[str, str]:
    """What the command printed, and whether the catalogue was asked; then what was announced."""
    with patch.object(plugins, "Plugins", wraps=plugins.Plugins) as catalogue:
        done = llama("greet", env=env)
    asked = "whole" if catalogue.called else "quick"
    return " ".join([*done.out.split(), asked]), done.err


@pytest.fixture
def lender(llama: Llama) -> Llama:
    code = {"llama_plugin_lender/__init__.py": COMMAND}
    llama.site.add("lender", {"provides": PROVIDES}, code)
    assert greet(llama)[0] == "hello whole"
    assert greet(llama)[0] == "hello quick"
    return llama


def test_what_is_had_quickly_spares_the_import_of_the_catalogue(llama: Llama) -> None:
    code = {"llama_plugin_lender/__init__.py": COMMAND}
    llama.site.add("lender", {"provides": PROVIDES}, code)
    for heard in ("hello whole", "hello quick"):
        command = [sys.executable, "-c", QUICK, "greet"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=llama.env, cwd=llama.project
        )
        assert " ".join(done.stdout.split()) == heard, done.stderr


def test_code_that_changed_is_checked_again(lender: Llama) -> None:
    source = lender.site.folder / "llama_plugin_lender" / "__init__.py"
    source.write_text(COMMAND.replace('"hello"', '"good day"'))
    assert greet(lender)[0] == "good day whole"
    assert greet(lender)[0] == "good day quick"
    source.write_text(COMMAND.replace("llama_add_command", "llama_add_commando"))
    assert "no hook llama_add_commando" in greet(lender)[1]


def test_other_settings_are_another_state(lender: Llama) -> None:
    assert greet(lender, LLAMA_CORE_PLUGINS="lender")[0] == "hello whole"
    assert greet(lender, LLAMA_CORE_STRICT="1")[0] == "hello whole"
    assert greet(lender, LLAMA_CORE_PLUGINS_PREFER="command.greet=lender")[0] == "hello whole"


def test_a_new_plugin_is_seen_and_what_is_wrong_with_it_is_said_each_time(lender: Llama) -> None:
    lender.site.add("broken", {"provides": [{"kind": "no-such-kind", "name": "x", "api": 1}]})
    for _ in range(3):
        out, said = greet(lender)
        assert out == "hello whole"
        assert "plugin 'broken' is left out" in said


def test_a_second_plugin_with_the_command_is_said_each_time(lender: Llama) -> None:
    code = {"llama_plugin_zother/__init__.py": COMMAND}
    lender.site.add("zother", {"provides": PROVIDES}, code)
    for _ in range(3):
        assert "also provided by 'zother'" in greet(lender)[1]


def test_a_plugin_that_fails_later_is_blamed_as_ever(lender: Llama) -> None:
    """What it imports is gone: its own file is as it was."""
    package = lender.site.folder / "llama_plugin_lender"
    (package / "words.py").write_text("HELLO = 1\n")
    source = package / "__init__.py"
    source.write_text("from llama_plugin_lender import words\n" + COMMAND)
    assert [greet(lender)[0] for _ in range(2)] == ["hello whole", "hello quick"]
    (package / "words.py").write_text("1 / 0\n")
    _, said = greet(lender)
    assert "plugin 'lender' is quarantined" in said
    assert "ZeroDivisionError" in said


def test_junk_in_the_cache_costs_only_time(lender: Llama) -> None:
    (file,) = (lender.root / "cache" / "llama-core" / "discovered").glob("command-*.json")
    for junk in (b"", b"[]", b'{"plugin": "lender", "state": 1}', b"\xff"):
        file.write_bytes(junk)
        assert greet(lender)[0] == "hello whole"


def test_a_cache_that_cannot_be_written_costs_only_time(llama: Llama) -> None:
    llama.site.add("lender", {"provides": PROVIDES}, {"llama_plugin_lender/__init__.py": COMMAND})
    cache: Any = llama.root / "cache"
    cache.write_text("a file where the folder should be")
    assert [greet(llama)[0] for _ in range(2)] == ["hello whole"] * 2
    os.remove(cache)


def test_a_command_that_asks_for_other_plugins_gets_the_whole_of_them(llama: Llama) -> None:
    source = COMMAND.replace("(name)", "(name, plugins)")
    assert source != COMMAND
    llama.site.add("lender", {"provides": PROVIDES}, {"llama_plugin_lender/__init__.py": source})
    assert [greet(llama)[0] for _ in range(2)] == ["hello whole"] * 2
