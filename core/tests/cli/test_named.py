"""What a plugin provides for one request or one engine, used by its name on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from llama_core.cli.named import Named, spelled

from .conftest import Done, Llama, lent
from .test_chat import Terminal
from .test_run import PROVIDER

scripted_model: Callable[..., Path] = lent("engine/scripted.py").scripted_model

# One of each kind, as plugins' authors would write them.
SHOP = """
from dataclasses import replace
from llama_core import hookimpl

class Loud:
    def feed(self, piece):
        return [replace(piece, text=piece.text.upper()) if piece.channel == "content" else piece]

    def finish(self):
        return []

class Tired:
    def propose(self, requests):
        raise RuntimeError("too tired")

    def truncate(self, sequence, length):
        pass

    release = truncate

class Asking:
    def __init__(self, word):
        self.word = word

    def __call__(self, prompt):
        if prompt.messages:
            last = {**prompt.messages[-1], "content": self.word}
            return replace(prompt, messages=(*prompt.messages[:-1], last))
        return replace(prompt, text=self.word)

@hookimpl
def llama_create_postprocessor(name):
    return Loud()

@hookimpl
def llama_create_drafter(name):
    return Tired()

@hookimpl
def llama_create_preprocessor(name, options):
    return Asking(**options)
"""
PROVIDES = [
    {"kind": "postprocessor", "name": "loud", "api": 1},
    {"kind": "drafter", "name": "tired", "api": 1},
    {
        "kind": "preprocessor",
        "name": "asking",
        "api": 1,
        "options": {"word": {"type": "string", "required": True}},
    },
]
BIAS = '--transform=logit-bias:bias={"65": 1000}'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(tmp_path_factory.mktemp("model") / "chatty")


@pytest.fixture
def shop(llama: Llama) -> Llama:
    llama.site.add("shop", {"provides": PROVIDES}, {"llama_plugin_shop/__init__.py": SHOP})
    llama.env["LLAMA_CORE_PLUGINS"] = "shop"
    return llama


def ask(llama: Llama, model: Path, prompt: str, *args: str) -> Done:
    more = ("--backend", "reference", "--max-tokens", "12", *args)
    return llama("run", str(model), prompt, *more)


# --------------------------------------------------------------------------------- how it is typed

WORD = Named("sampler", "mirostat:tau=3")


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("x", {}),
        ("x:", {}),
        ("x:a=1,b=0.5,c=true,d=null", {"a": 1, "b": 0.5, "c": True, "d": None}),
        ("x:a=q8:32,b=a=b", {"a": "q8:32", "b": "a=b"}),
        ('x:a=[1,2],b={"c": [3, 4]},d=5', {"a": [1, 2], "b": {"c": [3, 4]}, "d": 5}),
        ('x:a="1",b="2,3"', {"a": "1", "b": "2,3"}),
        ("x:a=,b=1", {"a": "", "b": 1}),
        ("x:a=1e5x,b=[1", {"a": "1e5x", "b": "[1"}),
        ("x:a=" + "[" * 100_000, {"a": "[" * 100_000}),
    ],
)
def test_a_value_is_json_or_else_text_up_to_a_comma(typed: str, options: dict[str, Any]) -> None:
    pair = WORD.convert(typed, None, None)
    assert pair == ("x", options)
    assert WORD.convert(spelled(pair), None, None) == pair


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "names no sampler; an example: mirostat:tau=3"),
        (":a=1", "names no sampler"),
        ("x:a", "'a' is no OPTION=VALUE"),
        ("x:=1", "'=1' is no OPTION=VALUE"),
        ("x:a=1,b,c=2", "'b' is no OPTION=VALUE"),
        ("x:a=1,a=2", "'a' is said twice"),
        ("x:a=\udcff", "it is no UTF-8, from byte 4 on"),
    ],
)
def test_what_is_no_option_is_named(typed: str, says: str) -> None:
    with pytest.raises(click.BadParameter, match=says):
        WORD.convert(typed, None, None)


# ------------------------------------------------------------------------------ choosing a token


def test_a_sampler_chooses_and_json_tells_which(llama: Llama, tiny: Path) -> None:
    plain = ask(llama, tiny, "Hello", "--json").json
    assert plain["used"]["sampler"] == {"name": "greedy", "plugin": "builtin", "options": {}}
    words = ("--sampler", "mirostat:tau=8,eta=0.5", "--seed", "3", "--json")
    facts = ask(llama, tiny, "Hello", *words).json
    assert facts["used"]["sampler"] == {
        "name": "mirostat",
        "plugin": "builtin",
        "options": {"tau": 8, "eta": 0.5},
    }
    assert facts["used"]["transforms"] == [], "at the temperature that the logits have"
    assert facts["tokens"] != plain["tokens"]
    assert facts["tokens"] == ask(llama, tiny, "Hello", *words).json["tokens"]


def test_transforms_come_in_order_behind_the_numbers(llama: Llama, tiny: Path) -> None:
    words = ("--temperature", "0.5", "--repetition-penalty", "1.2", BIAS, "--transform", "typical")
    facts = ask(llama, tiny, "Hello", *words, "--json").json
    names = [each["name"] for each in facts["used"]["transforms"]]
    assert names == ["repetition", "temperature", "logit-bias", "typical"]
    assert facts["text"] == "b" * 12
    assert ask(llama, tiny, "Hello", BIAS).out == "b" * 12 + "\n", "and before a greedy choice"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--sampler", "mirostatt"], 1, "Did you mean 'mirostat'?"),
        (["--sampler", "zzz"], 1, "Usable here: greedy, mirostat, sample."),
        (["--sampler", "dry"], 1, "There is a transform 'dry'."),
        (["--sampler", "llama-plugin-mirostat"], 1, "Did you mean 'mirostat'?"),
        (["--sampler", "mirostat:tua=3"], 2, "It takes tau, eta."),
        (["--sampler", "mirostat:tau=loud"], 2, "tau: 'loud' is not of type 'number'"),
        (["--transform", "dry:multiplier=1000"], 2, "multiplier: 1000 is greater than"),
        (["--sampler", "sample", "--temperature", "0"], 2, "leave out one of the two"),
        (["--sampler", "greedy", "--top-k", "3"], 2, "top-k does nothing: sampler 'greedy'"),
        (["--sampler", "greedy", "--transform", "min-p"], 2, "transform 'min-p' does nothing"),
        (["--transform", "min-p"], 2, "transform 'min-p' does nothing at temperature 0"),
        (["--drafter", "ngrm"], 1, "Did you mean 'ngram'?"),
        (["--drafter", "ngram:most=3"], 2, "It takes longest, shortest."),
        (["--postprocessor", "reasonin"], 1, "Did you mean 'reasoning'?"),
        (["--preprocessor", "system-prompt:text=x"], 2, "llama chat --system TEXT"),
    ],
)
def test_what_cannot_be_is_said_before_the_model_is_opened(
    llama: Llama, args: list[str], code: int, says: str
) -> None:
    done = llama("run", "./no-such-model", "Hello", *args)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


# --------------------------------------------------------------------------------- around a request


def test_what_a_postprocessor_takes_out_of_the_answer_is_shown(llama: Llama, model: Path) -> None:
    words = ("--postprocessor", "tools-hermes")
    assert ask(llama, model, "<|call|>", *words).out == 'Wait.\n→ look_up {"of": "sky"}\n'
    facts = ask(llama, model, "<|call|>", *words, "--json").json
    assert facts["text"] == "Wait."
    [call] = facts["tool_calls"]
    assert (call["name"], call["arguments"]) == ("look_up", '{"of": "sky"}')
    assert facts["used"]["postprocessors"][0]["name"] == "tools-hermes"
    thought = ask(llama, model, "<|think|>", "--postprocessor", "reasoning", "--json").json
    assert (thought["text"], thought["reasoning"]) == ("It is 42.", "Hmm, let me see.")


def test_processors_of_a_plugin_in_run_and_chat(shop: Llama, model: Path) -> None:
    loud = ("--postprocessor", "loud", "--preprocessor", "asking:word=<|hello|>")
    assert ask(shop, model, "<|more|>", *loud).out == "HELLO THERE.\n"
    chat = ("chat", str(model), "--prompt", "hi", "--backend", "reference", "--json")
    facts = shop(*chat, "--preprocessor", "asking:word=think", "--postprocessor", "loud").json
    assert facts["text"] == "IT IS 42."
    assert facts["reasoning"] == "Hmm, let me see.", "it comes behind what tells reasoning apart"
    used = facts["used"]
    assert [each["name"] for each in used["postprocessors"]] == ["reasoning", "loud"]
    asking = {"name": "asking", "plugin": "shop", "options": {"word": "think"}}
    assert used["preprocessors"] == [asking]


def test_without_a_processor_that_was_asked_for_nothing_is_answered(
    llama: Llama, model: Path
) -> None:
    llama.site.add(
        "guard",
        {"provides": [{"kind": "postprocessor", "name": "guard", "api": 1}]},
        {"llama_plugin_guard/__init__.py": "import no_such_module\n"},
    )
    done = ask(llama, model, "<|hello|>", "--postprocessor", "guard")
    assert (done.code, done.out) == (1, "")
    assert "no_such_module" in done.err


# -------------------------------------------------------------------------------------- drafting


def test_a_drafter_changes_the_speed_and_not_the_answer(llama: Llama, model: Path) -> None:
    plain = ask(llama, model, "<|count|>", "--json").json
    facts = ask(llama, model, "<|count|>", "--drafter", "ngram:shortest=1", "--json").json
    assert facts["tokens"] == plain["tokens"]
    assert plain["used"]["drafter"] is None
    drafter = facts["used"]["drafter"]
    assert drafter["accepted_tokens"] > 0
    assert drafter["accepted_tokens"] <= drafter["draft_tokens"]
    assert (drafter["name"], drafter["options"]) == ("ngram", {"shortest": 1})
    assert drafter["fault"] is None


def test_a_drafter_that_fails_is_told_of_and_an_error_under_strict(
    shop: Llama, model: Path
) -> None:
    words = ("run", str(model), "<|count|>", "--max-tokens", "6", "--backend", "reference")
    done = shop(*words, "--drafter", "tired", "--json")
    assert done.code == 0
    assert done.json["text"] == "one two three one two three "
    assert "answers come without drafts: drafter tired failed: RuntimeError: too" in done.err
    assert "too tired" in done.json["used"]["drafter"]["fault"]
    strict = shop("--strict", *words, "--drafter", "tired")
    assert strict.code == 1
    assert "strict mode forbids this fallback: answers come without drafts" in strict.err


def test_a_manifest_may_rule_drafting_out(llama: Llama, tiny: Path) -> None:
    counting = PROVIDER.replace("{seconds}", "0")
    for combines, code in (["paged-kv"], 1), (["paged-kv", "speculation"], 0), ([], 0):
        program = {"kind": "program", "name": "counting", "api": 1, "combines": combines}
        code_of = {"llama_plugin_counting/__init__.py": counting}
        llama.site.add("counting", {"provides": [program]}, code_of)
        words = ("run", str(tiny), "abc", "--program", "counting", "--max-tokens", "3")
        done = llama(*words, "--drafter", "ngram")
        assert done.code == code, done.err
        if code:
            assert "drafter 'ngram' cannot be used with program 'counting'" in done.err
            assert "combines with paged-kv, and not with speculation" in done.err


# ---------------------------------------------------------------------------------- at a terminal


def test_they_are_set_and_shown_while_chatting(llama: Llama, model: Path) -> None:
    terminal = Terminal(llama, str(model), "--drafter", "ngram:shortest=1")
    try:
        terminal.expect("\n> ")
        said = terminal.line("/set sampler mirostat:tau=3").splitlines()[1:]
        assert said == ["temperature: 1.0", "sampler: mirostat:tau=3"]
        assert "leave out one of the two" in terminal.line("/set temperature 0")
        assert "Did you mean 'mirostat'" in terminal.line("/set sampler mirostatt")
        assert "one sampler at a time" in terminal.line("/set sampler greedy sample")
        said = terminal.line("/set transform dry 'no-repeat-ngram:n=2'").splitlines()[1:]
        assert "transform: dry no-repeat-ngram:n=2" in said
        terminal.line("/set sampler")
        terminal.line("/set transform")
        assert terminal.line("/set").splitlines()[1:] == [
            "temperature: 0.0 (the likeliest token is taken)"
        ]
        terminal.line("/set max_tokens 30")
        terminal.line("count")
        stats = terminal.line("/stats")
        assert "drafter: ngram:shortest=1: " in stats
        assert "guesses were right" in stats
    finally:
        terminal.close()


def test_the_shell_completes_their_names(llama: Llama) -> None:
    words = {"COMP_WORDS": "llama run m --sampler mi", "COMP_CWORD": "4"}
    done = llama(env={"_LLAMA_COMPLETE": "bash_complete", **words})
    assert json.dumps(done.out) == json.dumps("plain,mirostat\n")
