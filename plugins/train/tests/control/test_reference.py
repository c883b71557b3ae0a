"""The protocol's page says everything that the protocol has."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control import app, hub, protocol
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
