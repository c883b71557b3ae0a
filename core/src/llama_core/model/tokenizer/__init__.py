"""The tokenizer of a model: text to tokens and back, and which tokens begin and end a text.

One class for every source: tokenizer.json, a SentencePiece model, the vocabulary of a GGUF file.
The work is the `tokenizers` library's; it is imported when the first tokenizer is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.model.detokenizer import Detokenizer
from llama_core.model.files.faults import ModelFileError
from llama_core.model.files.jsontext import read_bytes
from llama_core.model.tokenizer import build
from llama_core.model.tokenizer.gguf_vocabulary import ends, read_gguf_vocabulary
from llama_core.model.tokenizer.pieces import Pieces, pieces_of
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece
from llama_core.model.tokenizer.vocabulary import TokenizerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

    from llama_core.contracts.format import ModelFiles

__all__ = ["Detokenizer", "Tokenizer", "TokenizerError", "open_tokenizer", "tokenizer_json"]

_MAX_FILE = 128 << 20


class Tokenizer:
    """Text to tokens and back. Immutable, and safe to use from many threads."""

    def __init__(
        self, core: Core, *, named: Mapping[str, int] | None = None, eos: Iterable[int] = ()
    ) -> None:
        """`named` are the tokens that have a role, `bos_token` and so on; `eos` all that end."""
        self.core = core
        self.named = dict(named or {})
        self.eos = frozenset(eos)
        added = core.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self.named.get("bos_token")

    @property
    def vocab_size(self) -> int:
        """The number of tokens; a model may have more rows than its tokenizer has tokens."""
        return int(self.core.get_vocab_size(with_added_tokens=True))

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids. With `parse_special` off, a special token's name in the text is just text."""
        core = self.core if parse_special else self._literal
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"the text has half a surrogate pair at character {error.start}",
                remedy="Decode the text from its bytes before encoding it.",
            ) from None
        found = build.guarded("cannot encode", core.encode, text, add_special_tokens=add_special)
        return list(found.ids)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of a whole sequence; bytes that are no UTF-8 become U+FFFD."""
        return Detokenizer(self, skip_special=skip_special).all(tokens)

    def token_to_id(self, token: str) -> int | None:
        return self.core.token_to_id(token)

    def id_to_token(self, index: int) -> str | None:
        """A token as the vocabulary writes it."""
        return self.core.id_to_token(index) if 0 <= index < 1 << 32 else None

    @property
    def special_tokens(self) -> dict[str, str]:
        """What a chat template may name: `bos_token`, `eos_token` and so on, as texts."""
        found = {name: self.id_to_token(index) for name, index in self.named.items()}
        return {name: token for name, token in found.items() if token is not None}

    @cached_property
    def pieces(self) -> Pieces | None:
        """The bytes of each token, where its decoder has such a table."""
        return pieces_of(self.core)

    @cached_property
    def _literal(self) -> Core:
        """A copy that finds no special tokens in text."""
        return build.literal(self.core)


def open_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer of a model's files; the ends are those of config and generation config too."""
    source = files.tokenizer
    kind = source.get("kind")
    config: Mapping[str, Any] = source.get("config", {})
    if kind == "gguf":
        metadata = source["metadata"]
        vocabulary = read_gguf_vocabulary(metadata)
        roles = {"bos": vocabulary.bos, "eos": vocabulary.eos, "unk": vocabulary.unknown}
        named = {f"{role}_token": index for role, index in roles.items() if index is not None}
        eos = ends(metadata, vocabulary)
        return Tokenizer(build.from_vocabulary(vocabulary), named=named, eos=eos)
    if kind == "huggingface":
        core = _from_json(Path(source["path"]), config)
    elif kind == "sentencepiece":
        core = _from_sentencepiece(Path(source["path"]), config)
    else:
        raise ModelFileError(
            files.path,
            ["it has no tokenizer"],
            remedy="Put tokenizer.json or tokenizer.model beside the weights.",
        )
    given = {name: _named(core, config, name) for name in config if name.endswith("_token")}
    named = {name: index for name, index in given.items() if index is not None}
    found: list[object] = [named.get("eos_token")]
    for where in (files.generation, files.config):
        value = where.get("eos_token_id")
        found += value if isinstance(value, list) else [value]
    eos = _ids(found)
    for name, ids in (("bos_token", _ids([files.config.get("bos_token_id")])), ("eos_token", eos)):
        if name not in named and ids:
            named[name] = ids[0]
    return Tokenizer(core, named=named, eos=eos)


