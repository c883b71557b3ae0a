"""The conformance suite of the command, and that its help imports nothing of its machinery."""

from __future__ import annotations

import subprocess
import sys

from llama_core.testing import CommandContract


class TestCommand(CommandContract):
    provides = "marketplace"


def test_help_imports_no_machinery() -> None:
    code = (
        "import sys; from llama_core.cli import app; app.run(['marketplace', '--help']);"
        "print([m for m in ('tuf', 'securesystemslib', 'urllib3', 'copier') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Commands" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


class TestNew(CommandContract):
    provides = "plugins.new"


class TestCheck(CommandContract):
    provides = "plugins.check"
