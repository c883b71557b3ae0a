"""`llama eval` as users run it: the object, the lines, the picture, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .command import Done, llama
from .tinymodel import tiny_model

PROSE = "It was the best of times, it was the worst of times. " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    path = tmp_path / "prose.txt"
    path.write_text(PROSE)
    return path


def evaluate(folder: Path, *args: Any, stdin: str = "") -> Done:
    return llama("eval", folder, *args, stdin=stdin)


def test_a_model_against_itself(folder: Path, prose: Path) -> None:
    plot = prose.with_name("plot.svg")
    given = ("--text", prose, "--window", 64, "--against", folder, "--plot", plot, "--json")
    done = evaluate(folder, *given)
    assert (done.code, done.err) == (0, "")
    facts = done.json
    assert facts["text"] == {
        "windows": 9,
        "window": 64,
        "begins_with_bos": False,
        "scored_tokens": 567,
        "left_out_tokens": len(PROSE) - 9 * 64,
    }
    assert facts["model"]["perplexity"] == facts["against"]["perplexity"] > 1
    assert facts["comparison"]["kld"]["max"] == 0
    assert facts["comparison"]["perplexity_ratio"] == 1
    assert facts["comparison"]["same_top"]["mean"] == 1
    drawn = ElementTree.parse(plot).getroot()
    assert sum(each.tag.endswith("polyline") for each in drawn.iter()) == 2
    assert "nothing to draw" in plot.read_text()  # no divergence on a logarithmic scale


def test_an_encoding_strays_and_the_lines_say_how_far(folder: Path, prose: Path) -> None:
    done = evaluate(
        folder,
        "--text",
        prose,
        "--window",
        64,
        "--against",
        folder,
        "--rewrite",
        "reencode:encoding=q8:row",
    )
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("9 windows of 64 tokens, none begun with BOS; 567 tokens scored")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "perplexity",
        "perplexity",
        "ratio",
        "mean KLD",
        "KLD",
        "same top",
    ]
    assert "reencode(q8:row" in lines[1]
    assert "reencode" not in lines[2]
    assert 0 < float(lines[4].split()[2]) < 0.01


def test_a_text_may_come_from_a_pipe(folder: Path, prose: Path) -> None:
    done = evaluate(folder, "--text", "-", "--window", 64, "--json", stdin=PROSE)
    told = evaluate(folder, "--text", prose, "--window", 64, "--json").json
    assert done.json == told


@pytest.mark.parametrize(
    ("content", "args", "words"),
    [
        (b"", [], "the text is empty"),
        (b"ab\0c" * 100, [], "is no text: it is not UTF-8 at 2"),
        (b"a" * 900, ["--window", "600"], "600 tokens"),
        (b"a" * 90, ["--rewrite", "reencode:encoding=q8row"], "no encoding named 'q8row'"),
        (b"a" * 90, ["--rewrite", "act:act=q9"], "act is 'q9' and must be auto"),
        (b"a" * 90, ["--act", "q8:0"], "For instance: q8:32"),
        (b"a" * 90, ["--plot", "nowhere/x.svg"], "there is no folder nowhere"),
        (b"a" * 90, ["--stop", "x"], "--stop does nothing without --suite"),
        (b"a" * 90, ["--drafter", "ngram"], "--drafter does nothing without --suite"),
        (b"a" * 90, ["--top-k", "4"], "--top-k does nothing without --suite"),
        (b"a" * 90, ["--transform", "dry"], "--transform does nothing without --suite"),
        (b"a" * 90, ["--against-backend", "reference"], "does nothing without --against"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    folder: Path, tmp_path: Path, content: bytes, args: list[str], words: str
) -> None:
    path = tmp_path / "given.txt"
    path.write_bytes(content)
    done = evaluate(folder, "--text", path, *args)
    assert done.code in (1, 2)
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_a_suite_is_a_table_or_an_object(folder: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    rows = [{"prompt": "a", "answer": "no such answer", "skill": s} for s in ("one", "two", "two")]
    suite.write_text("\n".join(map(json.dumps, rows)))
    done = evaluate(folder, "--suite", suite, "--max-tokens", 3)
    assert done.code == 0
    assert [line.split()[:4] for line in done.out.splitlines()[1:]] == [
        ["one", "0", "of", "1"],
        ["two", "0", "of", "2"],
        ["all", "0", "of", "3"],
    ]
    facts = evaluate(folder, "--suite", suite, "--max-tokens", 3, "--json").json
    assert [skill["name"] for skill in facts["skills"]] == ["one", "two", "all"]
    assert facts["answers"][0]["expected"] == "no such answer"
    assert facts["answers"][0]["error"] is None


def test_questions_without_an_answer_are_said(folder: Path, tmp_path: Path) -> None:
    """A model that was not asked has not failed to know."""
    suite = tmp_path / "suite.jsonl"
    long = [{"prompt": "a" * 5000, "answer": "b", "skill": "long"} for _ in range(7)]
    short = {"prompt": "a", "answer": "b", "skill": "short"}
    suite.write_text("\n".join(map(json.dumps, [short, *long])))
    done = evaluate(folder, "--suite", suite, "--max-tokens", 3)
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[4] == "7 of 8 could not be answered, which counts as not right:"
    assert lines[5].startswith("  long: prompt and answer may have")
    assert lines[-1] == "  and 2 more, which --json lists"
    facts = evaluate(folder, "--suite", suite, "--max-tokens", 3, "--json").json
    assert [skill["failed"] for skill in facts["skills"]] == [0, 7, 7]
    suite.write_text("\n".join(map(json.dumps, long)))
    done = evaluate(folder, "--suite", suite)
    assert (done.code, done.out) == (1, "")
    assert "could be answered: prompt and answer may have" in done.err


def test_a_suite_is_answered_by_what_was_named(folder: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"prompt": "abc" * 9, "answer": "x", "skill": "s"}))

    def asked(*words: str) -> tuple[str, Any]:
        done = evaluate(folder, "--suite", suite, "--max-tokens", 24, *words, "--json")
        assert (done.code, done.err) == (0, "")
        (answer,) = done.json["answers"]
        return answer["given"], done.json["used"]

    plain, used = asked()
    assert used["sampler"]["name"] == "greedy"
    drafted, used = asked("--drafter", "ngram")
    assert drafted == plain
    assert used["drafter"]["draft_tokens"] > 0
    warm = ("--sampler", "mirostat:tau=5", "--seed")
    first, used = asked(*warm, "1")
    assert used["sampler"] == {"name": "mirostat", "plugin": "builtin", "options": {"tau": 5}}
    assert first == asked(*warm, "1")[0]
    assert len({first, asked(*warm, "2")[0], plain}) == 3
    assert asked("--temperature", "3", "--seed", "1")[0] != plain


def test_a_suite_that_the_model_brings_is_asked_by_its_name(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    (model / "suites").mkdir()
    row = {"prompt": "a", "answer": "no such answer", "skill": "one"}
    (model / "suites" / "skills.jsonl").write_text(json.dumps(row))
    facts = evaluate(model, "--suite", "skills", "--max-tokens", 3, "--json").json
    assert facts["suite"] == str(model / "suites" / "skills.jsonl")
    assert [(one["name"], one["asked"]) for one in facts["skills"]] == [("one", 1), ("all", 1)]
    done = evaluate(model, "--suite", "skils")
    assert done.code == 1
    assert "Did you mean 'skills'?" in done.err


def test_text_and_suite_do_not_mix(folder: Path, prose: Path) -> None:
    both = evaluate(folder, "--text", prose, "--suite", prose)
    assert both.code == 2
    assert "give one of --text and --suite" in both.err
    idle = evaluate(folder, "--suite", prose, "--window", 8)
    assert idle.code == 2
    assert "--window does nothing without --text" in idle.err
