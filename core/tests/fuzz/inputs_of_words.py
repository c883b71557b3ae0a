"""Inputs for the parsers of tokenizers, chat templates and the hub's answers.

Each is a thing that is right with a few values changed for ones that cannot be there.
"""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

from hypothesis import strategies as st

from .mutate import NUMBERS, changes, mutated

few_changes = st.just([]) | st.just([]) | changes.map(lambda what: what[: len(what) // 2])

# tokenizer.json ----------------------------------------------------------------------------------

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


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


RIGHT: dict[str, list[Any]] = {
    "normalizer": [
        None,
        {"type": "NFC"},
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
    "pre_tokenizer": [
        SMALLEST["pre_tokenizer"],
        _split(r"\p{N}{1,3}| ?\p{L}+|\s+(?!\S)"),
        {"type": "Digits", "individual_digits": True},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    ],
    "decoder": [None, SMALLEST["decoder"], {"type": "Fuse"}],
    "post_processor": [None, SMALLEST["post_processor"]],
}
odd_values = st.sampled_from(
    [None, True, -1, 0, 1 << 31, 1 << 63, 1e308, "", "a", "▁", "ab" * 50, [], {}, [["a", "b"]] * 3,
     {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
     _split("(a+)+$"), _split("("), _split("a*a*a*a*!x"), _split(r"\p{N}{1,3}| ?\p{L}+"),
     {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
     {"type": "Replace", "pattern": {"Regex": "(?:a|b)*c"}, "content": "x"},
     {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
     {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0], ["b", -1e300]], "byte_fallback": True},
     {"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0}, "max_input_chars_per_word": 10,
      "continuing_subword_prefix": "##"},
     {"type": "Strip", "content": "a", "start": 1 << 40, "stop": 1}]
)  # fmt: skip


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at] if at else []
    for key, inner in items:
        inside = isinstance(inner, (dict, list))
        found += _paths(inner, (*at, key)) if inside else [(*at, key)]
    return found


def changed(state: dict[str, Any], where: list[tuple[int, Any]]) -> dict[str, Any]:
    """A copy with values put elsewhere, each at a place given by its number."""
    paths = _paths(state)
    out = copy.deepcopy(state)
    for number, value in where:
        path = paths[number % len(paths)]
        inner: Any = out
        try:
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    return out


@st.composite
def tokenizer_files(draw: st.DrawFn) -> bytes:
    state = copy.deepcopy(SMALLEST)
    for part, choices in RIGHT.items():
        state[part] = draw(st.sampled_from(choices))
    for word in draw(st.lists(st.text("abĠ▁é", min_size=3, max_size=5), max_size=3, unique=True)):
        state["model"]["vocab"][word] = len(state["model"]["vocab"])
    places = st.tuples(st.integers(0, 999), odd_values)
    where = draw(st.just([]) | st.lists(places, max_size=2))
    return mutated(json.dumps(changed(state, where)).encode(), draw(few_changes))


# SentencePiece -----------------------------------------------------------------------------------


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


@st.composite
def sentencepiece_files(draw: st.DrawFn) -> bytes:
    data = b"".join(field(1, piece) for piece in draw(st.lists(pieces, max_size=8)))
    data += field(2, b"".join(field(n, v) for n, v in draw(settings_)))
    normalizer = b"".join(field(n, v) for n, v in draw(settings_) if n != 2)
    data += field(3, normalizer + field(2, draw(st.just(b"") | st.binary(max_size=12))))
    return mutated(data, draw(few_changes))


# A GGUF file's vocabulary ------------------------------------------------------------------------

scalar = st.none() | st.booleans() | st.integers(-1, 5) | st.floats() | st.text(max_size=4)
VOCABULARY_KEYS = ["scores", "token_type", "merges", "pre", "bos_token_id", "eos_token_id",
                   "unknown_token_id", "add_bos_token", "add_space_prefix", "precompiled_charsmap",
                   "tokens"]  # fmt: skip


@st.composite
def gguf_vocabularies(draw: st.DrawFn) -> bytes:
    tokens = draw(st.lists(st.text("ab▁Ġ<>", max_size=3), max_size=6))
    metadata: dict[str, Any] = {
        "model": draw(st.sampled_from(["llama", "gpt2", "t5", "bert"])),
        "tokens": tokens,
        "pre": "qwen2",
        "merges": [],
        "scores": [-float(i) for i in range(len(tokens))],
        "token_type": [1] * len(tokens),
    }
    values = (
        scalar
        | st.lists(scalar, max_size=6)
        | st.lists(st.integers(0, 6), max_size=6)
        | st.lists(st.sampled_from(["a b", "b a", "ab", " "]), max_size=3)
    )
    metadata |= draw(st.dictionaries(st.sampled_from(VOCABULARY_KEYS), values, max_size=4))
    return json.dumps({f"tokenizer.ggml.{k}": v for k, v in metadata.items()}).encode()


# Chat templates ----------------------------------------------------------------------------------

snippets = st.sampled_from(
    ["{{ messages }}", "{% for m in messages %}", "{% endfor %}", "{{ m.role ~ m['content'] }}",
     "{% if ", "{% endif %}", "x", "{{ 'a' * 99999999 }}", "{% set a = [a, a] %}", "{{ a }}",
     "{% macro f(x) %}", "{% endmacro %}", "{{ f(f) }}", "{{ messages | tojson(indent=2) }}", "%}",
     "{{", "}}", "{% generation %}", "{% endgeneration %}", "{{ m | attr('__class__') }}",
     "{{ range(99999) | sum }}", "{{ '%s' | format(messages) }}", "{% break %}", "{{ 2 ** 99 }}",
     "{% set ns = namespace(a=1) %}", "{{ ns.a }}", "{% filter upper %}", "{% endfilter %}",
     "{{ 1e999 }}", "{{ [a] | tojson(separators=['a' * 999999, '']) }}",
     "{{ strftime_now('%9Y') }}"]
)  # fmt: skip


@st.composite
def chat_templates(draw: st.DrawFn) -> bytes:
    source = "".join(draw(st.lists(snippets, max_size=8))).encode()
    return mutated(source, draw(changes)[:1])


# The hub's answers -------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "id": "org/tiny",
    "sha": "a" * 40,
    "siblings": [
        {"rfilename": "config.json", "size": 10, "blobId": "b" * 40},
        {"rfilename": "model.safetensors", "size": 1 << 40, "blobId": "c" * 40,
         "lfs": {"sha256": "d" * 64, "size": 1 << 40, "pointerSize": 130}},
    ],
}  # fmt: skip
odd_answers = st.sampled_from(
    [None, True, 1.5, float("inf"), "9", "", [], {}, "../x", "/x", "a//b", "a\\b", "é", "x" * 400,
     "e" * 64, "e" * 40, 10**400, [[[]]], {"rfilename": "model.gguf"}, *NUMBERS]
)  # fmt: skip


@st.composite
def hub_answers(draw: st.DrawFn) -> bytes:
    where = draw(st.lists(st.tuples(st.integers(0, 99), odd_answers), max_size=2))
    return mutated(json.dumps(changed(ANSWER, where)).encode(), draw(few_changes))
