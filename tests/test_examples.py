"""Every program of `examples/` runs as a user runs it, and does what it says.

The model is a generated one, whose words mean nothing: what is tested is that answers are the
model's own, that numbers add up, and that streams, disconnects and interrupted jobs are handled.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
TRAINED = ROOT / "tests" / "fixtures" / "tiny"
WATCHDOG_SECONDS = 60.0


def imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *args: str | Path, stdin: str = "", code: int = 0) -> str:
    """Run an example; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
        timeout=WATCHDOG_SECONDS,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = imported(ROOT / "core" / "tests" / "engine" / "tinymodel.py")
    return tiny.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Loaded]:
    with load(folder, plugins=Plugins.load()) as loaded:
        yield loaded


def answer(model: Loaded, text: str, max_tokens: int, stop: tuple[str, ...] = ()) -> str:
    params = Params(max_tokens=max_tokens, stop=stop)
    return model.engine.generate(model.request(text, params)).choices[0].text


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WATCHDOG_SECONDS
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def test_all_are_listed_and_tested() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in listed
        assert f"def test_{path.stem}(" in tests or f"def test_{path.stem}_" in tests
        assert f"examples/{path.name} MODEL" in path.read_text(), "it shows how it is run"


PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "notebook")


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_model_is_one_line(name: str, tmp_path: Path) -> None:
    """Except in the notebook, whose cells show what happens as it happens."""
    rows, table = tmp_path / "rows.jsonl", tmp_path / "table.csv"
    rows.write_text('{"prompt": "x"}\n')
    table.write_text("a\n1\n")
    needed = {
        "batch": [rows],
        "batch_job": [rows, tmp_path / "out"],
        "data_analysis": [table],
        "embeddings": ["x"],
        "question_answering": ["x"],
    }
    said = run(name, "no-such-model", *needed.get(name, []), code=1)
    assert "error: no model is named 'no-such-model'" in said


def test_generation(folder: Path, model: Loaded) -> None:
    said = run("generation", folder, "Once upon", "--max-tokens", 20)
    assert said == ("Once upon" + answer(model, "Once upon", 20) + "\n").replace("\r", "\n")
    sampled = [folder, "Once upon", "--max-tokens", 20, "--temperature", 1.5, "--seed", 3]
    assert run("generation", *sampled) == run("generation", *sampled) != said
    assert "does nothing at temperature 0" in run("generation", folder, "--top-p", 0.5, code=1)


def test_document_classification(folder: Path, model: Loaded) -> None:
    text = "The dog barked."
    said = json.loads(run("document_classification", folder, "--text", text, "--labels", "a", "bb"))
    example = imported(EXAMPLES / "document_classification.py")

    def likelihood(before: str, after: str) -> float:
        """Token by token, each asked for alone."""
        total, tokens = 0.0, model.tokenizer.encode(before + after)
        for place in range(len(model.tokenizer.encode(before)), len(tokens)):
            request = model.request("x", Params(max_tokens=1, logprobs=20, prompt_logprobs=0))
            request = type(request)(request.id, tuple(tokens[: place + 1]), request.params)
            result = model.engine.generate(request)
            total += result.prompt_logprobs[-1].logprob
        return total

    gains = {
        label: likelihood(text + example.QUESTION, f" {label}")
        - likelihood(example.QUESTION.strip(), f" {label}")
        for label in ("a", "bb")
    }
    odds = math.exp(gains["a"] - gains["bb"])
    assert said["shares"]["a"] / said["shares"]["bb"] == pytest.approx(odds, rel=1e-4)
    assert sum(said["shares"].values()) == pytest.approx(1)
    assert said["label"] == max(said["shares"], key=said["shares"].get)


def test_language_detection(folder: Path) -> None:
    texts = ["Where is my red ball?", "Wo ist mein roter Ball?"]
    rows = [json.loads(line) for line in run("language_detection", folder, *texts).splitlines()]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        assert set(row["shares"]) == {"English", "French", "German", "Italian", "Spanish"}
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["language"] == max(row["shares"], key=row["shares"].get)
    assert rows[0]["shares"] != rows[1]["shares"]
    piped = run("language_detection", folder, stdin="\n".join(texts))
    assert [json.loads(line)["language"] for line in piped.splitlines()] == [
        row["language"] for row in rows
    ]


def test_question_answering(folder: Path, model: Loaded) -> None:
    example = imported(EXAMPLES / "question_answering.py")
    prompt = example.PROMPT.format(passage="Tim had a ball.", question="Who?")
    args = [folder, "Who?", "--passage", "Tim had a ball.", "--max-tokens", 8]
    said = json.loads(run("question_answering", *args))
    assert said["answer"] == (answer(model, prompt, 8, ("\n",)).strip() or None)
    assert 0 < said["probability"] < 1
    unsure = json.loads(run("question_answering", *args, "--sure", 1))
    assert unsure == {"answer": None, "probability": said["probability"]}


def test_code_completion(folder: Path) -> None:
    example = imported(EXAMPLES / "code_completion.py")
    begun = "def add(a, b):\n"
    finished = "    return a + b\n\nprint(add(1, 2)\nx ="
    assert example.longest_that_parses(begun, finished) == begun + "    return a + b\n\n"
    assert example.longest_that_parses(begun, "    return (((\n") is None
    # A comment may be followed by anything at all, so that even noise is Python.
    said = run("code_completion", folder, "--code", "x = 1  # ", "--max-tokens", 5)
    assert said.startswith("x = 1  # ")
    failed = run("code_completion", folder, "--code", "def (", "--attempts", 2, code=1)
    assert "none of 2 completions was Python" in failed


