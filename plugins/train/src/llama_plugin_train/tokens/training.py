"""Training a tokenizer: byte-level BPE, or unigram with bytes for what it does not know.

Both split texts as Qwen 2 does: no piece spans words, and every digit is a token of its own, so
that a small model can learn to calculate. The result is a folder that transformers and the core
read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llama_core.announce import Announcements
from llama_core.errors import ConfigError, LlamaError
from llama_core.model.files.save_folder import new_place
from llama_core.model.tokenizer import TokenizerError
from llama_core.model.tokenizer.build import native_faults
from llama_plugin_train.tokens.template import CHATML, DOCUMENT_END, TURN_END, TURN_START

SPECIALS = (DOCUMENT_END, TURN_START, TURN_END)
# How GGUF calls this rule: qwen2.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UNKNOWN = "<unk>"


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """What a tokenizer is to become."""

    vocab_size: int
    kind: Literal["bpe", "unigram"] = "bpe"
    specials: tuple[str, ...] = ()  # besides the three that documents and turns need
    chat_template: str = CHATML
    min_frequency: int = 2  # of pairs that BPE merges
    max_length: int = 1 << 20  # of a text of the model: what transformers calls model_max_length

    @property
    def all_specials(self) -> list[str]:
        return list(dict.fromkeys([*SPECIALS, *self.specials]))

    def __post_init__(self) -> None:
        if self.kind not in ("bpe", "unigram"):
            raise ConfigError(f"no tokenizer is of kind '{self.kind}'", remedy="bpe or unigram.")
        least = 256 + len(self.all_specials) + (self.kind == "unigram")
        if self.vocab_size < least:
            raise ConfigError(
                f"a vocabulary of {self.vocab_size} cannot hold the 256 bytes and "
                f"{least - 256} special tokens",
                remedy=f"Choose at least {least}.",
            )


def train_tokenizer(
    config: TokenizerConfig,
    texts: Iterable[str],
    folder: Path,
    announcements: Announcements | None = None,
) -> None:
    """Train on texts and write the folder, which must be new."""
    counted = _Counted(texts)
    try:
        with native_faults("cannot train the tokenizer"):
            core = _bpe(config, counted) if config.kind == "bpe" else _unigram(config, counted)
    except TokenizerError as error:
        if counted.fault is not None:  # of a file, with a remedy of its own
            raise counted.fault from None
        remedy = "Ask for more tokens, or give other text."
        raise TokenizerError(error.message, remedy=remedy) from error
    if counted.characters == 0:
        raise LlamaError("there is no text to train a tokenizer on")
    if (size := core.get_vocab_size()) < config.vocab_size:
        (announcements or Announcements()).note(
            f"{counted.characters} characters of text gave {size} tokens instead of "
            f"{config.vocab_size}",
            remedy="Give more text, or ask for fewer.",
        )
    with new_place(folder) as part:
        part.mkdir()
        core.save(str(part / "tokenizer.json"))
        about = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": TURN_END,
            "pad_token": DOCUMENT_END,
            "additional_special_tokens": [TURN_START, *config.specials],
            "model_max_length": config.max_length,
            "clean_up_tokenization_spaces": False,
        }
        (part / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        (part / "chat_template.jinja").write_text(config.chat_template, "utf-8")


class _Counted:
    """Texts on their way to the trainer: how much there was, and what ended them too soon."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0
        self.fault: LlamaError | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._texts:
                self.characters += len(text)
                yield text
        except LlamaError as error:
            self.fault = error
            raise


def _bpe(config: TokenizerConfig, texts: Iterable[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=config.all_specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def _unigram(config: TokenizerConfig, texts: Iterable[str]) -> Any:
    """Trained without the bytes, which then take the places after the special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
        ]
    )
    specials = [*config.all_specials, _UNKNOWN]
    trainer = trainers.UnigramTrainer(
        vocab_size=config.vocab_size - 256,
        special_tokens=specials,
        unk_token=_UNKNOWN,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    state = json.loads(core.to_str())
    vocab = state["model"]["vocab"]
    given, learnt = vocab[: len(specials)], vocab[len(specials) :]
    lowest = min((score for _, score in learnt), default=0.0)
    bytes_ = [[f"<0x{byte:02X}>", lowest - 10] for byte in range(256)]
    pieces = [(piece, score) for piece, score in [*given, *bytes_, *learnt]]
    core.model = models.Unigram(pieces, len(specials) - 1, byte_fallback=True)
    core.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Replace("▁", " "), decoders.Fuse()]
    )
    return core
