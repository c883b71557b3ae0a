"""Questions with one right answer each, asked and counted by skill.

A suite is a file of JSON lines: `prompt` or `messages`, `answer`, `skill`. An answer is right where
it is the very text, but for space around it. A model may bring suites in its folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.engine.load import Loaded
from llama_core.engine.request import Params, Request
from llama_core.errors import LlamaError, did_you_mean, sentence
from llama_core.model.chat import ChatTemplate, chat_template

FOLDER = "suites"  # in a model's


class SuiteError(LlamaError):
    """A suite's file does not say what it must."""

    code = "suite_invalid"


@dataclass(frozen=True, slots=True)
class Question:
    """One line of a suite; exactly one of `prompt` and `messages` is set."""

    answer: str
    skill: str
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to a question."""

    question: Question
    text: str
    error: str | None = None  # why it said nothing

    @property
    def right(self) -> bool:
        return self.error is None and self.text.strip() == self.question.answer.strip()


@dataclass(frozen=True, slots=True)
class Skill:
    """Right answers of one skill, with the range that a share like this may come from."""

    name: str
    right: int
    asked: int
    failed: int  # of those asked: got no answer, and so are not right
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.asked


def find_suite(given: str, model: Path) -> Path:
    """A suite's file: a path, or the name of one that the model brings as `suites/NAME.jsonl` in
    its folder. A path that exists wins over a name."""
    path = Path(given).expanduser()
    if path.is_file():
        return path
    own = {each.stem: each for each in sorted((model / FOLDER).glob("*.jsonl"))}
    if given in own:
        return own[given]
    has = f"the model's own are {', '.join(own)}" if own else "the model brings none of its own"
    raise SuiteError(
        f"no suite is named '{given}', and no file lies there",
        remedy=sentence(did_you_mean(given, list(own)) or f"Give a JSONL file; {has}."),
    )


def read_suite(path: Path) -> list[Question]:
    """The questions of a file, or all that is wrong with it."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"cannot read the suite {path}: {error}") from None
    found: list[Question] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            question = _question(line)
            if isinstance(question, str):
                problems.append(f"line {number}: {question}")
            else:
                found.append(question)
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise SuiteError(f"the suite {path} is malformed: {'; '.join(problems[:5])}{more}")
    if not found:
        raise SuiteError(f"the suite {path} has no questions")
    return found


def _question(line: str) -> Question | str:
    """A line's question, or what is wrong with it."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"no JSON ({error})"
    if not isinstance(row, dict):
        return f"a {type(row).__name__} where an object belongs"
    for key in ("answer", "skill"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            return f"'{key}' must be a text, not {row.get(key)!r}"
    prompt, messages = row.get("prompt"), row.get("messages")
    if (prompt is None) == (messages is None):
        return "it needs one of 'prompt' and 'messages'"
    if prompt is not None:
        if not isinstance(prompt, str) or not prompt:
            return f"'prompt' must be a text, not {prompt!r}"
        return Question(row["answer"], row["skill"], prompt)
    if not isinstance(messages, list) or not messages:
        return "'messages' must be a list with messages"
    if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages):
        return "each message must be an object with a 'role'"
    return Question(row["answer"], row["skill"], messages=tuple(messages))


def ask(
    loaded: Loaded,
    questions: Sequence[Question],
    params: Params,
    *,
    progress: Callable[[], None] = lambda: None,
) -> list[Reply]:
    """Every question, many at once. A question that fails is not right."""
    template = None
    if any(question.messages for question in questions):
        template = chat_template(loaded.files, loaded.tokenizer)
    requests = [
        Request(f"question-{number}", _tokens(loaded, question, template), params)
        for number, question in enumerate(questions)
    ]
    replies = []
    for question, result in zip(questions, loaded.engine.batch(requests), strict=True):
        choice = result.choices[0]
        error = None if choice.error is None else str(choice.error)
        replies.append(Reply(question, choice.text, error))
        progress()
    return replies


def _tokens(loaded: Loaded, question: Question, template: ChatTemplate | None) -> tuple[int, ...]:
    if question.prompt is not None:
        return tuple(loaded.tokenizer.encode(question.prompt))
    assert template is not None
    # A template writes the tokens that begin a text itself.
    return tuple(loaded.tokenizer.encode(template.render(question.messages), add_special=False))


def by_skill(replies: Sequence[Reply]) -> list[Skill]:
    """One row a skill in the order they are met, and one of all."""
    names = dict.fromkeys(reply.question.skill for reply in replies)
    groups = {name: [r for r in replies if r.question.skill == name] for name in names}
    return [_skill(name, group) for name, group in groups.items()] + [_skill("all", replies)]


def _skill(name: str, replies: Sequence[Reply]) -> Skill:
    right = sum(reply.right for reply in replies)
    failed = sum(reply.error is not None for reply in replies)
    return Skill(name, right, len(replies), failed, *wilson(right, len(replies)))


def wilson(right: int, asked: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a share that holds for few questions and for shares near 0 and 1."""
    share = right / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    half /= 1 + z * z / asked
    # At the ends the interval touches 0 and 1 but for rounding.
    return (0.0 if right == 0 else middle - half), (1.0 if right == asked else middle + half)
