"""Chat templates: messages to the text that a model was trained on.

Templates come with models, and nobody vouches for them; messages come from users. The template runs
in a sandbox that lets it change nothing and see only plain data, with limits on its size, its time
and its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.contracts.format import ModelFiles
    from llama_core.model.chat.sandbox import CompiledTemplate
    from llama_core.model.tokenizer import Tokenizer

MAX_SECONDS = 1.0
MAX_CHARACTERS = 1 << 23
_DEEPEST = 64


class ChatError(LlamaError):
    """A chat cannot be put into a model's words. `from_template` where the template itself said so,
    which is a mistake in the messages; the rest are faults of the template."""

    code = "chat_invalid"

    def __init__(
        self, message: str, *, remedy: str | None = None, from_template: bool = False
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.from_template = from_template


class ChatTemplate:
    """One model's template, with the special tokens that it may name."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self.source = source
        self._tokens = dict(special_tokens or {})
        self._compiled = _compiled(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
        max_seconds: float = MAX_SECONDS,
        max_characters: int = MAX_CHARACTERS,
    ) -> str:
        """The text. `variables` are what a template may offer besides, `enable_thinking` say."""
        seen = {
            **self._tokens,
            **(variables or {}),
            "messages": messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        plain = {str(name): plain_data(value) for name, value in seen.items()}
        return self._compiled.render(plain, max_seconds, max_characters)


def chat_template(files: ModelFiles, tokenizer: Tokenizer, name: str | None = None) -> ChatTemplate:
    """A model's template: the default one, or another that it has by name."""
    named: Mapping[str, str] = files.tokenizer.get("templates", {})
    source = named.get(name) if name is not None else files.chat_template
    if source is None:
        which = "no chat template" if name is None else f"no chat template named '{name}'"
        remedy = f"It has: {', '.join(sorted(named))}." if named else "Use plain completion."
        raise ChatError(f"the model has {which}", remedy=remedy)
    return ChatTemplate(source, tokenizer.special_tokens)


@lru_cache(maxsize=32)
def _compiled(source: str) -> CompiledTemplate:
    from llama_core.model.chat.sandbox import CompiledTemplate

    return CompiledTemplate(source)


def plain_data(value: Any, depth: int = 0) -> Any:
    """A copy made of dicts, lists, texts, numbers, booleans and None only."""
    if depth > _DEEPEST:
        raise ChatError(f"the messages are nested deeper than {_DEEPEST}")
    if isinstance(value, Mapping):
        return {str(key): plain_data(one, depth + 1) for key, one in value.items()}
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain_data(one, depth + 1) for one in value]
    raise ChatError(f"a message holds a {type(value).__name__}, which no template can show")
