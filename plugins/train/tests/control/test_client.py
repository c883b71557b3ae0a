"""What the commands that speak to a run meet: none, a dead one, a stranger, one that runs."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control import past
from llama_plugin_train.control.address import Address, read_address
from llama_plugin_train.control.client import Control, ControlError, NotRunning
from llama_plugin_train.runs import RunError

from .conftest import Stage


@contextmanager
def stranger(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Something else that took the port, and the requests it saw."""
    seen: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_run_is_told_and_answers(stage: Stage) -> None:
    control = Control.of(stage.folder)
    assert control.state()["run"] == "rehearsal"
    assert control.tell("pause")["reply"] == "received"
    stage.run.walk()
    assert control.tell("resume", wait_seconds=0)["reply"] == "received"
    assert [one["event"] for one in control.events()["events"]] == ["started", "change", "paused"]
    with pytest.raises(ControlError, match="Did you mean 'pause'") as wrong:
        control.tell("pauze")
    assert wrong.value.code == "message_invalid"


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        Control.of(tmp_path)


def test_a_run_that_does_not_listen(folder: Path) -> None:
    with pytest.raises(NotRunning, match=r"not running.*llama train --resume"):
        Control.of(folder)


def test_a_run_whose_process_is_gone(stage: Stage) -> None:
    stage.run.end()
    stage.server.close()
    stage.server.address.write(stage.folder)
    with pytest.raises(NotRunning, match=f"its process {os.getpid()} is gone without a word"):
        Control.of(stage.folder)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"status": "ok"}', b"{}"])
def test_somebody_else_on_the_port_is_no_run(folder: Path, body: bytes) -> None:
    with stranger(body) as (url, seen):
        Address(url, "token", 1).write(folder)
        with pytest.raises(ControlError, match=r"is no run|does not speak"):
            Control.of(folder)
    assert seen == ["/v1/run"]


def test_a_later_version_is_said(folder: Path) -> None:
    body = json.dumps({"protocol": "llama-train-control", "version": 2}).encode()
    with stranger(body) as (url, _):
        Address(url, "token", 1).write(folder)
        with pytest.raises(ControlError, match="does not speak llama-train-control 1"):
            Control.of(folder)


def test_a_token_of_another_run_is_refused(stage: Stage) -> None:
    Address(stage.url, "llc_another", 1).write(stage.folder)
    with pytest.raises(ControlError, match="not a key of this server") as wrong:
        Control.of(stage.folder)
    assert wrong.value.code == "invalid_api_key"


@pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")
def test_an_address_that_others_can_read_is_not_used(stage: Stage) -> None:
    (stage.folder / "control.json").chmod(0o644)
    with pytest.raises(RunError, match=r"open to other users \(mode 0644\).*chmod 600"):
        Control.of(stage.folder)


@pytest.mark.parametrize(
    "said",
    [
        {"url": "http://evil.example:80", "token": "t", "process": 1},
        {"url": "https://127.0.0.1:80", "token": "t", "process": 1},
        {"url": "http://127.0.0.1", "token": "t", "process": 1},
        {"url": "http://127.0.0.1:99999", "token": "t", "process": 1},
        {"url": "http://127.0.0.1:80", "token": "t\r\nX: y", "process": 1},
        {"url": "http://127.0.0.1:80", "token": 7, "process": 1},
        {"url": "http://127.0.0.1:80", "token": "t"},
        [],
        "nonsense",
    ],
)
def test_the_token_goes_nowhere_but_to_this_machine(tmp_path: Path, said: Any) -> None:
    file = tmp_path / "control.json"
    file.write_text(json.dumps(said))
    file.chmod(0o600)
    with pytest.raises(RunError, match="is no address of a run on this machine") as wrong:
        read_address(tmp_path)
    assert "evil" not in str(wrong.value)


def test_how_a_run_stands_that_does_not_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert past.state(run, past.records(run))["state"] == "not started"
    started = {"event": "started", "step": 0, "steps": 9}
    steps = [{"event": "step", "step": n, "loss": 9.0 - n} for n in range(1, 5)]
    change = {"event": "change", "step": 2, "command": "set", "arguments": {"clip": 2.0}}
    told = [started, *steps[:2], {**change, "error": None}, *steps[2:]]
    lines = [json.dumps(one) for one in told]
    (run / "metrics.jsonl").write_text("\n".join(lines) + '\n{"event": "st')  # killed on the way
    found = past.records(run)
    stands = past.state(run, found)
    assert (stands["state"], stands["step"]) == ("interrupted", 4)
    assert stands["settings"] == {"clip": 2.0}
    assert past.losses(found) == [8.0, 7.0, 6.0, 5.0]

    lines += [json.dumps({"resumed_at": 2}), json.dumps({**steps[2], "loss": 1.0})]
    lines += [json.dumps({"event": "ended", "step": 3, "reason": "stopped"})]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = past.records(run)
    assert past.losses(found) == [8.0, 7.0, 1.0]
    assert past.state(run, found)["state"] == "ended"
