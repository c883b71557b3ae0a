"""From a vocabulary, or a tokenizer.json, to an object of the `tokenizers` library.

The only module that builds such objects. The library is native code: what it makes of a hostile
file, a panic included, ends as a `TokenizerError` here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llama_core.model.tokenizer import patterns
from llama_core.model.tokenizer.pretokenizers import rule
from llama_core.model.tokenizer.vocabulary import Kind, TokenizerError, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_SPACE = "▁"
_MAX_MERGED = 256  # characters; no piece that was made by merging is longer in any known model

# A search for eight of one byte takes a tenth of what one for eight digits does.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_TEXT_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"|[:,\[]\s*(\d{8,})(?![\d.])', re.DOTALL)

T = TypeVar("T")


@contextmanager
def native_faults(what: str) -> Iterator[None]:
    """Turn whatever the native library raises into one kind of error."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, TokenizerError):
        raise
    except BaseException as error:  # noqa: BLE001  (a Rust panic is no Exception)
        raise TokenizerError(
            f"{what}: {str(error)[:300] or type(error).__name__}",
            remedy="Take the tokenizer anew from where the model came.",
        ) from None


def guarded(what: str, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """One native call under `native_faults`."""
    with native_faults(what):
        return call(*arguments, **named)


def from_json(data: bytes, path: Path) -> Core:
    """A tokenizer.json as it is."""
    from tokenizers import Tokenizer

    if (number := _huge_number(data)) is not None:
        raise TokenizerError(f"cannot read {path}: no vocabulary has an id of {number}")
    core: Core = guarded(f"cannot read {path}", Tokenizer.from_buffer, data)
    if (why := patterns.fault(core)) is not None:
        raise TokenizerError(f"cannot read {path}: {why}")
    core.no_padding()
    core.no_truncation()
    return core


def _huge_number(data: bytes) -> str | None:
    """A whole number of eight digits or more outside of texts. The library makes tables as long as
    the largest id, so that one number could take all memory."""
    if b"00000000" not in data.translate(_DIGITS_ALIKE):
        return None
    found = (one[1] for one in _TEXT_OR_NUMBER.finditer(data) if one[1] is not None)
    number = next(found, None)
    return None if number is None else number[:40].decode()


def from_vocabulary(vocabulary: Vocabulary) -> Core:
    """A tokenizer built from its parts."""
    if faults := vocabulary.faults():
        raise TokenizerError(f"the vocabulary is malformed: {'; '.join(faults)}")
    with native_faults("the vocabulary is malformed"):
        core = _bpe(vocabulary) if vocabulary.model == "bpe" else _spm(vocabulary)
        _add_special(core, vocabulary)
        _add_template(core, vocabulary)
        return core


def literal(core: Core) -> Core:
    """A copy to which the names of special tokens are text like any other.

    The library's own switch for this leaves those alone that the model's vocabulary has too; they
    are given names there that no text contains, so that ids stay what they are.
    """
    from tokenizers import Tokenizer

    state = json.loads(core.to_str())
    special = {token["content"] for token in state["added_tokens"] if token["special"]}
    model = state["model"]
    hidden = {piece: f"\U0010fffe{piece}\U0010fffe" for piece in special}
    if model["type"] == "Unigram":
        inside = {piece for piece, _ in model["vocab"]} & special
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        inside = special & model["vocab"].keys()
        model["vocab"] = {hidden.get(piece, piece): i for piece, i in model["vocab"].items()}
        merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges", [])]
        if merges:
            gone = (set(pair) | {"".join(pair)} for pair in merges)
            model["merges"] = [
                m for m, names in zip(merges, gone, strict=True) if not names & inside
            ]
        if model.get("unk_token") in inside:
            model["unk_token"] = hidden[model["unk_token"]]
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in inside]
    state["post_processor"] = None
    copy: Core = guarded("cannot copy the tokenizer", Tokenizer.from_str, json.dumps(state))
    copy.encode_special_tokens = True
    copy.post_processor = core.post_processor
    return copy


