"""The open door: who is let in, what is understood, and that watching costs the run nothing."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control import hub
from llama_plugin_train.loop.events import Sample
from websockets.exceptions import ConnectionClosed

from llama_core.web import WEBSOCKET

ROUTES = [("GET", "/v1/run"), ("GET", "/v1/events"), ("POST", "/v1/commands")]


def heard(stream: Any, seconds: float = 20) -> Any:
    return json.loads(stream.recv(timeout=seconds))


def until(stream: Any, wanted: Any) -> list[Any]:
    """Messages up to the first that is wanted."""
    found = [heard(stream)]
    while not wanted(found[-1]):
        found.append(heard(stream))
    return found


# ---------------------------------------------------------------- who is let in


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_api_key"),
        ({"Authorization": "Bearer llc_" + "x" * 43}, 401, "invalid_api_key"),
        ({"Authorization": "Basic eDp5"}, 401, "invalid_api_key"),
    ],
)
def test_nobody_comes_in_without_the_token(
    stage: Any, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    got, said = stage.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert (got, said["error"]["code"]) == (status, code)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("Origin", "http://evil.example", "origin_not_allowed"),
        ("Origin", "null", "origin_not_allowed"),
        ("Host", "evil.example", "host_not_allowed"),
        ("Host", "run.attacker.example:80", "host_not_allowed"),
    ],
)
def test_a_page_in_a_browser_does_not_come_in_with_it(
    stage: Any, method: str, path: str, name: str, value: str, code: str
) -> None:
    headers = {**stage.headers(), name: value}
    status, said = stage.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert (status, said["error"]["code"]) == (403, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
def test_the_stream_is_guarded_like_the_rest(
    stage: Any, headers: dict[str, str], status: int
) -> None:
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    mine = headers if status == 401 else {**stage.headers(), **headers}
    assert stage.ask("GET", "/v1/stream", None, {**handshake, **mine})[0] == status


def test_what_is_no_route_is_not_there(stage: Any) -> None:
    from llama_plugin_train.control.app import RULES

    known = {(rule.method, rule.path) for rule in RULES}
    assert known == {*ROUTES, (WEBSOCKET, "/v1/stream")}
    assert all(rule.access == "train" for rule in RULES)
    for path in ("/", "/v1", "/docs", "/openapi.json", "/v1/run/", "/v1/../v1/run"):
        assert stage.ask("GET", path)[0] == 404
    assert stage.ask("DELETE", "/v1/run")[0] == 405


def test_it_listens_on_this_machine_alone(stage: Any) -> None:
    assert stage.server._socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")
def test_the_token_is_for_its_owner_and_goes_with_the_run(stage: Any) -> None:
    file = stage.folder / "control.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["token"] == stage.token
    assert stage.token not in repr(stage.server.address)
    stage.run.end()
    stage.server.close()
    assert not file.exists()
    found = [one for one in stage.folder.rglob("*") if one.is_file()]
    assert not any(stage.token.encode() in one.read_bytes() for one in found)


# ---------------------------------------------------------------- what is understood


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "one JSON object"),
        (b"nonsense", None, "one JSON object"),
        (b"\xff\xfe\x00", None, "one JSON object"),
        (b"[1]", None, "one JSON object"),
        (b'{"command": "pause", "command": "stop"}', None, "said twice"),
        (b"[" * 20000, None, "one JSON object"),
        (b"{}", "command", "names its command"),
        (b'{"command": 7}', "command", "names its command"),
        (b'{"command": "pauze"}', "command", "Did you mean 'pause'?"),
        (b'{"command": "pause", "argumens": {}}', "argumens", "Did you mean 'arguments'?"),
        (b'{"command": "pause", "arguments": [1]}', "arguments", "is an object"),
        (b'{"command": "pause", "arguments": {"now": 1}}', "arguments", "takes no 'now'"),
        (b'{"command": "pause", "id": ""}', "id", "letters"),
        (b'{"command": "pause", "id": "a b"}', "id", "letters"),
        (b'{"command": "pause", "at": -1}', "at", "is a step"),
        (b'{"command": "pause", "at": true}', "at", "is a step"),
        (b'{"command": "pause", "wait_seconds": NaN}', None, "NaN"),
        (b'{"command": "set"}', "arguments", "nothing is set"),
        (b'{"command": "set", "arguments": {"learning_rat": 1}}', "arguments", "'learning_rate'"),
        (b'{"command": "set", "arguments": {"learning_rate": -1}}', "arguments", "from 0 to 10"),
        (b'{"command": "set", "arguments": {"learning_rate": 1e999}}', "arguments", "from 0"),
        (b'{"command": "set", "arguments": {"learning_rate": "1"}}', "arguments", "a number"),
        (b'{"command": "set", "arguments": {"clip": 1%s}}' % (b"0" * 400), "arguments", "from 0"),
        (b'{"command": "set", "arguments": {"accumulation": 0}}', "arguments", "from 1"),
        (b'{"command": "set", "arguments": {"accumulation": 1.5}}', "arguments", "whole"),
        (b'{"command": "sample", "arguments": {"prompt": 3}}', "arguments", "a text"),
    ],
)
def test_nonsense_is_refused_with_the_reason(
    stage: Any, body: bytes, param: str | None, words: str
) -> None:
    status, said = stage.ask("POST", "/v1/commands", body)
    assert status == 400
    assert said["error"]["code"] == "message_invalid"
    assert said["error"]["param"] == param
    assert words in said["error"]["message"]
    with stage.listen() as stream:
        heard(stream)
        stream.send(body)
        told = heard(stream)
        assert (told["reply"], told["id"]) == ("refused", None)
        assert words in told["error"]["message"]
    stage.run.walk()
    assert stage.ask("GET", "/v1/run")[1]["step"] == 1


def test_an_answer_that_comes_later_can_be_waited_for_over_http_alone(stage: Any) -> None:
    far = b'{"command": "pause", "wait_seconds": 1e9}'
    status, said = stage.ask("POST", "/v1/commands", far)
    assert (status, said["error"]["param"]) == (400, "wait_seconds")
    assert "from 0 to 600" in said["error"]["message"]
    with stage.listen() as stream:
        heard(stream)
        stream.send(b'{"command": "pause", "wait_seconds": 1}')
        assert "'wait_seconds'" in heard(stream)["error"]["message"]


def test_what_is_refused_on_the_stream_has_the_id_it_came_with(stage: Any) -> None:
    with stage.listen() as stream:
        heard(stream)
        stream.send(b'{"command": "set", "arguments": {"foo": 1}, "id": "w2"}')
        told = heard(stream)
        assert (told["reply"], told["id"]) == ("refused", "w2")


def test_what_is_too_large_is_not_read(stage: Any) -> None:
    large = json.dumps({"command": "sample", "arguments": {"prompt": "x" * 66_000}}).encode()
    status, said = stage.ask("POST", "/v1/commands", large)
    assert (status, said["error"]["code"]) == (413, "body_too_large")
    with stage.listen() as stream:
        heard(stream)
        stream.send(large)
        with pytest.raises(ConnectionClosed) as closed:
            heard(stream)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=1e3", "after=" + "9" * 30])
def test_numbers_in_an_address_are_numbers(stage: Any, query: str) -> None:
    status, said = stage.ask("GET", f"/v1/events?{query}")
    assert (status, said["error"]["code"]) == (400, "message_invalid")


# ---------------------------------------------------------------- what comes of it


def test_a_command_is_answered_with_the_step_of_its_effect(stage: Any) -> None:
    stage.run.walk(3)
    answers: list[Any] = []

    def tell() -> None:
        told = {"command": "set", "arguments": {"learning_rate": 0.25}, "wait_seconds": 20}
        answers.append(stage.tell(id="mine", **told))

    caller = threading.Thread(target=tell)
    caller.start()
    while not stage.hub.state()["waiting"]:
        time.sleep(0.01)
    stage.run.walk(2)
    caller.join(20)
    done = {"reply": "done", "id": "mine", "command": "set", "step": 3}
    assert answers == [(200, {**done, "arguments": {"learning_rate": 0.25}})]
    state = stage.ask("GET", "/v1/run")[1]
    assert state["settings"] == {"learning_rate": 0.25}
    assert state["latest"]["step"]["rate"] == 0.25


def test_who_does_not_wait_is_told_that_it_was_received(stage: Any) -> None:
    status, said = stage.tell(command="pause", id="a")
    assert (status, said) == (202, {"reply": "received", "id": "a", "command": "pause"})
    assert stage.ask("GET", "/v1/run")[1]["waiting"] == ["a"]
    stage.run.walk()
    assert stage.ask("GET", "/v1/run")[1]["state"] == "paused"
    # Asked again by the same id, it is not done again: the answer is the one it had.
    assert stage.tell(command="pause", id="a", wait_seconds=20)[1]["step"] == 0
    assert stage.tell(command="stop", id="a")[1]["error"]["code"] == "id_used"


def test_a_command_can_wait_for_its_step(stage: Any) -> None:
    stage.tell(command="pause", id="later", at=5)
    stage.run.walk(9)
    assert stage.run.step == 5
    said = stage.tell(command="pause", id="later", at=5, wait_seconds=20)[1]
    assert (said["reply"], said["step"]) == ("done", 5)


def test_what_the_run_refuses_is_a_conflict(stage: Any) -> None:
    stage.tell(command="resume", id="r")
    stage.run.walk()
    status, said = stage.tell(command="resume", id="r", wait_seconds=20)
    assert (status, said["error"]["code"]) == (409, "command_refused")
    assert said["error"]["message"] == "the run is not paused"


def test_too_many_that_wait_are_turned_away(stage: Any) -> None:
    for number in range(64):
        assert stage.tell(command="save", id=f"s{number}")[0] == 202
    status, said = stage.tell(command="save")
    assert (status, said["error"]["code"]) == (429, "too_many_commands")
    stage.run.walk()
    assert stage.tell(command="save")[0] == 202


def test_two_clients_hear_the_same_and_each_its_own_answers(stage: Any) -> None:
    with stage.listen() as one, stage.listen() as other:
        assert heard(one)["event"] == heard(other)["event"] == "hello"
        one.send(json.dumps({"command": "set", "id": "o", "arguments": {"clip": 2.0}}))
        assert heard(one)["reply"] == "received"
        other.send(json.dumps({"command": "save", "id": "x"}))
        assert heard(other)["reply"] == "received"
        stage.run.walk(2)
        first = until(one, lambda message: message.get("step") == 2)
        second = until(other, lambda message: message.get("step") == 2)
    assert [m["id"] for m in first if m.get("reply")] == ["o"]
    assert [m["id"] for m in second if m.get("reply")] == ["x"]
    events = [m for m in first if "event" in m]
    assert events == [m for m in second if "event" in m]
    # Answers come in the order in which commands took effect, after the event that tells of it.
    assert [m.get("event", m.get("reply")) for m in first][:2] == ["change", "done"]
    numbers = [m["sequence"] for m in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_effects_are_answered_in_the_order_they_were_told(stage: Any) -> None:
    with stage.listen() as stream:
        heard(stream)
        for number in range(20):
            told = {"command": "set", "id": f"n{number}", "arguments": {"clip": float(number)}}
            stream.send(json.dumps(told))
        while len(stage.hub.state()["waiting"]) < 20:
            time.sleep(0.01)
        stage.run.walk()
        found = until(stream, lambda message: message.get("event") == "step")
    done = [m["id"] for m in found if m.get("reply") == "done"]
    assert done == [f"n{number}" for number in range(20)]


def test_who_comes_later_reads_what_happened(stage: Any) -> None:
    stage.run.walk(10)
    status, said = stage.ask("GET", "/v1/events?after=3&limit=4")
    assert status == 200
    assert [one["sequence"] for one in said["events"]] == [4, 5, 6, 7]
    assert said["missing"] == 0
    with stage.listen("?after=8") as stream:
        hello = heard(stream)
        assert (hello["event"], hello["sequence"], hello["missing"]) == ("hello", 11, 0)
        assert [heard(stream)["sequence"] for _ in range(3)] == [9, 10, 11]


# ---------------------------------------------------------------- watching costs the run nothing


def test_a_listener_who_does_not_read_is_dropped_and_the_run_goes_on(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_LENGTH", 16)
    with stage.listen(max_queue=1) as slow:
        heard(slow)
        with stage.listen(max_size=None) as quick:
            heard(quick)
            for number in range(1000):  # until the system's own buffers are full
                text = f"{number:06}" * 20_000
                event = Sample(step=0, prompt="", text=text)
                stage.hub.publish(event, event.to_json())
                assert heard(quick)["text"] == text
                if stage.hub.num_slow:
                    break
            assert stage.hub.num_slow == 1
            stage.run.walk()
            assert heard(quick)["step"] == 1
        last = until(slow, lambda message: message["event"] == "dropped")[-1]
        assert last["missing"] > 0
        with pytest.raises(ConnectionClosed) as closed:
            heard(slow)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


def test_listeners_hear_the_end_and_then_the_server_is_gone(stage: Any) -> None:
    with stage.listen() as stream:
        heard(stream)
        stage.tell(command="emergency_stop", id="now")
        stage.tell(command="save", id="never", at=90)
        stage.run.walk(0)
        found = until(stream, lambda message: message.get("event") == "ended")
        assert found[-1]["reason"] == "emergency"
        status, said = stage.tell(command="save", id="never", at=90, wait_seconds=20)
        assert (status, said["error"]["code"]) == (409, "run_ended")
        assert stage.tell(command="save")[1]["error"]["code"] == "run_ended"
        stage.server.close()
        with pytest.raises(ConnectionClosed) as closed:
            heard(stream)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000
    with pytest.raises(ConnectionRefusedError):
        stage.ask("GET", "/v1/run")


def test_who_waits_when_the_run_ends_is_answered(stage: Any) -> None:
    answers: list[Any] = []
    caller = threading.Thread(
        target=lambda: answers.append(stage.tell(command="save", at=90, wait_seconds=600))
    )
    caller.start()
    while not stage.hub.state()["waiting"]:
        time.sleep(0.01)
    stage.run.end()
    caller.join(20)
    status, said = answers[0]
    assert (status, said["error"]["code"]) == (409, "run_ended")


def test_a_port_that_is_taken_is_said(stage: Any, tmp_path: Any) -> None:
    from llama_plugin_train.control.server import ControlServer
    from llama_plugin_train.runs import RunError

    with pytest.raises(RunError, match=r"cannot listen on 127\.0\.0\.1:\d+.*another port"):
        ControlServer(tmp_path, stage.hub, port=stage.server.address.port)
