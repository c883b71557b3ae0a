"""The chat template that new tokenizers get, and which words of a conversation are to be learnt.

What is learnt is what the model will have to write: from the end of the generation prompt to the
end of the turn. It is found by rendering the conversation up to each turn, so any template serves
whose text for a longer conversation begins with that for a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_core.errors import LlamaError
from llama_core.model.chat import ChatTemplate

DOCUMENT_END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class ConversationError(LlamaError):
    """A conversation cannot be learnt from."""

    code = "conversation_invalid"


def spans(template: ChatTemplate, messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """The text of a conversation in order, each piece with whether it is to be learnt."""
    pieces: list[tuple[str, bool]] = []
    text = ""
    for count, message in enumerate(messages, 1):
        if message.get("role") != "assistant":
            continue
        prompt = template.render(messages[: count - 1], add_generation_prompt=True)
        after = template.render(messages[:count], add_generation_prompt=False)
        if not prompt.startswith(text) or not after.startswith(prompt):
            raise ConversationError(
                "the chat template writes a turn otherwise once another follows, so that what is "
                "to be learnt cannot be told from it",
                remedy="Use a template that only ever appends, such as the one of new tokenizers.",
            )
        pieces += [(prompt[len(text) :], False), (after[len(prompt) :], True)]
        text = after
    if not pieces:
        raise ConversationError("the conversation has no turn of the assistant to learn")
    return pieces
