"""From a folder to an answer: loading, the engine's faces on the reference, and `llama run`."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core import Plugins, hookimpl
from llama_core.config import Config
from llama_core.contracts.step import Plan
from llama_core.discovery import discover
from llama_core.engine.finding import model_name
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Limits, Link, Params, Request, Update, Use
from llama_core.errors import ConfigError, LlamaError, PluginFault
from llama_core.events import ModelLoaded, ModelUnloaded
from llama_core.model.op_backend import OpProgram

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


def test_a_text_becomes_a_request_with_all_that_one_has(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins) as loaded:
        given = {"tenant": "t", "priority": -1, "deadline_seconds": 9.0, "adapter": 0}
        request = loaded.request("Hello", pooling="last", **given)
        assert {name: getattr(request, name) for name in given} == given
        assert set(given) | {"id", "prompt", "params", "answer", "pooling"} == set(
            Request.__slots__
        )
        states = {}
        for pooling in ("last", "mean"):
            asked = loaded.request("Hello", pooling=pooling)
            [choice] = loaded.engine.generate(asked).choices
            assert choice.text == ""
            assert choice.hidden.shape == (loaded.files.config["hidden_size"],)
            states[pooling] = choice.hidden
        assert not np.array_equal(states["last"], states["mean"])
        with pytest.raises(LlamaError, match="pooling must be 'last' or 'mean', not 'max'"):
            loaded.engine.generate(loaded.request("Hello", pooling="max"))  # type: ignore[arg-type]


def test_every_field_of_a_request_is_documented() -> None:
    for kind in (Params, Request, Limits, Update):
        lines = [line.strip() for line in inspect.getsource(kind).splitlines()]
        for name in kind.__slots__:
            [at] = [n for n, line in enumerate(lines) if line.startswith(f"{name}: ")]
            assert "#: " in lines[at] or lines[at - 1].startswith("#: "), f"{kind.__name__}.{name}"


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


def test_closing_an_engine_that_broke_down_is_told_too(folder: Path, plugins: Plugins) -> None:
    heard: list[object] = []
    plugins.events.subscribe(ModelUnloaded, heard.append)
    loaded = load(folder, plugins=plugins)
    loaded.engine.close()
    loaded.close()
    assert plugins.events.flush()
    assert len(heard) == 1


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


# ---- context and memory --------------------------------------------------------------------------


def test_no_position_is_computed_that_the_model_was_not_made_for(
    folder: Path, plugins: Plugins
) -> None:
    with load(folder, plugins=plugins, limits=Limits(max_length=100_000)) as loaded:
        assert loaded.context_length == 512
        with pytest.raises(LlamaError, match="from 1 to 507"):
            loaded.engine.generate(loaded.request("Hello", Params(max_tokens=508)))
        result = loaded.engine.generate(loaded.request("Hello", Params(ignore_eos=True)))
        assert len(result.choices[0].tokens) == 507
    with pytest.raises(LlamaError, match="the model was made for 512"):
        load(folder, plugins=plugins, context=513)


def test_the_memory_that_nobody_planned_holds_the_context(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins, context=400) as loaded:
        assert loaded.context_length == 400
        per_token = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, numbers, bytes
        assert loaded.plan.kv_bytes >= 400 * per_token
        assert loaded.plan.kv_bytes < 256 << 20  # no more than all sequences could use


def test_a_planned_memory_that_is_too_small_is_said(folder: Path, plugins: Plugins) -> None:
    plan = Plan(kv_bytes=64 * 256)
    with load(folder, plugins=plugins, plan=plan) as loaded:
        assert loaded.context_length == 64
    assert any("64 tokens together" in said for said in plugins.announcements.counts)
    with pytest.raises(LlamaError, match="Raise kv_bytes, or ask for a context of 64"):
        load(folder, plugins=plugins, plan=plan, context=65)


def test_limits_follow_a_plan(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins, plan=Plan(max_tokens=8, max_sequences=2)) as loaded:
        assert len(ask(loaded, "a prompt of more than eight tokens")) == 12


def test_a_shorter_context_chooses_how_positions_are_scaled(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    scaling = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 128,
    }
    copy = changed(folder, tmp_path / "copy", rope_scaling=scaling)
    chosen = {}
    for context in (100, 500):
        with load(copy, plugins=plugins, context=context) as loaded:
            assert loaded.graph is not None
            chosen[context] = loaded.graph.of("rope")[0].attrs["scaling"]["factors"]
    assert chosen == {100: (1.0,) * 4, 500: (4.0,) * 4}


# ---- what does not belong together ---------------------------------------------------------------


def changed(folder: Path, to: Path, **config: object) -> Path:
    shutil.copytree(folder, to)
    old = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**old, **config}))
    return to


def test_a_tokenizer_of_another_model_is_refused(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    words = json.loads((copy / "tokenizer.json").read_text())
    words["model"]["vocab"] |= {f"more{n}": 1000 + n for n in range(10)}
    (copy / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(LlamaError) as caught:
        load(copy, plugins=plugins)
    assert "does not belong to the model" in str(caught.value)
    assert "it has 266 tokens, and the model's table has 258 rows" in str(caught.value)


def test_an_end_that_the_model_cannot_give_is_refused(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    copy = changed(folder, tmp_path / "copy", eos_token_id=[257, 300])
    with pytest.raises(LlamaError, match="texts end with token 300, and the last row is 257"):
        load(copy, plugins=plugins)


def test_nothing_runs_on_where_loading_fails(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []
    before = set(threading.enumerate())
    monkeypatch.setattr(OpProgram, "close", lambda self: closed.append(self))
    with pytest.raises(LlamaError, match="ask for a context"):
        load(folder, plugins=plugins, plan=Plan(kv_bytes=64 * 256), context=65)
    assert len(closed) == 1
    started = set(threading.enumerate()) - before
    assert not [one for one in started if one.name == "llama-engine"]


def test_a_model_is_called_what_a_user_would_call_it() -> None:
    names = ["hf:org/name:Q4_K_M", "models/tiny/", "./a.gguf", "pocket", Path()]
    found = [model_name(name) for name in names]
    assert found == ["org/name:Q4_K_M", "tiny", "a.gguf", "pocket", Path.cwd().name]


# ---- without a graph -----------------------------------------------------------------------------


def test_a_fault_of_a_provider_has_its_name(folder: Path, plugins: Plugins) -> None:
    class Provider:
        def accepts(self, path: Path, config: object) -> None:
            return None

        def open(self, path: Path, plan: Plan) -> object:
            raise ZeroDivisionError("one by none")

    @hookimpl
    def llama_create_program(name: str) -> Provider:
        return Provider()

    provides = [{"kind": "program", "name": "broken", "api": 1}]
    plugins.register(
        SimpleNamespace(llama_create_program=llama_create_program),
        {"name": "broken", "summary": "Fails", "provides": provides},
    )
    with pytest.raises(PluginFault, match=r"'broken' failed in program broken\.open"):
        load(folder, plugins=plugins, program="broken")
    for asked in ({"backend": "reference"}, {"rewrite": [("fuse", {})]}):
        with pytest.raises(ConfigError, match="Ask for one of the two"):
            load(folder, plugins=plugins, program="broken", **asked)  # type: ignore[arg-type]


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
        (["--max-tokens", "0"], "--max-tokens': 0 is not in the range"),
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


# ------------------------------------------------------------------------ drafters, preprocessors

COMES = {"kind": "drafter", "name": "mine", "api": 1}


def drafting(plugins: Plugins, drafter: object) -> None:
    @hookimpl
    def llama_create_drafter(name: str) -> object:
        return drafter

    module = SimpleNamespace(llama_create_drafter=llama_create_drafter)
    plugins.register(module, {"name": "mine", "summary": "Mine.", "provides": [COMES]})


class Failing:
    def propose(self, requests: Sequence[object]) -> list[list[int]]:
        raise RuntimeError("oh")

    def truncate(self, sequence: int, length: int) -> None: ...

    def release(self, sequence: int) -> None: ...


def test_a_drafter_comes_by_name_or_as_an_object(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins) as loaded:
        plain = ask(loaded, "ababababab")
        assert loaded.drafter is None
    named = ("ngram", {"shortest": 1})
    for given in (named, "ngram", plugins.create("drafter", *named)):
        with load(folder, plugins=plugins, drafter=given) as loaded:
            assert ask(loaded, "ababababab") == plain
            assert loaded.engine.engine.drafting.num_drafts > 0
            by_name = not hasattr(given, "propose")
            assert (loaded.drafter is not None) == by_name
            assert not by_name or loaded.drafter[0] == "ngram"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "drafter must be a drafter or the name of one: it gave an object of type int"),
        (("ngram",), "drafter must be a name, or a name and options"),
        ("ngrm", "Did you mean 'ngram'?"),
        (("ngram", {"longest": 0}), "longest: 0 is less than the minimum"),
    ],
)
def test_a_drafter_that_is_none_is_refused(
    folder: Path, plugins: Plugins, given: object, says: str
) -> None:
    with pytest.raises(LlamaError) as caught:
        load(folder, plugins=plugins, drafter=given)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_the_fault_of_a_drafter_by_name_counts_against_its_plugin(
    folder: Path, plugins: Plugins
) -> None:
    drafting(plugins, Failing())
    with load(folder, plugins=plugins, drafter="mine") as loaded:
        assert len(ask(loaded, "Once")) == 12
        fault = loaded.engine.engine.drafting.fault
    assert fault is not None
    assert fault.startswith("drafter mine failed: RuntimeError: oh")
    assert loaded.engine.engine.drafting.owner == "mine"
    assert plugins["mine"].num_faults == 1
    assert any("answers come without drafts" in said for said in plugins.announcements.counts)


def test_under_strict_an_answer_without_drafts_is_an_error(folder: Path) -> None:
    plugins = Plugins(discover([]), Config(strict=True))
    drafting(plugins, Failing())
    with (
        load(folder, plugins=plugins, drafter="mine") as loaded,
        pytest.raises(LlamaError, match="strict mode forbids this fallback: answers come without"),
    ):
        ask(loaded, "Once")
    assert loaded.engine.engine.blocks.num_used() == 0


def test_a_drafter_that_fails_when_the_answer_is_whole_spoils_nothing(folder: Path) -> None:
    class Late(Failing):
        def propose(self, requests: Sequence[object]) -> list[list[int]]:
            return [[] for _ in requests]

        def release(self, sequence: int) -> None:
            raise RuntimeError("oh")

    plugins = Plugins(discover([]), Config(strict=True))
    drafting(plugins, Late())
    with load(folder, plugins=plugins, drafter="mine") as loaded:
        assert len(ask(loaded, "Once")) == 12
    assert any("without drafts: drafter mine failed" in s for s in plugins.announcements.counts)


def test_preprocessors_see_a_text_before_it_is_tokens(folder: Path, plugins: Plugins) -> None:
    made = {
        "shout": lambda prompt: replace(prompt, text=prompt.text.upper()),
        "double": lambda prompt: replace(prompt, text=prompt.text * 2),
        "lose": lambda prompt: replace(prompt, text=None),
        "talk": lambda prompt: replace(prompt, messages=({"role": "user", "content": "x"},)),
    }

    @hookimpl
    def llama_create_preprocessor(name: str) -> object:
        return made[name]

    provides = [{"kind": "preprocessor", "name": name, "api": 1} for name in made]
    module = SimpleNamespace(llama_create_preprocessor=llama_create_preprocessor)
    plugins.register(module, {"name": "mine", "summary": "Mine.", "provides": provides})
    with load(folder, plugins=plugins) as loaded:
        request = loaded.request("ab", preprocessors=[Use("shout"), Use("double")])
        assert request.prompt == loaded.request("ABAB").prompt
        for name, says in (("lose", "no text came out"), ("talk", "messages came out")):
            with pytest.raises(LlamaError, match=f"{says} of its preprocessors: '{name}'"):
                loaded.request("ab", preprocessors=[Use(name)])
        with pytest.raises(LlamaError, match="'system-prompt' is for the messages of a chat"):
            loaded.request("ab", preprocessors=[Use("system-prompt", {"text": "x"})])
