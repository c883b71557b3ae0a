"""A trained tokenizer gives back every text, is read by the core and transformers, and is whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.tokens import CHATML, ConversationError, Encoder, TokenizerConfig
from llama_plugin_train.tokens import train_tokenizer as train
from llama_plugin_train.tokens.template import spans

from llama_core.announce import Announcements
from llama_core.errors import ConfigError, LlamaError
from llama_core.model.chat import ChatError, ChatTemplate

STEMS = ["fox", "bird", "tree", "apple", "pear", "old", "red", "sing", "see", "Über", "naïve"]
# Unigram finds a piece where several words hold it.
WORDS = [*STEMS, *(f"{one}s" for one in STEMS), *(f"{one}ing" for one in STEMS), "12", "345"]
HARD = ["", " ", "a", "  two  spaces ", "tab\tand\nlines\r\n", "日本語 😀 é", "12345+67=", "�\x01"]


def corpus(seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=20)) + ".\n" for _ in range(200)]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("tokenizer") / request.param
    train(TokenizerConfig(vocab_size=400, kind=request.param), corpus(), folder)
    return Encoder(folder)


def test_every_text_comes_back(encoder: Encoder) -> None:
    for text, ids in zip(HARD, encoder.encode_texts(HARD), strict=True):
        assert encoder.tokenizer.decode(ids) == text


def test_it_learnt_words_and_leaves_digits_alone(encoder: Encoder) -> None:
    (words,) = encoder.encode_texts([" ".join(STEMS[:8])])
    assert len(words) < 24
    (digits,) = encoder.encode_texts(["345"])
    assert len([one for one in digits if encoder.tokenizer.decode([one]).strip()]) == 3


def test_transformers_reads_it_alike(encoder: Encoder) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.AutoTokenizer.from_pretrained(encoder.folder)
    for text, ids in zip(HARD, encoder.encode_texts(HARD), strict=True):
        assert theirs.encode(text, add_special_tokens=False) == ids
    messages = [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "12"}]
    ours = ChatTemplate(CHATML).render(messages, add_generation_prompt=True)
    shown = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert shown == ours
    assert (theirs.eos_token, theirs.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_training_again_gives_the_same(tmp_path: Path) -> None:
    for name in "ab":
        train(TokenizerConfig(vocab_size=320), corpus(), tmp_path / name)
    assert Encoder(tmp_path / "a").digest == Encoder(tmp_path / "b").digest
    train(TokenizerConfig(vocab_size=320), corpus(1)[:150], tmp_path / "c")
    assert Encoder(tmp_path / "a").digest != Encoder(tmp_path / "c").digest


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocabulary of 200 .*at least 259"):
        TokenizerConfig(vocab_size=200)
    with pytest.raises(ConfigError, match="'wordpiece'"):
        TokenizerConfig(vocab_size=500, kind="wordpiece")  # type: ignore[arg-type]
    with pytest.raises(LlamaError, match="no text to train"):
        train(TokenizerConfig(vocab_size=300), [], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(LlamaError, match=r"not large enough.*Ask for more tokens"):
        train(TokenizerConfig(vocab_size=262, kind="unigram"), corpus(), tmp_path / "none")
    said = Announcements()
    train(TokenizerConfig(vocab_size=5000), corpus()[:2], tmp_path / "small", said)
    assert any("instead of 5000" in text for text in said.counts)
    with pytest.raises(LlamaError, match="already there"):
        train(TokenizerConfig(vocab_size=300), corpus(), tmp_path / "small")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_text_that_cannot_be_read_is_said_in_its_own_words(tmp_path: Path, kind: Any) -> None:
    def texts() -> Iterator[str]:
        yield from corpus()
        raise LlamaError("b.txt is no text", remedy="Leave it out.")

    with pytest.raises(LlamaError) as refused:
        train(TokenizerConfig(vocab_size=400, kind=kind), texts(), tmp_path / "none")
    assert str(refused.value) == "b.txt is no text. Leave it out."
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(LlamaError, match=r"there is no tokenizer\.json.*Train one"):
        Encoder(tmp_path)


def chat(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def test_what_is_learnt_is_what_the_assistant_writes() -> None:
    pieces = spans(
        ChatTemplate(CHATML),
        chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
    )
    assert [text for text, learnt in pieces if learnt] == ["b<|im_end|>\n", "d<|im_end|>\n"]
    assert pieces[2] == ("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n", False)


def test_a_template_that_rewrites_turns_is_refused() -> None:
    """Such as one that drops the thoughts of all turns but the last."""
    template = ChatTemplate("{{ messages | length }}" + CHATML)
    with pytest.raises(ConversationError, match="writes a turn otherwise"):
        spans(template, chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")))


def test_a_template_may_refuse_a_conversation(tmp_path: Path) -> None:
    """That is the conversation's fault; a template that fails is its own."""
    asks = "{% if messages[0].role != 'user' %}{{ raise_exception('ask first') }}{% endif %}"
    turns = chat(("system", "a"), ("user", "b"), ("assistant", "c"))
    for template, error, said in [
        (asks + CHATML, ConversationError, "the template refuses it: ask first"),
        ("{{ 1 / 0 }}" + CHATML, ChatError, "the chat template fails"),
    ]:
        config = TokenizerConfig(vocab_size=280, chat_template=template)
        folder = tmp_path / error.__name__
        train(config, corpus(), folder)
        with pytest.raises(error, match=said):
            Encoder(folder).encode_chat(turns)
