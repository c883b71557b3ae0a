"""Tokenizers of every source, against what SentencePiece and transformers said of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.model.detokenizer import Detokenizer
from llama_core.model.files import ModelFileError
from llama_core.model.tokenizer import Tokenizer, TokenizerError, open_tokenizer
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece
from llama_core.model.tokenizer.to_gguf import gguf_metadata
from llama_core.model.tokenizer.vocabulary import Kind
from llama_core.model.weights import DenseWeights

DATA = Path(__file__).parent / "data"
SENTENCEPIECE: dict[str, list[Any]] = json.loads((DATA / "sentencepiece_says.json").read_text())
TRANSFORMERS: dict[str, list[Any]] = json.loads((DATA / "transformers_says.json").read_text())
FOLDERS = sorted(TRANSFORMERS)
MODELS = sorted(SENTENCEPIECE)


def files(source: Mapping[str, Any], **more: Any) -> ModelFiles:
    return ModelFiles(
        DATA, "test", more.pop("config", {}), DenseWeights({}), tokenizer=source, **more
    )


@cache
def source(name: str) -> dict[str, Any]:
    folder = DATA / name
    if folder.is_dir():
        config = json.loads((folder / "tokenizer_config.json").read_text())
        return {"kind": "huggingface", "path": str(folder / "tokenizer.json"), "config": config}
    path = DATA / f"{name}.model"
    return {"kind": "sentencepiece", "path": str(path), "config": {}}


@cache
def opened(name: str) -> Tokenizer:
    return open_tokenizer(files(source(name)))


@cache
def by_gguf(name: str) -> Tokenizer:
    named = opened(name).named
    ids = {role: named[f"{role}_token"] for role in ("bos", "eos") if f"{role}_token" in named}
    metadata = gguf_metadata(source(name), ids)
    return open_tokenizer(files({"kind": "gguf", "metadata": metadata}))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_tokenizer_json_is_used_as_transformers_uses_it(name: str) -> None:
    for text, ids, back in TRANSFORMERS[name]:
        assert opened(name).encode(text) == ids, text
        assert opened(name).decode(ids) == back, text


@pytest.mark.parametrize("name", MODELS)
def test_a_sentencepiece_model_is_used_as_its_library_uses_it(name: str) -> None:
    for text, ids, back in SENTENCEPIECE[name]:
        if "<USER>" in text:  # where a space is put before what follows, as Hugging Face does
            continue
        found = opened(name).encode(text, add_special=False, parse_special=False)
        assert found == ids, text
        if 0 not in ids:  # SentencePiece shows the unknown token by a sign of its own
            assert opened(name).decode(ids, skip_special=False) == back, text


@pytest.mark.parametrize("name", [n for n in FOLDERS if n.startswith("bpe")])
def test_a_vocabulary_goes_through_gguf_unchanged(name: str) -> None:
    for text, ids, back in TRANSFORMERS[name]:
        assert by_gguf(name).encode(text) == ids, text
        assert by_gguf(name).decode(ids) == back, text
    assert by_gguf(name).eos >= opened(name).eos
    assert by_gguf(name).special_ids == opened(name).special_ids


@pytest.mark.parametrize("name", ["spm_bpe", "spm_gemma"])
def test_a_sentencepiece_model_goes_through_gguf_unchanged(name: str) -> None:
    for text, *_ in SENTENCEPIECE[name]:
        assert by_gguf(name).encode(text) == opened(name).encode(text)


def test_the_metadata_is_that_of_the_rule() -> None:
    metadata = {name: gguf_metadata(source(name), {}) for name in FOLDERS}
    pre = {name: one["tokenizer.ggml.pre"] for name, one in metadata.items()}
    assert pre == {
        "bpe_llama3": "llama-bpe", "bpe_qwen2": "qwen2", "bpe_smollm": "smollm",
        "bpe_tekken": "tekken", "llama2": "default",
    }  # fmt: skip
    assert metadata["llama2"]["tokenizer.ggml.model"] == "llama"


def test_a_rule_nobody_knows_is_not_written_as_another(tmp_path: Path) -> None:
    state = json.loads((DATA / "bpe_qwen2" / "tokenizer.json").read_text())
    state["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    odd = {"kind": "huggingface", "path": str(tmp_path / "tokenizer.json")}
    with pytest.raises(TokenizerError, match="cuts text as this"):
        gguf_metadata(odd, {})


LOSSLESS = ["bpe_llama3", "bpe_smollm", "bpe_tekken", "llama2", "spm_bpe", "spm_gemma"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    "aé日🎉 \n", max_size=40
)


@pytest.mark.parametrize("name", LOSSLESS)
@settings(derandomize=True, max_examples=250, deadline=None, database=None)
@given(text=texts)
def test_any_text_comes_back(name: str, text: str) -> None:
    tokenizer = opened(name)
    for one in (tokenizer, by_gguf(name)):
        if name == "llama2":  # its rule drops a space at the beginning, and ▁ is a space to it
            text = text.strip().replace("▁", "")
        if name.startswith("spm"):
            text = text.replace("▁", " ").replace("<USER>", "")
        ids = one.encode(text, add_special=False, parse_special=False)
        assert one.decode(ids, skip_special=False) == text
        assert all(0 <= index < one.vocab_size for index in ids)


@pytest.mark.parametrize("name", LOSSLESS)
@settings(derandomize=True, max_examples=250, deadline=None, database=None)
@given(text=texts, cut=st.floats(0, 1))
def test_a_stream_gives_the_same_text_and_whole_characters_only(
    name: str, text: str, cut: float
) -> None:
    tokenizer = opened(name)
    ids = tokenizer.encode(text, add_special=False, parse_special=False)
    stream = Detokenizer(tokenizer)
    pieces = [stream.push(index) for index in ids]
    assert "".join([*pieces, stream.finish()]) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)
    # Going on after a prompt loses nothing, wherever the prompt ends.
    at = int(cut * len(ids))
    before = Detokenizer(tokenizer)
    shown = "".join(before.push(index) for index in ids[:at])
    after = Detokenizer(tokenizer, ids[:at])
    rest = "".join([*(after.push(index) for index in ids[at:]), after.finish()])
    assert shown + rest == tokenizer.decode(ids)


@pytest.mark.parametrize("name", [*FOLDERS, *MODELS])
@settings(derandomize=True, max_examples=150, deadline=None, database=None)
@given(data=st.data())
def test_any_tokens_at_all_are_decoded_alike_in_a_stream(name: str, data: st.DataObject) -> None:
    tokenizer = opened(name)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=20))
    for skip in (True, False):
        stream = Detokenizer(tokenizer, skip_special=skip)
        streamed = "".join([*map(stream.push, ids), stream.finish()])
        assert streamed == tokenizer.decode(ids, skip_special=skip)
        streamed.encode()  # no half surrogates


def test_a_first_word_keeps_its_space_after_a_prompt_and_drops_it_at_the_start() -> None:
    tokenizer = opened("llama2")
    ids = tokenizer.encode("cat dog", add_special=False)
    dog = ids[-1:]
    assert tokenizer.id_to_token(dog[0]) == "▁dog"
    assert Detokenizer(tokenizer).all(dog) == "dog"
    assert Detokenizer(tokenizer, ids[:-1]).all(dog) == " dog"


def test_a_stream_costs_the_same_for_each_token() -> None:
    """Counted, not timed: the work of a push is one look-up, however long the text is."""
    tokenizer = opened("bpe_llama3")
    stream = Detokenizer(tokenizer)
    looked_up = 0

    class Counted:
        strips = False

        def __getitem__(self, index: int) -> bytes:
            nonlocal looked_up
            looked_up += 1
            return tokenizer.pieces[index]  # type: ignore[index]

    stream._stream._pieces = Counted()  # type: ignore[union-attr, assignment]
    for index in range(300):
        stream.push(index)
    assert looked_up <= 300


def test_decoders_without_a_table_are_streamed_by_the_library(tmp_path: Path) -> None:
    state = json.loads((DATA / "llama2" / "tokenizer.json").read_text())
    state["decoder"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "always",
        "split": True,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    given_source = {"kind": "huggingface", "path": str(tmp_path / "tokenizer.json")}
    tokenizer = open_tokenizer(files(given_source))
    assert tokenizer.pieces is None
    ids = tokenizer.encode("the cat sat on the mat")
    assert tokenizer.decode(ids) == "the cat sat on the mat"


@pytest.mark.parametrize("name", [*FOLDERS, *MODELS])
def test_special_tokens_in_a_text_may_be_only_text(name: str) -> None:
    """What a user writes does not become a control token where it is not to."""
    tokenizer = opened(name)
    for index in tokenizer.special_ids:
        token = tokenizer.id_to_token(index)
        assert token is not None
        text = f"say {token} twice {token}"
        assert index in tokenizer.encode(text)
        ids = tokenizer.encode(text, add_special=False, parse_special=False)
        assert not tokenizer.special_ids.intersection(ids)
        plain = tokenizer.encode("say", add_special=False)
        assert ids[: len(plain)] == plain


def test_ends_come_from_every_place_that_names_them() -> None:
    one = source("bpe_llama3")
    found = open_tokenizer(
        files(one, config={"eos_token_id": 5}, generation={"eos_token_id": [7, 9, "x", -1]})
    )
    assert found.eos == {397, 5, 7, 9}
    assert found.special_tokens == {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    named = open_tokenizer(
        files({**one, "config": {}}, config={"eos_token_id": 5, "bos_token_id": 3})
    )
    assert (named.bos, named.eos) == (3, {5})
    metadata = gguf_metadata(one, {"bos": 396, "eos": 397})
    gguf = open_tokenizer(files({"kind": "gguf", "metadata": metadata}))
    assert gguf.eos == {397, 398}  # <|eot_id|> by its name
    assert gguf.bos == 396


def test_the_tokenizer_config_says_what_is_put_around() -> None:
    given_source = source("bpe_qwen2")
    config = {"add_bos_token": True, "bos_token": "<|begin|>", "add_eos_token": True,
              "eos_token": {"content": "<|end|>"}}  # fmt: skip
    tokenizer = open_tokenizer(files({**given_source, "config": config}))
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode(ids, skip_special=False) == "<|begin|>the cat<|end|>"
    assert tokenizer.encode("the cat", add_special=False) == ids[1:-1]


def test_tokens_added_to_a_sentencepiece_model(tmp_path: Path) -> None:
    size = opened("spm_bpe").vocab_size
    later = {
        "1": {"content": "<s>", "special": True},
        str(size): {"content": "<|user|>", "special": True},
        str(size + 1): {"content": "<think>", "special": False},
    }
    one = source("spm_bpe") | {"config": {"added_tokens_decoder": later, "legacy": False}}
    tokenizer = open_tokenizer(files(one))
    ids = tokenizer.encode("<|user|>the cat<think>")
    assert ids[0] == 1
    assert ids[1] == size
    assert ids[-1] == size + 1
    assert tokenizer.decode(ids) == "the cat<think>"
    for wrong in ({str(size + 5): {"content": "x"}}, {"a": {"content": "x"}}, {"1": 3}, [1]):
        odd = source("spm_bpe") | {"config": {"added_tokens_decoder": wrong}}
        with pytest.raises(TokenizerError):
            open_tokenizer(files(odd))


def test_a_folder_is_written_from_a_gguf_vocabulary(tmp_path: Path) -> None:
    metadata = gguf_metadata(source("bpe_llama3"), {"bos": 396, "eos": 397})
    given = files({"kind": "gguf", "metadata": metadata}, config={"model_type": "llama"})
    SafetensorsFormat().save(given, tmp_path / "m")
    found = open_tokenizer(SafetensorsFormat().open(tmp_path / "m"))
    for text, ids, _ in TRANSFORMERS["bpe_llama3"]:
        assert found.encode(text) == ids


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(TokenizerError, match="half a surrogate pair at character 2"):
        opened("bpe_llama3").encode("ab\ud800c")


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no tokenizer.*tokenizer\.json"):
        open_tokenizer(files({}))
    with pytest.raises(ModelFileError, match="No such file"):
        open_tokenizer(files({"kind": "huggingface", "path": str(tmp_path / "tokenizer.json")}))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"model": 3}', "[" * 10_000, '{"version":"1.0","model":{"type":"BPE"}}'],
)
def test_a_tokenizer_json_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(TokenizerError, match=r"cannot read .*tokenizer\.json"):
        open_tokenizer(files({"kind": "huggingface", "path": str(path)}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\x0a\xff\xff\xff\xff\x0f", "a field of 4294967295 bytes where 0 are left"),
        (b"\x0a", "ends inside a number"),
        (b"\x0b\x00", "wire type 3"),
        (b"\xff" * 11, "number too long"),
        (b"\x0a\x03\x0a\x01\xff", "not UTF-8"),
        (b"\x08\x01", "field 1 is not a message"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x04", "neither unigram nor BPE"),
    ],
)
def test_a_sentencepiece_model_that_is_none(data: bytes, says: str) -> None:
    with pytest.raises(TokenizerError, match=says):
        read_sentencepiece(data, DATA)


METADATA = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<end>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.pre": "llama-bpe",
}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model", "gtp2", "unknown model 'gtp2'"),
        ("model", 3, "is int, not str"),
        ("pre", "lama-bpe", "Did you mean 'llama-bpe'"),
        ("tokens", "abc", "no list of texts"),
        ("tokens", [1, 2], "no list of texts"),
        ("tokens", [], "empty"),
        ("token_type", [1], "1 token types for 4 tokens"),
        ("merges", ["ab"], "does not name two tokens"),
        ("merges", ["x y"], "malformed"),
        ("eos_token_id", 99, "is 99, of 4 tokens"),
        ("bos_token_id", "x", "is str, not int"),
        ("add_bos_token", 3, "is int, not bool"),
    ],
)
def test_gguf_vocabularies_that_do_not_fit(key: str, value: Any, says: str) -> None:
    metadata = METADATA | {f"tokenizer.ggml.{key}": value}
    with pytest.raises(TokenizerError, match=says):
        open_tokenizer(files({"kind": "gguf", "metadata": metadata}))


def test_kinds_of_tokens_are_those_of_the_files() -> None:
    vocabulary = read_sentencepiece((DATA / "spm_bpe.model").read_bytes(), DATA)
    assert [piece for _, piece in vocabulary.of_kind(Kind.CONTROL)] == ["<s>", "</s>"]
    assert len(vocabulary.of_kind(Kind.BYTE)) == 256
    assert (0, "<unk>") in vocabulary.of_kind(Kind.UNKNOWN)


def test_a_copy_of_the_folder_needs_nothing_else(tmp_path: Path) -> None:
    shutil.copytree(DATA / "bpe_qwen2", tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    found = open_tokenizer(SafetensorsFormat().open(tmp_path / "m"))
    assert found.encode("the cat") == opened("bpe_qwen2").encode("the cat")