def _spm(v: Vocabulary) -> Core:
    from tokenizers import Tokenizer, decoders, models, normalizers

    model: models.Model
    if v.model == "unigram":
        pairs = list(zip(v.pieces, v.scores, strict=True))
        model = models.Unigram(pairs, unk_id=v.unknown, byte_fallback=v.byte_fallback)
    else:
        ids = _ids(v)
        unknown = None if v.unknown is None else v.pieces[v.unknown]
        model = models.BPE(
            ids,
            merges_by_score(v, ids),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=v.byte_fallback,
        )
    core = Tokenizer(model)
    steps: list[Any] = []
    if v.charsmap:
        steps.append(normalizers.Precompiled(v.charsmap))
    if v.squeeze_spaces:
        from tokenizers import Regex

        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if v.prefix_space:
        steps.append(normalizers.Prepend(_SPACE if v.escape_spaces else " "))
    if v.escape_spaces:
        steps.append(normalizers.Replace(" ", _SPACE))
    core.normalizer = normalizers.Sequence(steps)
    parts: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if v.prefix_space:
        parts.append(decoders.Strip(" ", 1, 0))
    core.decoder = decoders.Sequence(parts)
    return core


def only_first_prefixed(core: Core, prefix_space: bool) -> None:
    """The newer rule of Hugging Face's Llama: a space before the text, not after special tokens."""
    from tokenizers import normalizers, pre_tokenizers

    core.normalizer = normalizers.Sequence([])
    scheme = "first" if prefix_space else "never"
    core.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, scheme, split=False)


def merges_by_score(v: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """SentencePiece merges the pair whose whole has the best score; as a ranked list of pairs."""
    ranked = []
    for index, piece in enumerate(v.pieces):
        if len(piece) < 2 or (v.kinds and v.kinds[index] not in (Kind.NORMAL, Kind.UNUSED)):
            continue
        if len(piece) > _MAX_MERGED:
            raise TokenizerError(f"token {index} is {len(piece)} characters long")
        pairs = [
            (ids[left], ids[right])
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids
        ]
        ranked += [(-v.scores[index], index, pair) for pair in sorted(pairs)]
    ranked.sort(key=lambda one: one[:2])
    return [(v.pieces[left], v.pieces[right]) for _, _, (left, right) in ranked]


def _ids(v: Vocabulary) -> dict[str, int]:
    ids: dict[str, int] = {}
    for index, piece in enumerate(v.pieces):
        ids.setdefault(piece, index)
    return ids


def _bpe(v: Vocabulary) -> Core:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    how = rule(v.pre)
    merges = [_pair(merge) for merge in v.merges]
    core = Tokenizer(models.BPE(_ids(v), merges, ignore_merges=how.ignore_merges))
    if how.normal_form == "NFC":
        core.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if how.single_digits else []
    steps += [pre_tokenizers.Split(Regex(pattern), mode) for pattern, mode in how.splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    return core


def _pair(merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not space or not left or not right:
        raise TokenizerError(f"the merge {merge[:80]!r} does not name two tokens")
    return left, right


def _add_special(core: Core, v: Vocabulary) -> None:
    """Control tokens never come from plain text; user tokens are found in it whole."""
    from tokenizers import AddedToken

    special = dict(v.of_kind(Kind.CONTROL))
    special |= {i: v.pieces[i] for i in (v.bos, v.eos) if i is not None}
    user = [(i, piece) for i, piece in v.of_kind(Kind.USER) if i not in special]
    core.add_special_tokens(
        [AddedToken(piece, normalized=False, special=True) for piece in special.values() if piece]
    )
    core.add_tokens([AddedToken(piece, normalized=False) for _, piece in user if piece])


def _add_template(core: Core, v: Vocabulary) -> None:
    bos = v.pieces[v.bos] if v.add_bos and v.bos is not None else None
    eos = v.pieces[v.eos] if v.add_eos and v.eos is not None else None
    set_template(core, bos, eos)


def set_template(core: Core, bos: str | None, eos: str | None) -> None:
    """Put these tokens before and after what is encoded."""
    from tokenizers.processors import TemplateProcessing

    around = [token for token in (bos, eos) if token is not None]
    special = [(token, core.token_to_id(token)) for token in around]
    if any(index is None for _, index in special):
        raise TokenizerError(f"{' or '.join(map(repr, around))} is not in the vocabulary")
    before = [] if bos is None else [f"{bos}:0"]
    after = [] if eos is None else [f"{eos}:0"]
    core.post_processor = TemplateProcessing(
        single=[*before, "$A:0", *after],
        special_tokens=special,
    )