def _ids(found: Iterable[object]) -> list[int]:
    return [index for index in found if type(index) is int and 0 <= index < 1 << 32]


def tokenizer_json(source: Mapping[str, Any]) -> str:
    """A tokenizer.json for any source, so that a folder can be written from a GGUF file."""
    if source.get("kind") != "gguf":
        raise TokenizerError("only a GGUF vocabulary has to be put into words")
    core = build.from_vocabulary(read_gguf_vocabulary(source["metadata"]))
    return str(core.to_str())


def _from_json(path: Path, config: Mapping[str, Any]) -> Core:
    core = build.from_json(read_bytes(path, _MAX_FILE), path)
    if core.post_processor is None or not {"add_bos_token", "add_eos_token"}.isdisjoint(config):
        bos, eos = (_around(core, config, which) for which in ("bos", "eos"))
        if bos or eos or core.post_processor is not None:
            build.guarded(f"cannot read {path}", build.set_template, core, bos, eos)
    return core


def _around(core: Core, config: Mapping[str, Any], which: str) -> str | None:
    """The token that the tokenizer's config wants put around every text."""
    if not config.get(f"add_{which}_token"):
        return None
    index = _named(core, config, f"{which}_token")
    return None if index is None else core.id_to_token(index)


def _from_sentencepiece(path: Path, config: Mapping[str, Any]) -> Core:
    from dataclasses import replace

    vocabulary = read_sentencepiece(read_bytes(path, _MAX_FILE), path)
    bos, eos = config.get("add_bos_token", True), config.get("add_eos_token", False)
    vocabulary = replace(vocabulary, add_bos=bool(bos), add_eos=bool(eos))
    core = build.from_vocabulary(vocabulary)
    if config.get("legacy") is False and vocabulary.model == "spm":
        build.only_first_prefixed(core, vocabulary.prefix_space)
    _add_later_tokens(core, config, path)
    return core


def _add_later_tokens(core: Core, config: Mapping[str, Any], path: Path) -> None:
    """Tokens that were added after the SentencePiece model was made, in the order of their ids."""
    from tokenizers import AddedToken

    later = config.get("added_tokens_decoder", {})
    if not isinstance(later, Mapping):
        raise TokenizerError(f"{path.parent}: 'added_tokens_decoder' is no object")
    try:
        tokens = sorted(((int(i), token) for i, token in later.items()), key=lambda one: one[0])
    except (TypeError, ValueError):
        raise TokenizerError(f"{path.parent}: 'added_tokens_decoder' has bad keys") from None
    for index, token in tokens:
        if not isinstance(token, Mapping) or not isinstance(token.get("content"), str):
            raise TokenizerError(f"{path.parent}: added token {index} has no content")
        added = AddedToken(
            token["content"],
            special=bool(token.get("special")),
            normalized=bool(token.get("normalized")),
            lstrip=bool(token.get("lstrip")),
            rstrip=bool(token.get("rstrip")),
            single_word=bool(token.get("single_word")),
        )
        add = core.add_special_tokens if added.special else core.add_tokens
        build.guarded(f"cannot add token {index}", add, [added])
        if core.token_to_id(added.content) != index:
            raise TokenizerError(
                f"{path.parent}: added token {index} would be {core.token_to_id(added.content)}"
            )


def _named(core: Core, config: Mapping[str, Any], name: str) -> int | None:
    """The id of a token that the tokenizer's config names, by text or by an object with it."""
    value = config.get(name)
    text = value.get("content") if isinstance(value, Mapping) else value
    return core.token_to_id(text) if isinstance(text, str) else None
