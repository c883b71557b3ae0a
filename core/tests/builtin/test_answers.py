"""Parsers of answers: reasoning and calls of tools, whole or cut anywhere."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.builtin.reasoning import Reasoning
from llama_core.builtin.tool_formats import HermesCalls, LlamaCalls, MistralCalls
from llama_core.contracts.postprocessor import Piece, ToolCall, tool_calls
from llama_core.testing.requests import joined

HERMES, LLAMA, MISTRAL = HermesCalls, LlamaCalls, MistralCalls
ODD = {"text": 'a "}" and {"b": [1, 2}, \\ </tool_call> [TOOL_CALLS] é 世 \U0001f600', "n": -1.5e3}


def read(parser: Any, *texts: str) -> tuple[str, list[ToolCall], list[Piece]]:
    """The content, the calls, and all pieces."""
    pieces = [piece for text in texts for piece in parser.feed(Piece(text))]
    pieces += parser.finish()
    return "".join(p.text for p in pieces if p.channel == "content"), tool_calls(pieces), pieces


def calls(found: list[ToolCall]) -> list[tuple[str, Any]]:
    assert all(call.malformed is None for call in found), found
    assert len({call.id for call in found}) == len(found)
    return [(call.name, json.loads(call.arguments)) for call in found]


def notes(pieces: list[Piece]) -> list[str]:
    return [piece.data["malformed"] for piece in pieces if "malformed" in piece.data]


def as_json(name: str, arguments: Any, key: str = "arguments") -> str:
    return json.dumps({"name": name, key: arguments})


# ------------------------------------------------------------------------------------- reasoning


def test_reasoning_is_told_from_the_answer() -> None:
    _, _, pieces = read(Reasoning(), "<think>\nLet me see.\n</think>\n\nIt is 4.")
    assert [(p.channel, p.text) for p in pieces] == [
        ("reasoning", "Let me see."),
        ("content", "It is 4."),
    ]


@pytest.mark.parametrize(
    "text", ["The tag <think> begins it, </think> ends it.", "", " a", "<thin"]
)
def test_an_answer_without_reasoning_stays_as_it_is(text: str) -> None:
    assert read(Reasoning(), text)[0] == text


def test_the_prompt_may_have_opened_it() -> None:
    for text in ("So.</think>4", "<think>So.</think>4"):
        _, _, pieces = read(Reasoning(begun=True), text)
        assert [(p.channel, p.text) for p in pieces] == [("reasoning", "So."), ("content", "4")]
    _, _, pieces = read(Reasoning(begun=True), "cut off in thou")
    assert [p.channel for p in pieces] == ["reasoning"]


def test_reasoning_comes_as_it_is_written() -> None:
    parser = Reasoning(start="[THINK]", end="[/THINK]")
    assert [p.text for p in parser.feed(Piece("[THINK]one two "))] == ["one two"]
    assert [p.text for p in parser.feed(Piece("three ["))] == [" three"]
    assert [p.text for p in parser.feed(Piece("4] [/THI"))] == [" [4]"]
    assert [(p.channel, p.text) for p in parser.feed(Piece("NK]done"))] == [("content", "done")]


def test_a_call_in_reasoning_is_none() -> None:
    thought = Piece('<tool_call>{"name": "f"}</tool_call>', "reasoning")
    assert HermesCalls().feed(thought) == [thought]


# ------------------------------------------------------------------------------- calls, one by one

ONE: list[tuple[Any, str, str, list[tuple[str, Any]]]] = [
    (HERMES, f"Let me look.\n<tool_call>\n{as_json('f', ODD)}\n</tool_call>", "Let me look.",
     [("f", ODD)]),
    (HERMES, f"<tool_call>{as_json('f', {})}</tool_call>\n<tool_call>{as_json('g', ODD)}", "",
     [("f", {}), ("g", ODD)]),
    (HERMES, f"<tool_call>{as_json('f', {})}</tool_call>\n\nThat was it.", "\n\nThat was it.",
     [("f", {})]),
    (HERMES, f"<tool_call>{as_json('f', {'a': 1})}", "", [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", {})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", {})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "",
     [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"id": [1, {"x": "}"}], "name": "f\\u00e9", "arguments": {}, "z": 1.5}'
     "</tool_call>", "", [("fé", {})]),
    (HERMES, '<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}'
     "</tool_call>", "", [("f", {"a": 1})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"code": "a\n\tb"}}</tool_call>', "",
     [("f", {"code": "a\n\tb"})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call> so', " so",
     [("f", {"a": 1})]),
    (HERMES, "1 < 2 and <tool_callers>  ", "1 < 2 and <tool_callers>  ", []),
    (LLAMA, as_json("f", ODD, "parameters"), "", [("f", ODD)]),
    (LLAMA, f"\n{as_json('f', ODD, 'parameters')}; {as_json('g', {})}\n", "",
     [("f", ODD), ("g", {})]),
    (LLAMA, f"<|python_tag|>{as_json('f', ODD, 'parameters')}", "", [("f", ODD)]),
    (LLAMA, f"Sure.\n<|python_tag|>{as_json('f', {})}<|python_tag|>{as_json('g', {})}", "Sure.",
     [("f", {}), ("g", {})]),
    (LLAMA, f'{as_json("f", {}, "parameters")} Done; {{"a": 1}}', ' Done; {"a": 1}', [("f", {})]),
    (LLAMA, f'{as_json("f", {}, "parameters")};\n{{"name": "Bob"}}', ';\n{"name": "Bob"}',
     [("f", {})]),
    (LLAMA, '{"type": "function", "name": "f", "parameters": {"a": 1}}', "", [("f", {"a": 1})]),
    (LLAMA, '{"name": "Bob", "age": 4}', '{"name": "Bob", "age": 4}', []),
    (LLAMA, '{"name": "Bob"} is all', '{"name": "Bob"} is all', []),
    (LLAMA, ' {"a": {"name": "x"}', ' {"a": {"name": "x"}', []),
    (MISTRAL, f"[TOOL_CALLS] [{as_json('f', ODD)}, {as_json('g', {})}]", "",
     [("f", ODD), ("g", {})]),
    (MISTRAL, f"Well, [TOOL_CALLS][{as_json('f', ODD)}] and more", "Well, and more",
     [("f", ODD)]),
    (MISTRAL, f"[TOOL_CALLS]f[ARGS]{json.dumps(ODD)}[TOOL_CALLS]g.h-1[CALL_ID]abc123def[ARGS]{{}}",
     "", [("f", ODD), ("g.h-1", {})]),
    (MISTRAL, '[TOOL_CALLS]f{"a": [{}]}', "", [("f", {"a": [{}]})]),
    (MISTRAL, f'[TOOL_CALLS]{as_json("f", {})}', "", [("f", {})]),
    (MISTRAL, "[TOOL] [1, 2] [TOOL_CALL", "[TOOL] [1, 2] [TOOL_CALL", []),
]  # fmt: skip


@pytest.mark.parametrize(("parser", "text", "content", "expected"), ONE)
def test_calls_are_read(
    parser: Any, text: str, content: str, expected: list[tuple[str, Any]]
) -> None:
    found_content, found, pieces = read(parser(), text)
    assert calls(found) == expected
    assert found_content == content
    assert notes(pieces) == []


# parser, text, what is said to be wrong, and the text that is passed on
NO_CALL: list[tuple[Any, str, str]] = [
    (HERMES, 'Hm. <tool_call>{"nme": "f", "arguments": {}}</tool_call> so', "has no name"),
    (HERMES, '<tool_call> {"name": 3, "arguments": {}}</tool_call>', "its name is none"),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "arguments are [1]"),
    (HERMES, "<tool_call>f(1)</tool_call>", "it is no object"),
    (HERMES, '<tool_call>{"name": "f" "arguments": {}}</tool_call>', "a comma or the end"),
    (HERMES, '<tool_call>{name: "f"}</tool_call>', "a name of a member was due"),
    (HERMES, '<tool_call>{"name" = "f"}</tool_call>', "a colon was due"),
    (HERMES, '<tool_call>{"id": ?, "name": "f"}</tool_call>', "a value was due"),
    (HERMES, '<tool_call>{"name": "f', "its name is none"),
    (HERMES, "<tool_call>", "it is no object"),
    (LLAMA, '<|python_tag|>brave_search.call(query="x")', "it is no object"),
    (LLAMA, '<|python_tag|>{"query": "x"}', "it has no name"),
    (MISTRAL, "[TOOL_CALLS] sorry", "it has no arguments"),
    (MISTRAL, "[TOOL_CALLS][1]", "it is no object"),
    (MISTRAL, "[TOOL_CALLS]\n", "it has no name"),
]


@pytest.mark.parametrize(("parser", "text", "says"), NO_CALL)
def test_what_is_no_call_is_text_with_a_note(parser: Any, text: str, says: str) -> None:
    content, found, pieces = read(parser(), text)
    assert content == text
    assert found == []
    assert len(notes(pieces)) == 1
    assert says in notes(pieces)[0]


BROKEN: list[tuple[Any, str, str, str]] = [
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": tru}}</tool_call>on', '{"a": tru}', "on"),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": [1}}</tool_call>on', '{"a": [1}}', "on"),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1', '{"a": 1', ""),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "b', '{"a": "b', ""),
    (HERMES, '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>', "[1]", ""),
    (HERMES, '<tool_call>{"name": "f", "arguments": {}, "arguments": {}}</tool_call>', "{}{}}", ""),
    (LLAMA, '{"name": "f", "parameters": {"a": nil}}', '{"a": nil}', ""),
    (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {"a": ]}}]', '{"a": ]}}]', ""),
    (MISTRAL, "[TOOL_CALLS]f[ARGS]{a}", "{a}", ""),
]  # fmt: skip


@pytest.mark.parametrize(("parser", "text", "arguments", "content"), BROKEN)
def test_broken_arguments_are_passed_on_as_they_are_with_a_note(
    parser: Any, text: str, arguments: str, content: str
) -> None:
    found_content, found, _ = read(parser(), text)
    assert [(call.name, call.arguments) for call in found] == [("f", arguments)]
    assert found[0].malformed
    assert found_content == content


def test_a_broken_call_does_not_hide_the_next() -> None:
    for parser, text in (
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": ]}}</tool_call>'
                 '<tool_call>{"name": "g", "arguments": {}}</tool_call>'),
        (MISTRAL, "[TOOL_CALLS]f[ARGS]{]}[TOOL_CALLS]g[ARGS]{}"),
        (LLAMA, '<|python_tag|>{"name": "f", "parameters": {]}}<|python_tag|>{"name": "g"}'),
    ):  # fmt: skip
        _, found, _ = read(parser(), text)
        assert [(call.name, call.malformed is None) for call in found] == [
            ("f", False),
            ("g", True),
        ]


# --------------------------------------------------------------------------------------- streaming


def test_a_call_is_streamed_as_clients_expect() -> None:
    """Index, id and name once and first, then the arguments as they are written."""
    parser = HermesCalls()
    assert parser.feed(Piece('<tool_call>{"name": "f", "argu')) == []
    (first,) = parser.feed(Piece('ments": {"city": "Par'))
    assert (first.data["index"], first.data["name"]) == (0, "f")
    assert first.text == '{"city": "Par'
    (second,) = parser.feed(Piece('is"}}</tool'))
    assert (second.text, second.channel, dict(second.data)) == ('is"}', "tool_call", {})
    assert parser.feed(Piece("_call>")) == []
    assert parser.finish() == []


def test_ids_differ_between_calls_and_between_answers() -> None:
    text = '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "f", "arguments": {}}]'
    ids = [call.id for salt in "ab" for call in read(MistralCalls(salt), text)[1]]
    assert len(set(ids)) == 4
    assert all(len(each) == 9 and each.isalnum() for each in ids)


def test_a_stop_passes_through_with_what_was_held() -> None:
    pieces = HermesCalls().feed(Piece("so <tool", stop=True))
    assert "".join(p.text for p in pieces) == "so <tool"
    assert [p.stop for p in pieces] == [False] * (len(pieces) - 1) + [True]


def test_an_answer_of_a_hundred_thousand_characters_is_read_at_once() -> None:
    """Neither whole nor in small pieces does the time grow with the square of the length."""
    text = '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 100_000 + '"}}</tool_call>'
    for size in (len(text), 3):
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert len(calls(read(HermesCalls(), *parts)[1])[0][1]["a"]) == 100_000


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "<think>",
         "</think>", "[", "]", "{", "}", '"', "\\", ":", ",", ";", " ", "\n", '"name": "f"',
         '{"name": "f", ', '"arguments": ', '"parameters": {', '{"a": "}"}', "null", "1", "é", "f",
         as_json("f", {"a": [1, {"b": "]"}]}), as_json("g", {}, "parameters")]
    ),
    max_size=16,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("make", [HERMES, LLAMA, MISTRAL, Reasoning, lambda: Reasoning(begun=True)])
@settings(derandomize=True, max_examples=150, deadline=None)
@given(text=FRAGMENTS, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_cutting_changes_nothing_and_nothing_is_lost(make: Any, text: str, cuts: list[int]) -> None:
    """Any text, well formed or not, cut anywhere; and every character of it comes out somewhere."""
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[a:b] for a, b in pairwise(places)]
    whole, cut, single = (read(make(), *each)[2] for each in ([text], parts, list(text)))
    assert joined(cut) == joined(whole) == joined(single)
    if make in (HERMES, LLAMA, MISTRAL) and not tool_calls(whole):
        assert "".join(piece.text for piece in whole) == text
