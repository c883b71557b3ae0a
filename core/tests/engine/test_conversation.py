"""Conversations with a loaded model: what is asked, remembered, left out and taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.conversation import Conversation, Turn
from llama_core.engine.faults import ContextOverflow
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Use
from llama_core.errors import LlamaError

from .scripted import TEMPLATE, scripted_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = scripted_model(tmp_path_factory.mktemp("model") / "chatty", context=128)
    with load(folder, plugins=Plugins(discover([]), Config())) as one:
        yield one


def tell(conversation: Conversation, turn: Turn) -> str:
    choice = conversation.loaded.engine.generate(turn.request).choices[0]
    return str(conversation.heard(choice.pieces)["content"])


def ask(conversation: Conversation, text: str, **params: int) -> str:
    return tell(conversation, conversation.ask(text, Params(**params)))  # type: ignore[arg-type]


def test_every_turn_sees_those_before(loaded: Loaded) -> None:
    talk = Conversation(loaded)
    assert ask(talk, "hi") == "Hello there."
    assert ask(talk, "hi") == "We spoke before."
    assert tell(talk, talk.again(Params())) == "We spoke before."
    assert [m["role"] for m in talk.messages] == ["user", "assistant"] * 2
    assert talk.undo()
    assert talk.undo()
    assert not talk.undo()


def test_a_prompt_has_what_the_template_says_and_no_more(loaded: Loaded) -> None:
    """Special tokens of the tokenizer's own would come twice."""
    turn = Conversation(loaded, system="Hush.").ask("hi", Params())
    text = "<|system|>Hush.<|end|><|user|>hi<|end|><|brief|>"
    ids = [loaded.tokenizer.token_to_id(each) for each in ("<|system|>", "<|brief|>")]
    assert [turn.request.prompt[0], turn.request.prompt[-1]] == ids
    assert loaded.tokenizer.decode(turn.request.prompt, skip_special=False) == text


def test_reasoning_and_calls_are_remembered_as_such(loaded: Loaded) -> None:
    talk = Conversation(loaded, tools=({"name": "look_up"},))
    assert ask(talk, "think") == "It is 42."
    assert talk.messages[-1]["reasoning_content"] == "Hmm, let me see."
    assert ask(talk, "call") == "Wait."
    (call,) = talk.open_calls
    assert call["function"] == {"name": "look_up", "arguments": {"of": "sky"}}
    talk.result("blue")
    assert talk.messages[-1]["tool_call_id"] == call["id"]
    assert talk.open_calls == []
    assert tell(talk, talk.again(Params())) == "The sky is blue."
    assert json.loads(json.dumps(talk.messages)) == talk.messages


def test_without_tools_a_call_is_text(loaded: Loaded) -> None:
    assert "<tool_call>" in ask(Conversation(loaded), "call")


def test_tools_need_a_place_in_the_template(loaded: Loaded) -> None:
    with pytest.raises(LlamaError, match="no place for tools"):
        Conversation(loaded, template="{{ messages[0].content }}", tools=({"name": "f"},))


def test_a_template_for_the_use_of_tools_is_used_with_tools(tmp_path: Path) -> None:
    folder = scripted_model(tmp_path / "two", template="{{ messages[0].content }}<|hello|>")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TEMPLATE)
    with load(folder, plugins=Plugins(discover([]), Config())) as one:
        assert Conversation(one).dialect.tools is None
        assert Conversation(one, tools=({"name": "look_up"},)).dialect.tools == "tools-hermes"


def test_the_oldest_turns_make_room(loaded: Loaded) -> None:
    talk = Conversation(loaded)
    left_out = []
    for _ in range(8):
        turn = talk.ask("x" * 12, Params())
        left_out.append(turn.num_left_out)
        assert len(turn.request.prompt) + 128 // 4 <= 128
        assert len(turn.request.prompt) + (turn.request.params.max_tokens or 0) == 128
        tell(talk, turn)
    assert left_out == sorted(left_out)
    assert left_out[0] == 0
    assert left_out[-1] > 0
    assert talk.num_turns == 8, "left out of the prompt, and not forgotten"


def test_what_cannot_be_asked_has_not_been_said(loaded: Loaded) -> None:
    talk = Conversation(loaded)
    ask(talk, "hi")
    with pytest.raises(ContextOverflow, match="the context holds 128"):
        talk.ask("x" * 200, Params())
    assert talk.num_turns == 1
    broken = Conversation(loaded, template=TEMPLATE + "{{ raise_exception('no such role') }}")
    with pytest.raises(LlamaError, match="no such role"):
        broken.ask("hi", Params())
    assert broken.messages == []


def test_a_long_answer_is_asked_for_no_longer_than_there_is_room(loaded: Loaded) -> None:
    turn = Conversation(loaded).ask("hi", Params(max_tokens=10_000))
    assert turn.request.params.max_tokens == 128 - len(turn.request.prompt)


def test_a_model_without_a_template_says_what_to_do(tmp_path: Path) -> None:
    bare = scripted_model(tmp_path / "bare", template=None)
    with load(bare, plugins=Plugins(discover([]), Config())) as one:
        with pytest.raises(LlamaError, match="--chat-template FILE"):
            Conversation(one)
        assert ask(Conversation(one, template="{{ messages[0].content }}<|hello|>"), "hi")


def test_what_a_request_names_comes_behind_what_the_template_asks_for(loaded: Loaded) -> None:
    guard = Use("tools-hermes", {"salt": "x"}, required=True)
    turn = Conversation(loaded).ask("think", Params(postprocessors=(guard,)))
    names = [use.name for use in turn.request.params.postprocessors if isinstance(use, Use)]
    assert names == ["reasoning", "tools-hermes"]


def test_preprocessors_see_the_messages_before_the_template(loaded: Loaded) -> None:
    terse = Use("system-prompt", {"text": "be terse"}, required=True)
    talk = Conversation(loaded, preprocessors=[terse])
    assert ask(talk, "hi") == "As told, briefly."
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
