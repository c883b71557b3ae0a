"""The protocol's page says everything that the protocol has."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control import app, connection, hub, protocol, server
from llama_plugin_train.loop.commands import DIALS, KINDS
from llama_plugin_train.loop.events import Event

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "train-control.md"


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip("only in the repository")
    return PAGE.read_text("utf-8")


def test_every_route_command_and_dial_is_there(page: str) -> None:
    for rule in app.RULES:
        assert f"`{rule.method.replace('WEBSOCKET', 'WebSocket')} {rule.path}" in page
    assert [name for name in KINDS if f"| `{name}` |" not in page] == []
    assert [
        name for name, dial in DIALS.items() if f"| `{name}` | {dial.meaning} |" not in page
    ] == []


def test_every_event_is_there_with_its_fields(page: str) -> None:
    lines = {kind.kind: [f.name for f in fields(kind)] for kind in Event.__subclasses__()}
    assert set(lines) >= {"started", "step", "change", "ended"}
    for kind, names in lines.items():
        (row,) = [each for each in page.splitlines() if each.startswith(f"| `{kind}` |")][-1:]
        assert [name for name in names if name != "step" and f"`{name}`" not in row] == [], kind


def test_its_numbers_are_the_code_s(page: str) -> None:
    assert f"the last {hub.KEPT_EVENTS} are" in page
    assert f"when {hub.QUEUE_LENGTH} messages wait" in page
    assert f"up to {hub.REPLAYED_EVENTS} of those" in page
    assert f"The last {hub.KEPT_ANSWERS} answers" in page
    assert f"{hub.MOST_WAITING} have not taken effect" in page
    assert f"at most {protocol.MESSAGE_BYTES >> 10} KiB" in page
    assert f"at most M ({app.MOST_EVENTS})" in page
    assert f"at most {protocol.MOST_WAIT_SECONDS:g};" in page
    assert f"Version {protocol.VERSION};" in page
    assert f"has {connection.HEAD_SECONDS:g} seconds for the head" in page
    assert f"While {server.MOST_CONNECTIONS} are open" in page
    pings = f"{server.PING_SECONDS:g} seconds"
    assert f"pinged every {pings}, and closed {pings} after" in page


def begun(stage: Any, program: str) -> subprocess.Popen[str]:
    """A program that has told the run something, which has not taken effect yet."""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while not stage.hub.state()["waiting"]:
        assert child.poll() is None
        time.sleep(0.01)
    return child


def test_its_programs_run(
    page: str, stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config").symlink_to(stage.folder)
    monkeypatch.chdir(tmp_path)
    asking, listening = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    with begun(stage, asking) as child:
        stage.run.walk(0)
        said, _ = child.communicate(timeout=20)
    assert said.splitlines() == ["0", "0", "1 started", "2 change"]

    with begun(stage, listening) as child:
        stage.run.walk(2)
        stage.run.end()
        stage.server.close()
        said, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert said.splitlines() == ["received ", "done ", "1 4.0", "2 2.0"]
    assert stage.run.rate == 1e-4
