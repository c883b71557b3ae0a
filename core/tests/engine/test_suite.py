"""Suites: what their files must say, what counts as right, and the interval around a share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Request
from llama_core.engine.suite import (
    Question,
    Reply,
    SuiteError,
    ask,
    by_skill,
    find_suite,
    read_suite,
    wilson,
)
from llama_core.model.chat import ChatError

from .tinymodel import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_questions_are_read_line_by_line(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "2+2?"}]
    file = written(
        tmp_path / "suite.jsonl",
        {"prompt": "1+1=", "answer": "2", "skill": "sums", "id": 7},
        "",
        {"messages": messages, "answer": "4", "skill": "chat"},
    )
    assert read_suite(file) == [
        Question("2", "sums", "1+1="),
        Question("4", "chat", messages=tuple(messages)),
    ]


def test_a_suite_of_the_models_own_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    (model / "suites").mkdir(parents=True)
    own = written(model / "suites" / "skills.jsonl", GOOD)
    here = written(tmp_path / "here.jsonl", GOOD)
    monkeypatch.chdir(tmp_path)
    assert find_suite("skills", model) == own
    assert find_suite(str(here), model) == here
    assert find_suite("here.jsonl", model).resolve() == here
    (tmp_path / "skills").write_text("")  # a path that exists wins over a name
    assert find_suite("skills", model) == Path("skills")
    with pytest.raises(SuiteError, match="no suite is named 'skils'") as told:
        find_suite("skils", model)
    assert "Did you mean 'skills'?" in str(told.value.remedy)
    with pytest.raises(SuiteError, match="'sums'") as told:
        find_suite("sums", model)
    assert "the model's own are skills" in str(told.value.remedy)
    with pytest.raises(SuiteError) as told:
        find_suite("sums", here)  # a model that is one file
    assert "the model brings none of its own" in str(told.value.remedy)


GOOD = {"prompt": "a", "answer": "b", "skill": "c"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "line 2: no JSON"),
        ([1], "line 2: a list where an object belongs"),
        ({**GOOD, "answer": 4}, "'answer' must be a text, not 4"),
        ({**GOOD, "answer": " "}, "'answer' must be a text, not ' '"),
        ({"prompt": "a", "answer": "b"}, "'skill' must be a text, not None"),
        ({"answer": "b", "skill": "c"}, "one of 'prompt' and 'messages'"),
        ({**GOOD, "messages": []}, "one of 'prompt' and 'messages'"),
        ({**GOOD, "prompt": ""}, "'prompt' must be a text"),
        ({"answer": "b", "skill": "c", "messages": []}, "a list with messages"),
        ({"answer": "b", "skill": "c", "messages": ["hi"]}, "an object with a 'role'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    with pytest.raises(SuiteError, match=complaint):
        read_suite(written(tmp_path / "suite.jsonl", GOOD, row))


def test_a_mark_of_byte_order_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain.jsonl", GOOD)
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert read_suite(marked) == read_suite(plain)


def test_a_suite_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="has no questions"):
        read_suite(written(tmp_path / "suite.jsonl", "", " "))


def said(loaded: Loaded, prompt: str) -> str:
    """What the model really answers in four tokens."""
    request = Request("said", tuple(loaded.tokenizer.encode(prompt)), Params(max_tokens=4))
    return loaded.engine.generate(request).choices[0].text


def test_right_is_the_very_text_but_for_space_around_it(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins, backend="reference") as loaded:
        truth = said(loaded, "Once")
        questions = [
            Question(f" {truth}\n", "echo", "Once"),
            Question(f"{truth}!", "echo", "Once"),
            Question(said(loaded, "upon"), "other", "upon"),
        ]
        replies = ask(loaded, questions, Params(max_tokens=4))
    assert [reply.right for reply in replies] == [True, False, True]
    assert [(s.name, s.right, s.asked) for s in by_skill(replies)] == [
        ("echo", 1, 2),
        ("other", 1, 1),
        ("all", 2, 3),
    ]


def test_a_question_that_fails_is_not_right_and_stops_no_other(
    folder: Path, plugins: Plugins
) -> None:
    with load(folder, plugins=plugins, backend="reference") as loaded:
        questions = [Question("x", "long", "a" * 600), Question(said(loaded, "b"), "short", "b")]
        told: list[None] = []
        replies = ask(loaded, questions, Params(max_tokens=4), progress=lambda: told.append(None))
    assert [reply.right for reply in replies] == [False, True]
    assert "600" in str(replies[0].error)
    assert len(told) == 2


def test_an_answer_ends_before_a_stop_text(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins, backend="reference") as loaded:
        truth = said(loaded, "Once")
        (reply,) = ask(
            loaded, [Question("x", "s", "Once")], Params(max_tokens=4, stop=(truth[-1],))
        )
    assert reply.text == truth[: truth.index(truth[-1])]


def test_messages_need_a_chat_template(folder: Path, plugins: Plugins) -> None:
    question = Question("x", "s", messages=({"role": "user", "content": "hi"},))
    with (
        load(folder, plugins=plugins, backend="reference") as loaded,
        pytest.raises(ChatError, match="no chat template"),
    ):
        ask(loaded, [question], Params())


def test_messages_go_through_the_models_template(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    made = tiny_model(tmp_path / "chat")
    (made / "chat_template.jinja").write_text(template)
    with load(made, plugins=plugins, backend="reference") as loaded:
        truth = said(loaded, "Once")
        question = Question(truth, "s", messages=({"role": "user", "content": "Once"},))
        (reply,) = ask(loaded, [question], Params(max_tokens=4))
    assert reply.right


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (1, 1, 0.2065, 1)],
)
def test_the_interval_is_wilsons(right: int, asked: int, low: float, high: float) -> None:
    assert wilson(right, asked) == pytest.approx((low, high), abs=5e-5)


def test_an_error_is_not_right_even_where_the_texts_agree() -> None:
    assert not Reply(Question("", "s", "p"), "", error="it broke").right