def test_conversation(folder: Path, model: Loaded) -> None:
    chat = [folder, "--temperature", 0, "--max-tokens", 6]
    said = run("conversation", *chat, stdin="Hello\n\n")
    stop = ("\nUser:", "\nAssistant:")
    assert said.startswith("> " + answer(model, "User: Hello\nAssistant:", 6, stop)[:3])
    assert run("conversation", *chat, stdin="Hello\nAgain\n").count("> ") == 3
    # The oldest turns go before the context of 512 bytes is full.
    long = "\n".join(f"{n} " + "word " * 12 for n in range(12))
    assert run("conversation", *chat, stdin=long).count("> ") == 13


def test_conversation_in_the_models_own_words(folder: Path, tmp_path: Path) -> None:
    """By its template, which says where a text begins: the tokenizer must not say it again."""
    own = tmp_path / "own"
    own.mkdir()
    for path in folder.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    words = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer = json.loads((own / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, words],
        "pair": [begin, words, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
    }
    (own / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    (own / "chat_template.jinja").write_text(template)
    with load(own, plugins=Plugins.load()) as model:
        request = model.request("[system]Be kind[user]Hello[assistant]", Params(max_tokens=6))
        assert request.prompt[0] == 256
        expected = model.engine.generate(request).choices[0].text
    chat = [own, "--temperature", 0, "--max-tokens", 6, "--system", "Be kind"]
    said = run("conversation", *chat, stdin="Hello\n\n")
    assert said == f"> {expected}\n> ".replace("\r", "\n")


def test_data_analysis(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "sales.csv"
    table.write_text("city,apples,pears\nRome,1,2.5\nOslo,3,2.5\nLima,8,1\n")
    rows = rows_of(run("data_analysis", folder, table))
    assert [row["column"] for row in rows] == ["apples", "pears"]
    assert {key: rows[0][key] for key in ("count", "mean", "median", "lowest", "highest")} == {
        "count": 3, "mean": 4, "median": 3, "lowest": 1, "highest": 8
    }  # fmt: skip
    assert rows[1]["change from first to last"] == -1.5
    example = imported(EXAMPLES / "data_analysis.py")
    assert example.invented("between 1 and 8, about 4.5", {"a": 1.0, "b": 8.0}) == ["4.5"]
    table.write_text("city\nRome\n")
    assert "no column of numbers" in run("data_analysis", folder, table, code=1)


def test_batch(folder: Path, model: Loaded, tmp_path: Path) -> None:
    prompts = [f"Once upon {n}" for n in range(20)]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    said = run("batch", folder, tmp_path / "prompts.txt", "--max-tokens", 6, "--batch-size", 7)
    expected = [{"prompt": text, "text": answer(model, text, 6)} for text in prompts]
    assert rows_of(said) == expected


def test_embeddings(folder: Path, tmp_path: Path) -> None:
    texts = ["The cat wanted its milk.", "It rained all day.", "zzzz"]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    said = run("embeddings", folder, texts[1], "--file", tmp_path / "texts.txt")
    rows = [json.loads(line) for line in said.splitlines()]
    assert rows[0] == {"similarity": 1.0, "text": texts[1]}
    similarities = [row["similarity"] for row in rows]
    assert similarities == sorted(similarities, reverse=True)
    assert all(-1 <= one < 1 for one in similarities[1:])
    assert len(run("embeddings", folder, "a hungry kitten").splitlines()) == 5


def test_embeddings_find_what_is_meant(tmp_path: Path) -> None:
    """With the trained model: of five kinds of sentences the nearest is of the query's kind."""
    kinds = {
        "4 + 4 = 8.": "2 + 3 = 5.",
        "After Friday comes Saturday.": "After Monday comes Tuesday, then Wednesday.",
        "The opposite of big is small.": "The opposite of wet is dry.",
        "Kim sees a red dog. The dog says woof.": "Ben sees a black cat. The cat says meow.",
        "Count from 10 to 12: 10 11 12.": "Count from 3 to 7: 3 4 5 6 7.",
    }
    example = imported(EXAMPLES / "embeddings.py")
    with load(TRAINED, plugins=Plugins.load()) as model:
        for query, text in kinds.items():
            assert example.nearest(model, query, list(kinds.values()))[0][1] == text


def test_notebook(folder: Path, model: Loaded) -> None:
    lines = run("notebook", folder).splitlines()
    assert lines[0].startswith("tiny on ")
    shares = [float(line.split("%")[0]) for line in lines[1:6]]
    assert shares == sorted(shares, reverse=True)
    choice = model.engine.generate(
        model.request("Once upon a time there was a little", Params(max_tokens=1, logprobs=0))
    ).choices[0]
    assert shares[0] == pytest.approx(100 * math.exp(choice.logprob), abs=0.1)
    assert sum(line.startswith("- ") for line in lines) == 3


# ------------------------------------------------------------------------------ the batch job


def rows_of(text: str) -> list[dict[str, Any]]:
    """Lines of JSON; a text may hold what else ends a line for Python."""
    return [json.loads(line) for line in text.split("\n") if line]


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
    run("batch_job", *command[1:])
    assert output.read_bytes() == whole, "a finished job has nothing to do"


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
        connection.request("POST", "/generate", json.dumps(body))
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
        ({"prompt": "x", "stop": 3}, "int"),
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
    assert done.stdout.startswith(" Tuesday, then Wednesday."), done.stderr


def test_the_how_to_runs() -> None:
    code = f"MODEL = {str(TRAINED)!r}\n"
    code += "\n".join(text for _, text in blocks("how-to/embed.md", "python"))
    code += "\nassert halve([4.0], None) == [2.0]"
    code = code.replace("logits_NV / 2", "[x / 2 for x in logits_NV]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" Tuesday, then") == 3
