"""The applications of `examples/`, and the manual's programs, which embed the engine.

A job that is killed goes on, a client that hangs up is no longer served, and what the manual shows
is what is printed.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.engine.load import Loaded, load

from .running import (
    EXAMPLES,
    ROOT,
    TRAINED,
    WATCHDOG_SECONDS,
    answer,
    imported,
    inside,
    rows_of,
    run,
    until,
)

# ------------------------------------------------------------------------------ the batch job


def job_lines(output: Path) -> list[int]:
    return [row["line"] for row in rows_of(output.read_text("utf-8"))]


def test_batch_job(folder: Path, model: Loaded, tmp_path: Path) -> None:
    """Killed half way and started again, it has answered every line once."""
    rows = [{"prompt": f"Once upon {n}"} for n in range(300)]
    rows[7] = {"prompt": ""}
    rows[8] = {"text": "no prompt"}
    rows[9] = {"prompt": "\ud800"}
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps(row) for row in rows]
    lines[10] = "no JSON"
    source.write_text("\n".join(lines) + "\n\n")
    command = [EXAMPLES / "batch_job.py", folder, source, output, "--max-tokens", 80]
    first = subprocess.Popen([sys.executable, *map(str, command), "--at-a-time", "2"])
    until(lambda: output.exists() and output.read_bytes().count(b"\n") > 20)
    first.kill()
    first.wait(WATCHDOG_SECONDS)
    before = output.read_bytes()
    assert before.count(b"\n") < len(rows), "it was not half way any more"
    with output.open("ab") as file:
        file.write(b'{"line": 299, "te')  # as if it had been killed within a line
    run("batch_job", *command[1:])
    assert sorted(job_lines(output)) == list(range(1, 301))
    kept = before[: before.rfind(b"\n") + 1]
    assert output.read_bytes().startswith(kept), "what was done is not done again"
    answers = {row["line"]: row for row in rows_of(output.read_text("utf-8"))}
    assert "no tokens" in answers[8]["error"]
    assert "prompt" in answers[9]["error"]
    assert "surrogate" in answers[10]["error"]
    assert "Expecting value" in answers[11]["error"]
    assert sum("error" in row for row in answers.values()) == 4
    for number in (1, 150, 300):
        assert answers[number]["text"] == answer(model, rows[number - 1]["prompt"], 80)
    whole = output.read_bytes()
    inside("batch_job", *command[1:])
    assert output.read_bytes() == whole, "a finished job has nothing to do"


def test_batch_job_of_mistakes_alone_fails(folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [b'{"text": "x"}', b"3", b'{"prompt": 3}', b'{"prompt": "gr\xfcn"}', b"[" * 100_000]
    source.write_bytes(b"\n".join(rows))
    assert inside("batch_job", folder, source, output) == "1"
    errors = {row["line"]: row["error"] for row in rows_of(output.read_text("utf-8"))}
    assert {errors[line] for line in (1, 2, 3)} == {
        "the line is no object with a text as its prompt"
    }
    assert "can't decode byte 0xfc" in errors[4]
    assert "recursion" in errors[5]
    assert inside("batch_job", folder, source, output) == "", "and is not begun again"
    output.write_text("mine\n")
    assert "no output of this program" in inside("batch_job", folder, source, output)
    assert output.read_text() == "mine\n"
    assert inside("batch_job", folder, source, output, "--at-a-time", 0) == "2"


# ---------------------------------------------------------------------------- the web handler


@contextmanager
def served(model: Loaded) -> Iterator[int]:
    """The example's application under uvicorn, on a port of its own."""
    import uvicorn

    app = imported(EXAMPLES / "web_handler.py").App(model)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, lifespan="off", ws="none", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WATCHDOG_SECONDS)


@contextmanager
def post(port: int, body: Any) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WATCHDOG_SECONDS)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body)
        connection.request("POST", "/generate", data)
        yield connection.getresponse()
    finally:
        connection.close()


def events(response: http.client.HTTPResponse) -> list[str]:
    data = response.read().decode()
    return [line.removeprefix("data: ") for line in data.split("\n\n") if line]


