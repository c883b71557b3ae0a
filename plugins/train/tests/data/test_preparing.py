"""A corpus is tokenized once, the same on any number of processes, and bad files are named."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.data import Corpus, DataError, Shards, fetch, keep, prepare
from llama_plugin_train.data import readers as readers_module
from llama_plugin_train.data import tokenizing as tokenizing_module
from llama_plugin_train.tokens import Encoder, TokenizerConfig, train_tokenizer

from llama_core.announce import Announcements
from llama_core.contracts.storage import SPEC
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins

from .conftest import Make, sentences


def tokens_of(shards: Shards) -> list[list[int]]:
    return [
        document.tolist()
        for tokens, ends in zip(shards.tokens, shards.ends, strict=True)
        for document in np.split(tokens, ends)[:-1]
    ]


def test_a_second_time_the_shards_are_used_again(encoder: Encoder, tmp_path: Path) -> None:
    """And what changed is said where they cannot be."""
    path, cache = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text("the fox")
    first = prepare(Corpus("some", (path,)), encoder, cache)
    said = Announcements()
    again = prepare(Corpus("some", (path,)), encoder, cache, announcements=said)
    assert again.folder == first.folder
    assert any("used again" in text for text in said.counts)

    path.write_text("a red bird")
    changed = prepare(Corpus("some", (path,)), encoder, cache, announcements=said)
    assert changed.folder != first.folder
    assert any("anew" in text and f"{path} changed" in text for text in said.counts)

    prepare(Corpus("some", (path,), separator="\n"), encoder, cache, announcements=said)
    assert any("its options changed" in text for text in said.counts)

    other = tmp_path / "tokenizer"
    train_tokenizer(TokenizerConfig(vocab_size=280), sentences(50, 9), other)
    retold = prepare(Corpus("some", (path,)), Encoder(other), cache, announcements=said)
    assert retold.folder not in (first.folder, changed.folder)
    assert any("the tokenizer changed" in text for text in said.counts)


def test_damaged_shards_do_not_keep_others_from_being_made(
    encoder: Encoder, tmp_path: Path
) -> None:
    path, said = tmp_path / "a.txt", Announcements()
    path.write_text("the fox")
    first = prepare(Corpus("some", (path,)), encoder, tmp_path / "cache")
    (first.folder / "manifest.json").write_text("{}")
    path.write_text("a red bird")
    prepare(Corpus("some", (path,)), encoder, tmp_path / "cache", announcements=said)
    assert any("cannot be read" in text for text in said.counts)


@pytest.mark.parametrize("shard_tokens", [50, 777, 1 << 20])
def test_documents_are_whole_in_their_shards(
    make: Make, encoder: Encoder, shard_tokens: int
) -> None:
    """Every token is there in order, and only what is longer than a shard is cut."""
    given = sentences(80)
    shards = make(given, shard_tokens=shard_tokens)
    wanted = [[*ids, encoder.document_end] for ids in encoder.encode_texts(given)]
    found = tokens_of(shards)
    assert list(chain(*found)) == list(chain(*wanted))
    assert all(len(tokens) <= shard_tokens for tokens in shards.tokens)
    if all(len(one) <= shard_tokens for one in wanted):
        assert found == wanted


def test_the_processes_do_not_matter(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing_module, "BATCH_CHARACTERS", 500)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in sentences(200)))
    corpus = Corpus("some", (path,))
    alone = prepare(corpus, encoder, tmp_path / "alone", shard_tokens=1000)
    heard: list[tuple[int, int]] = []
    three = prepare(
        corpus, encoder, tmp_path / "three", shard_tokens=1000, num_workers=3,
        progress=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    assert len(alone.about["shards"]) > 3
    assert alone.about == three.about
    assert heard[-1][0] == heard[-1][1]
    assert all(0 < done <= total for done, total in heard)
    assert len(heard) > 10


def test_a_worker_that_dies_is_an_error(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, say: the process is gone without a word."""
    monkeypatch.setattr(tokenizing_module, "_alone", partial(os._exit, 9))
    path = tmp_path / "a.txt"
    path.write_text("the fox")
    with pytest.raises(DataError, match="process that tokenized died.*fewer processes"):
        prepare(Corpus("some", (path,)), encoder, tmp_path / "cache", num_workers=2)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_long_text_comes_in_pieces(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is one end, and its words are all there."""
    monkeypatch.setattr(readers_module, "PIECE_CHARACTERS", 100)
    text = "\n".join(sentences(30)) + "ü" * 150
    path = tmp_path / "a.txt"
    path.write_text(text, "utf-8")
    (found,) = tokens_of(prepare(Corpus("some", (path,)), encoder, tmp_path / "cache"))
    assert found.count(encoder.document_end) == 1
    assert found[-1] == encoder.document_end
    assert encoder.tokenizer.decode(found[:-1]) == text


def test_names_of_special_tokens_in_a_text_are_text(make: Make, encoder: Encoder) -> None:
    (found,) = tokens_of(make(["the <|im_end|> fox"]))
    assert encoder.tokenizer.token_to_id("<|im_end|>") not in found
    assert encoder.tokenizer.decode(found[:-1]) == "the <|im_end|> fox"


def test_all_formats_give_the_same_documents(encoder: Encoder, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    given = sentences(20)
    (tmp_path / "a.txt").write_text("|".join(given))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in given))
    parquet.write_table(pyarrow.table({"text": given, "x": range(20)}), tmp_path / "a.parquet")
    found = [
        tokens_of(
            prepare(
                Corpus(suffix, (tmp_path / f"a.{suffix}",), separator="|"), encoder, tmp_path / "c"
            )
        )
        for suffix in ("txt", "jsonl", "parquet")
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 20


def test_parquet_without_pyarrow_names_the_remedy(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'llama-plugin-train\[parquet\]'"):
        prepare(Corpus("some", (tmp_path / "a.parquet",)), encoder, tmp_path / "cache")


USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "the fox"}


def test_conversations_that_cannot_be_learnt_are_left_out_and_said(
    encoder: Encoder, tmp_path: Path
) -> None:
    chats: list[list[dict[str, Any]]] = [
        [USER, ASSISTANT],
        [USER],
        [{"role": "user", "content": "x<|im_end|>\n"}, ASSISTANT],
        [{"role": "user"}, ASSISTANT],
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"messages": one}) for one in chats))
    said = Announcements()
    shards = prepare(Corpus("some", (path,)), encoder, tmp_path / "cache", announcements=said)
    assert (shards.num_documents, shards.about["left_out"]) == (1, 3)
    text = next(text for text in said.counts if "3 conversations" in text)
    assert f"line 2 of {path}: the conversation has no turn" in text
    assert "the special token <|im_end|>" in text


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \n\n ", "a.txt.* has 0 tokens, too few"),
        ("a.txt", b"ab\0cd", "a.txt is no text: byte 2 is zero"),
        ("a.txt", b"ab\xff\xfecd", "a.txt is no text: it is not UTF-8 near byte 2"),
        ("a.txt", b"ab\xc3", "a.txt is no text: it is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', "line 2 of .*a.jsonl is no JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1 of .*a.jsonl has neither a text.*it has body"),
        ("a.jsonl", b"[1]\n", "line 1 of .*a.jsonl has neither"),
        ("a.jsonl", b"\x89PNG\0\0", "a.jsonl is no text: byte 4"),
        ("a.jsonl", b'{"text": "\xff"}', "line 1 of .*a.jsonl is no JSON"),
        ("a.docx", b"x", "a.docx holds cannot be told.*Give a format: text, jsonl, parquet"),
    ],
)
def test_bad_files_are_named(
    encoder: Encoder, tmp_path: Path, name: str, body: bytes, said: str
) -> None:
    """And nothing is left of the attempt."""
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match=said):
        prepare(Corpus("some", (tmp_path / name,)), encoder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_what_is_no_parquet_is_named(encoder: Encoder, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="a.parquet is no Parquet file"):
        prepare(Corpus("some", (tmp_path / "a.parquet",)), encoder, tmp_path / "cache")


def test_bad_corpora_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file .*missing"):
        Corpus("some", (tmp_path / "missing",)).files()
    with pytest.raises(DataError, match="no file to read"):
        Corpus("some", (tmp_path,)).files()
    with pytest.raises(DataError, match=r"'\.\./x' cannot name"):
        Corpus("../x", (tmp_path,))
    with pytest.raises(DataError, match="'jsnol'.*did you mean 'jsonl'"):
        Corpus("some", (tmp_path,), format="jsnol")


def test_a_folder_is_read_in_the_order_of_names(encoder: Encoder, tmp_path: Path) -> None:
    inside = tmp_path / "texts"
    (inside / "b").mkdir(parents=True)
    for name, text in [("z.txt", "three"), ("b/c.md", "two"), ("a.txt", "one"), ("x.png", "")]:
        (inside / name).write_text(text)
    shards = prepare(Corpus("some", (inside,)), encoder, tmp_path / "cache")
    found = [encoder.tokenizer.decode(one) for one in tokens_of(shards)]
    assert found == ["one", "two", "three"]


def test_shards_go_to_a_storage_and_come_back(make: Make, tmp_path: Path) -> None:
    storage = Plugins.load().create(SPEC, "folder", {"root": str(tmp_path / "store")})
    shards = make(sentences(40), shard_tokens=300)
    keep(shards, storage, "data/some")
    with pytest.raises(DataError, match="'data/some' already"):
        keep(shards, storage, "data/some")
    assert fetch(storage, "data/some", tmp_path / "fetched").digest == shards.digest
    path = tmp_path / "store" / "data" / "some" / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LlamaError, match="shard-00001.*damaged"):
        fetch(storage, "data/some", tmp_path / "again")
    assert not (tmp_path / "again").exists()
