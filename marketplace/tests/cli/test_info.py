"""What `info` shows of a README, which a stranger wrote."""

from __future__ import annotations

from typing import Any

import pytest
from operating import Operator, record

from llama_core.cli.app import run

from .test_operating import NAME, Shell, shell

__all__ = ["shell"]  # the fixture


def test_what_steers_a_terminal_is_left_out_of_a_readme(
    shell: Shell, operator: Operator, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.publish(record(readme="# Use\r\n\r\n\x1b]0;owned\x07safe \u202efdp.exe\tgrün\n"))
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)
    assert run(["marketplace", "info", NAME]) == 0
    assert capsys.readouterr().out.endswith("# Use\n\n]0;ownedsafe fdp.exe\tgrün\n")
