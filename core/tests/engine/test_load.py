"""From a folder to an answer: loading, the engine's faces on the reference, and `llama run`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Link, Params, Request
from llama_core.errors import LlamaError
from llama_core.events import ModelLoaded, ModelUnloaded

from .tinymodel import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


def ask(loaded: Loaded, text: str, name: str = "r", **params: object) -> list[int]:
    prompt = tuple(loaded.tokenizer.encode(text))
    result = loaded.engine.generate(Request(name, prompt, Params(max_tokens=12, **params)))  # type: ignore[arg-type]
    return result.choices[0].tokens


def test_a_folder_answers_on_the_reference(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins) as loaded:
        assert loaded.choice.name == "reference"
        assert loaded.graph.vocab_size == 258
        tokens = ask(loaded, "Once upon a time")
        assert len(tokens) == 12
        assert ask(loaded, "Once upon a time") == tokens


def test_what_shares_the_batch_changes_nothing(folder: Path, plugins: Plugins) -> None:
    texts = ["a", "Once upon a time", "zz top", "0123456789" * 5]
    with load(folder, plugins=plugins) as loaded:
        alone = [ask(loaded, text) for text in texts]
        requests = [
            Request(str(n), tuple(loaded.tokenizer.encode(text)), Params(max_tokens=12))
            for n, text in enumerate(texts)
        ]
        together = [result.choices[0].tokens for result in loaded.engine.batch(requests)]
    assert together == alone


def test_a_seed_makes_a_sampled_answer_repeatable(folder: Path, plugins: Plugins) -> None:
    chain = {
        "transforms": (Link("temperature", {"temperature": 1.5}), Link("top-k", {"k": 20})),
        "sampler": Link("sample"),
    }
    with load(folder, plugins=plugins) as loaded:
        one = ask(loaded, "hello", seed=1, **chain)
        assert ask(loaded, "hello", seed=1, **chain) == one
        assert ask(loaded, "hello", seed=2, **chain) != one


def test_loading_and_unloading_are_told(folder: Path, plugins: Plugins) -> None:
    heard: list[object] = []
    plugins.events.subscribe(ModelLoaded, heard.append)
    plugins.events.subscribe(ModelUnloaded, heard.append)
    loaded = load(folder, plugins=plugins)
    loaded.close()
    loaded.close()
    assert plugins.events.flush()
    assert [type(each) for each in heard] == [ModelLoaded, ModelUnloaded]


def test_an_unknown_architecture_names_the_nearest(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "lama"}))
    with pytest.raises(LlamaError, match="'llama'"):
        load(copy, plugins=plugins)


def test_missing_tensors_are_all_named_at_once(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(LlamaError) as caught:
        load(copy, plugins=plugins)
    assert str(caught.value).count("layers.2.") >= 9


def run(*args: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llama_core", "--no-plugins", "run", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=120)


def test_run_answers_in_json(folder: Path) -> None:
    done = run(folder, "Hello", "--max-tokens", "5", "--json")
    facts = json.loads(done.stdout)
    assert len(facts["tokens"]) == 5
    assert facts["backend"]["name"] == "reference"
    assert facts["usage"] == {"prompt_tokens": 5, "completion_tokens": 5}


def test_run_reads_its_prompt_from_a_pipe(folder: Path) -> None:
    told = run(folder, "Hello", "--max-tokens", "5")
    piped = run(folder, "--max-tokens", "5", stdin="Hello")
    assert told.returncode == piped.returncode == 0
    assert told.stdout == piped.stdout
    assert told.stdout.strip()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--max-tokens", "0"], "max_tokens must be at least 1, not 0"),
        (["--temperature", "-1"], "temperature"),
        (["--top-k", "3"], "top-k does nothing at temperature 0"),
        (["--backend", "referense"], "Did you mean 'reference'?"),
    ],
)
def test_run_says_what_cannot_be(folder: Path, args: list[str], words: str) -> None:
    done = run(folder, "Hello", *args)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
