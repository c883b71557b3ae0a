"""What is done to a prompt before it is tokenized: a system prompt, the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from llama_core.contracts.preprocessor import Prompt
from llama_core.errors import LlamaError


class ChatTemplating:
    """Messages to the text of the model's template. A prompt of plain text stays as it is."""

    def __init__(
        self,
        template: str,
        special_tokens: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> None:
        from llama_core.model.chat import ChatTemplate

        self._template = ChatTemplate(template, special_tokens)
        self._variables = variables
        self._add_generation_prompt = add_generation_prompt

    def __call__(self, prompt: Prompt) -> Prompt:
        if not prompt.messages:
            return prompt
        if prompt.text is not None:
            raise LlamaError(
                "the prompt has a text and messages, and a template can show only messages",
                remedy="Give one of the two.",
            )
        text = self._template.render(
            prompt.messages,
            tools=prompt.tools or None,
            add_generation_prompt=self._add_generation_prompt,
            variables=self._variables,
        )
        return replace(prompt, text=text, messages=())


class SystemPrompt:
    """A system message of the operator's, before the others.

    Where the messages begin with one already, `existing` says what becomes of it. A prompt of plain
    text has no place for one and stays as it is.
    """

    def __init__(self, text: str, existing: Literal["keep", "replace", "append"] = "keep") -> None:
        self._text = text
        self._existing = existing

    def __call__(self, prompt: Prompt) -> Prompt:
        if not prompt.messages:
            return prompt
        first, *rest = prompt.messages
        mine = {"role": "system", "content": self._text}
        if first.get("role") not in ("system", "developer"):
            return replace(prompt, messages=(mine, first, *rest))
        if self._existing == "keep":
            return prompt
        if self._existing == "append":
            content = first.get("content")
            if isinstance(content, str):
                mine["content"] += f"\n\n{content}"
            else:
                rest = [first, *rest]
        return replace(prompt, messages=(mine, *rest))
