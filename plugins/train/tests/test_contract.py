"""The conformance suites of the command and the launcher, and what the command's words promise."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")
if not entry_points(group="llama_core", name="train"):
    pytest.skip("llama-plugin-train is not installed", allow_module_level=True)

from llama_plugin_train.cli.command import train

from llama_core.testing import CommandContract, LauncherContract


class TestCommand(CommandContract):
    provides = "train"


@pytest.mark.slow  # each of a dozen jobs starts an agent, which imports torch
class TestLauncher(LauncherContract):
    provides = "torchrun"


def test_every_command_has_an_example_and_speaks_json() -> None:
    assert set(train.commands) == {
        "init", "run", "status", "pause", "resume", "stop", "set", "save", "evaluate", "sample",
    }  # fmt: skip
    for command in train.commands.values():
        assert (command.epilog or "").startswith("Example: llama train ")
        assert "--json" in {name for each in command.params for name in each.opts}
