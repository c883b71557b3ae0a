"""Fuzzing the parsers of tokenizers: tokenizer.json, SentencePiece models, GGUF vocabularies."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llama_core.contracts.format import ModelFiles
from llama_core.model.chat import ChatTemplate
from llama_core.model.tokenizer import Tokenizer, build, open_tokenizer
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece
from llama_core.model.weights import DenseWeights

from .bounds import Bounded, run
from .mutate import Change, changes, mutated

DATA = Path(__file__).parent.parent / "model" / "data"
TEXT = "Hello wörld  日本 <s> 12345 \n"
json_bounds, model_bounds, gguf_bounds, template_bounds = Bounded(), Bounded(), Bounded(), Bounded()

SMALLEST: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": 4, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    ],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                      "use_regex": True},
    "post_processor": {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
              "ignore_merges": False, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3},
              "merges": [["a", "b"]]},
}  # fmt: skip


def used(tokenizer: Tokenizer) -> None:
    """Whatever was accepted can be used, too."""
    ids = tokenizer.encode(TEXT)
    tokenizer.decode([*ids, 0, 1, 2, 3, 10**6])
    tokenizer.encode(TEXT, parse_special=False)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at] if at else []
    if isinstance(value, (dict, list)):
        for key, inner in items:
            found += paths(inner, (*at, key)) if isinstance(inner, (dict, list)) else [(*at, key)]
    return found


PATHS = paths(SMALLEST)
odd_values = st.sampled_from(
    [None, True, -1, 0, 1 << 31, 1 << 63, 1e308, "", "a", "▁", "ab" * 50, [], {}, [["a", "b"]] * 3,
     {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
     {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
     {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
     {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
     {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
     {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0], ["b", -1e300]], "byte_fallback": True},
     {"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0}, "max_input_chars_per_word": 10,
      "continuing_subword_prefix": "##"},
     {"type": "Strip", "content": "a", "start": 1 << 40, "stop": 1}]
)  # fmt: skip


def with_changes(where: list[tuple[int, Any]]) -> dict[str, Any]:
    state = json.loads(json.dumps(SMALLEST))
    for number, value in where:
        path = PATHS[number % len(PATHS)]
        inner = state
        try:
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue
    return dict(state)


@run
@given(where=st.lists(st.tuples(st.integers(0, 999), odd_values), max_size=2), change=changes)
def test_tokenizer_json(where: list[tuple[int, Any]], change: list[Change]) -> None:
    data = mutated(json.dumps(with_changes(where)).encode(), change[: len(change) // 2])
    json_bounds(lambda: used(Tokenizer(build.from_json(data, Path("tokenizer.json")))), len(data))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | float) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


pieces = st.builds(
    lambda text, score, kind: field(1, text.encode()) + field(2, score) + field(3, kind),
    st.text("ab▁<>", max_size=4) | st.sampled_from(["<0x41>", "<unk>", "<s>", "a" * 300]),
    st.floats(width=32),
    st.integers(1, 6) | st.just(1),
)
settings_ = st.lists(
    st.tuples(st.sampled_from([3, 35, 40, 41, 42, 2]), st.integers(0, 3) | st.integers(0, 1 << 63)),
    max_size=4,
)


@run
@given(
    some=st.lists(pieces, max_size=8),
    trainer=settings_,
    normalizer=settings_,
    charsmap=st.binary(max_size=12),
    change=changes,
)
def test_sentencepiece(
    some: list[bytes],
    trainer: list[tuple[int, int]],
    normalizer: list[tuple[int, int]],
    charsmap: bytes,
    change: list[Change],
) -> None:
    data = b"".join(field(1, piece) for piece in some)
    data += field(2, b"".join(field(n, v) for n, v in trainer))
    data += field(3, b"".join(field(n, v) for n, v in normalizer if n != 2) + field(2, charsmap))
    data = mutated(data, change[: len(change) // 2])

    def parse() -> None:
        used(Tokenizer(build.from_vocabulary(read_sentencepiece(data, Path("tokenizer.model")))))

    model_bounds(parse, len(data))


scalar = st.none() | st.booleans() | st.integers(-1, 5) | st.floats() | st.text(max_size=4)


@run
@given(
    model=st.sampled_from(["llama", "gpt2", "t5", "bert"]),
    tokens=st.lists(st.text("ab▁Ġ<>", max_size=3), max_size=6),
    extra=st.dictionaries(
        st.sampled_from(["scores", "token_type", "merges", "pre", "bos_token_id", "eos_token_id",
                         "unknown_token_id", "add_bos_token", "add_space_prefix",
                         "precompiled_charsmap", "tokens"]),
        scalar | st.lists(scalar, max_size=6) | st.lists(st.integers(0, 6), max_size=6)
        | st.lists(st.sampled_from(["a b", "b a", "ab", " "]), max_size=3),
        max_size=4,
    ),
)  # fmt: skip
def test_gguf_vocabularies(model: str, tokens: list[str], extra: dict[str, Any]) -> None:
    metadata: dict[str, Any] = {"model": model, "tokens": tokens, "pre": "qwen2", "merges": []}
    metadata["scores"] = [-float(i) for i in range(len(tokens))]
    metadata["token_type"] = [1] * len(tokens)
    keyed = {f"tokenizer.ggml.{k}": v for k, v in (metadata | extra).items()}
    files = ModelFiles(
        Path(), "gguf", {}, DenseWeights({}), tokenizer={"kind": "gguf", "metadata": keyed}
    )
    gguf_bounds(lambda: used(open_tokenizer(files)), 1000)


snippets = st.sampled_from(
    ["{{ messages }}", "{% for m in messages %}", "{% endfor %}", "{{ m.role ~ m['content'] }}",
     "{% if ", "{% endif %}", "x", "{{ 'a' * 99999999 }}", "{% set a = [a, a] %}", "{{ a }}",
     "{% macro f(x) %}", "{% endmacro %}", "{{ f(f) }}", "{{ messages | tojson(indent=2) }}", "%}",
     "{{", "}}", "{% generation %}", "{% endgeneration %}", "{{ m | attr('__class__') }}",
     "{{ range(99999) | sum }}", "{{ '%s' | format(messages) }}", "{% break %}", "{{ 2 ** 99 }}",
     "{% set ns = namespace(a=1) %}", "{{ ns.a }}", "{% filter upper %}", "{% endfilter %}"]
)  # fmt: skip


@run
@given(parts=st.lists(snippets, max_size=8), change=changes)
def test_chat_templates(parts: list[str], change: list[Change]) -> None:
    source = mutated("".join(parts).encode(), change[:1]).decode("utf-8", "replace")
    messages = [{"role": "user", "content": "hi"}]
    template_bounds(
        lambda: ChatTemplate(source, {"bos_token": "<s>"}).render(messages, max_seconds=0.2),
        len(source),
    )


def test_both_sides_were_reached() -> None:
    """A fuzzer whose inputs are all refused at the door tests the door."""
    for one in (json_bounds, model_bounds, gguf_bounds, template_bounds):
        if one.accepted + one.refused >= 2000:  # the whole module ran
            assert one.accepted > 100, (one.accepted, one.refused)
            assert one.refused > 100, (one.accepted, one.refused)
