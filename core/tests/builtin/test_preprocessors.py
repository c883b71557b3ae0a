"""What becomes of a prompt: the chat template's text, and whose system message it begins with."""

from __future__ import annotations

from typing import Any

import pytest

from llama_core.builtin.preprocessors import ChatTemplating, SystemPrompt
from llama_core.contracts.preprocessor import Prompt
from llama_core.errors import LlamaError

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if tools %}[{{ tools[0].name }}]{% endif %}{% if quiet %}hush{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HI: Any = {"role": "user", "content": "Hi"}
THEIRS: Any = {"role": "system", "content": "Sing."}


def test_messages_become_the_templates_text() -> None:
    render = ChatTemplating(TEMPLATE, {"bos_token": "<s>"}, {"quiet": True})
    prompt = render(Prompt(messages=(HI,), tools=({"name": "f"},), metadata={"user": "x"}))
    assert prompt.text == "<s><user>Hi[f]hush<assistant>"
    assert prompt.messages == ()
    assert prompt.metadata == {"user": "x"}
    assert ChatTemplating(TEMPLATE, add_generation_prompt=False)(Prompt(messages=(HI,))).text == (
        "<user>Hi"
    )


def test_a_text_is_left_alone_and_text_with_messages_refused() -> None:
    render = ChatTemplating(TEMPLATE)
    assert render(Prompt(text="once")) == Prompt(text="once")
    with pytest.raises(LlamaError, match="a text and messages"):
        render(Prompt(text="once", messages=(HI,)))


def test_a_template_that_is_none_is_refused_when_it_is_given() -> None:
    with pytest.raises(LlamaError, match="template"):
        ChatTemplating("{% for %}")


@pytest.mark.parametrize(
    ("existing", "messages", "expected"),
    [
        ("keep", (HI,), [("system", "Be brief."), ("user", "Hi")]),
        ("keep", (THEIRS, HI), [("system", "Sing."), ("user", "Hi")]),
        ("replace", (THEIRS, HI), [("system", "Be brief."), ("user", "Hi")]),
        ("append", (THEIRS, HI), [("system", "Be brief.\n\nSing."), ("user", "Hi")]),
    ],
)
def test_the_system_message(existing: Any, messages: Any, expected: Any) -> None:
    prompt = SystemPrompt("Be brief.", existing)(Prompt(messages=messages))
    assert [(m["role"], m["content"]) for m in prompt.messages] == expected


def test_a_plain_text_gets_no_system_message() -> None:
    assert SystemPrompt("Be brief.")(Prompt(text="Once")) == Prompt(text="Once")
