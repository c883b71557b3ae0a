"""The inputs of each parser, and the property that holds for all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import inputs_of_files, inputs_of_words
from .bounds import check, run

STRATEGIES: dict[str, st.SearchStrategy[bytes]] = {
    "safetensors": inputs_of_files.safetensors_files(),
    "gguf": inputs_of_files.gguf_files(),
    "configs": inputs_of_files.config_files(),
    "tokenizer_json": inputs_of_words.tokenizer_files(),
    "sentencepiece": inputs_of_words.sentencepiece_files(),
    "gguf_vocabulary": inputs_of_words.gguf_vocabularies(),
    "chat_template": inputs_of_words.chat_templates(),
    "hub": inputs_of_words.hub_answers(),
}


def inputs_of(name: str) -> Any:
    """A function without arguments that makes and checks the inputs of one parser."""

    @run
    @given(data=STRATEGIES[name])
    def one(data: bytes) -> None:
        check(name, data)

    return one