def test_web_handler_streams_to_many_at_once(model: Loaded) -> None:
    prompts = [f"Once upon {n}" for n in range(8)]
    found: dict[str, str] = {}

    with served(model) as port:

        def work(prompt: str) -> None:
            with post(port, {"prompt": prompt, "max_tokens": 20}) as response:
                *parts, end = events(response)
            assert end == "[DONE]"
            said = [json.loads(part) for part in parts]
            assert len(said) > 1
            assert said[-1]["finish"] in ("length", "stop")
            found[prompt] = "".join(one["text"] for one in said)

        threads = [threading.Thread(target=work, args=(prompt,)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG_SECONDS)
    assert found == {prompt: answer(model, prompt, 20) for prompt in prompts}


def test_web_handler_takes_one_stop_as_it_stands(model: Loaded) -> None:
    whole = answer(model, "Once upon", 20)
    stop = whole[5:8]
    with served(model) as port, post(port, {"prompt": "Once upon", "stop": stop}) as response:
        said = [json.loads(part) for part in events(response)[:-1]]
    assert "".join(one["text"] for one in said) == whole[: whole.index(stop)]
    assert said[-1]["finish"] == "stop"


def test_web_handler_cancels_for_a_client_that_hangs_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(folder, plugins=Plugins.load(), backend="reference") as model:
        submit = model.program.submit

        def slow(batch: Any) -> Any:
            time.sleep(0.01)
            return submit(batch)

        monkeypatch.setattr(model.program, "submit", slow)
        engine = model.engine.engine
        with served(model) as port:
            with post(port, {"prompt": "Once", "max_tokens": 480}) as response:
                assert response.readline().startswith(b"data: ")
                assert model.engine.num_open == 1
                response.close()
            until(lambda: model.engine.num_open == 0)
            assert engine.counters.finished == {"cancelled": 1}
            assert engine.counters.output_tokens < 400
            assert engine.blocks.num_used() == 0
            with post(port, {"prompt": "Once", "max_tokens": 2}) as response:
                assert events(response)[-1] == "[DONE]"


def test_web_handler_takes_no_stop_for_none(model: Loaded) -> None:
    with served(model) as port:
        answers = []
        for stop in ({}, {"stop": None}, {"stop": []}):
            with post(port, {"prompt": "Once", "max_tokens": 3, **stop}) as response:
                assert response.status == 200
                answers.append(events(response))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": "Once", "max_tokens": 0}, "max_tokens must be at least 1"),
        ({"prompt": "Once", "stop": [""]}, "stop must have from 1"),
        ({"prompt": ""}, "no tokens"),
        ({"max_tokens": 3}, "a JSON object with a prompt"),
        ({"prompt": "x", "mex_tokens": 3}, "nothing but"),
        ([1], "a JSON object"),
        ({"prompt": 7}, "7"),
        ({"prompt": "x", "stop": 3}, "stop must be a text or a list of texts, not 3"),
        (b"[" * 100_000, "recursion"),
        (b"{", "Expecting"),
        ({"prompt": "x" * (1 << 20)}, "more than 1048576 bytes"),
    ],
)
def test_web_handler_refuses_with_the_reason(model: Loaded, body: Any, words: str) -> None:
    with served(model) as port, post(port, body) as response:
        assert response.status == 400
        assert words in json.loads(response.read())["error"]["message"]


def test_web_handler_runs_by_itself(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, EXAMPLES / "web_handler.py", folder, "--port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    try:

        def answers() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/open")
                return json.loads(connection.getresponse().read()) == {"open": 0}
            except ConnectionError:
                return False
            finally:
                connection.close()

        until(answers)
        with post(port, {"prompt": "Once", "max_tokens": 3}) as response:
            assert response.status == 200
    finally:
        server.terminate()
        assert server.wait(WATCHDOG_SECONDS) in (0, -15)


# ------------------------------------------------------------------------------- the manual


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return [one for one in re.findall(r"```(\w+)\n(.*?)```", text, re.S) if one[0] in languages]


def test_the_tutorial_prints_what_it_shows() -> None:
    code = shown = ""
    for language, text in blocks("tutorial/first-program.md", "python", "text"):
        code += text if language == "python" else ""
        shown += text if language == "text" else ""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == shown, done.stderr


def test_the_readme_answers() -> None:
    [(_, code)] = blocks("../README.md", "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert len(done.stdout.split()) > 20, done.stderr
    assert re.search("named|called|lived", done.stdout)  # so its stories bring in their hero


def test_the_how_to_runs() -> None:
    code = f"MODEL = {str(TRAINED)!r}\n"
    code += "\n".join(text for _, text in blocks("how-to/embed.md", "python"))
    code += "\nassert halve([4.0], None) == [2.0]"
    code = code.replace("logits_NV / 2", "[x / 2 for x in logits_NV]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" Tuesday, then") == 3
