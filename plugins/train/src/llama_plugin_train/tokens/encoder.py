"""A tokenizer's folder as data is made with it: texts and conversations to tokens, and a digest.

Special tokens come from the template alone: their names in a text are text, and a conversation
whose words hold one is refused, since they would end a turn that nobody ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_core.model.chat import ChatError, ChatTemplate
from llama_core.model.files.jsontext import read_bytes, read_object
from llama_core.model.tokenizer import Tokenizer, build
from llama_plugin_train.sealed import digest_of
from llama_plugin_train.tokens.template import DOCUMENT_END, ConversationError, spans

__all__ = ["ConversationError", "Encoder"]


class Encoder:
    """What is in a tokenizer's folder: `tokenizer.json` and, for chats, its template."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise LlamaError(
                f"{folder} holds no tokenizer: there is no tokenizer.json",
                remedy="Train one first, or name the folder of a model.",
            )
        data = read_bytes(path)
        config = folder / "tokenizer_config.json"
        self.config: dict[str, Any] = read_object(config) if config.is_file() else {}
        template = folder / "chat_template.jinja"
        kept = self.config.get("chat_template")
        if template.is_file():
            kept = read_bytes(template).decode()
        self.template_source: str | None = kept if isinstance(kept, str) else None
        self.tokenizer = Tokenizer(build.from_json(data, path), named=self._named(data, path))
        self.digest = digest_of([data.decode(), self.template_source])

    def _named(self, data: bytes, path: Path) -> dict[str, int]:
        core = build.from_json(data, path)
        found = {}
        for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
            value = self.config.get(name)
            text = value.get("content") if isinstance(value, Mapping) else value
            index = core.token_to_id(text) if isinstance(text, str) else None
            if index is not None:
                found[name] = index
        return found

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def document_end(self) -> int:
        """The token that ends a document."""
        found = self.tokenizer.token_to_id(DOCUMENT_END)
        found = self.tokenizer.named.get("eos_token") if found is None else found
        if found is None:
            raise LlamaError(
                f"the tokenizer in {self.folder} has no token that ends a document",
                remedy=f"Name an eos_token in tokenizer_config.json, or add {DOCUMENT_END}.",
            )
        return found

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, no special one among them."""
        core = self._literal
        found = build.guarded(
            "cannot encode", core.encode_batch_fast, list(texts), add_special_tokens=False
        )
        return [one.ids for one in found]

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """The tokens of a conversation, and for each 1 where the model is to learn it."""
        self._check(messages)
        tokens: list[int] = []
        weights: list[int] = []
        try:
            pieces = spans(self._template, messages)
        except ChatError as error:
            if error.from_template:
                raise ConversationError(f"the template refuses it: {error.message}") from error
            raise
        for text, learnt in pieces:
            found = self.tokenizer.encode(text, add_special=False)
            tokens += found
            weights += [int(learnt)] * len(found)
        return tokens, weights

    def _check(self, messages: Sequence[Mapping[str, Any]]) -> None:
        for message in messages:
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                raise ConversationError("a message is no object with a role and content")
            content = message.get("content")
            if not isinstance(content, str):
                raise ConversationError(f"a message of '{message['role']}' has no text as content")
            for special in self._specials:
                if special in content:
                    raise ConversationError(
                        f"a message of '{message['role']}' holds the special token {special}"
                    )

    @cached_property
    def _specials(self) -> list[str]:
        found = (self.tokenizer.id_to_token(one) for one in self.tokenizer.special_ids)
        return [one for one in found if one]

    @cached_property
    def _template(self) -> ChatTemplate:
        if self.template_source is None:
            raise LlamaError(
                f"the tokenizer in {self.folder} has no chat template, which conversations need",
                remedy="Put chat_template.jinja into its folder.",
            )
        return ChatTemplate(self.template_source, self.tokenizer.special_tokens)

    @cached_property
    def _literal(self) -> Any:
        return build.literal(self.tokenizer.core)
