"""Rows depend on the seed and their number alone, hold every token, and mask what must not mix."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.data import Corpus, DataError, Rows, Shards, Source, Stream, prepare
from llama_plugin_train.data.mixing import CYCLE, Mixture
from llama_plugin_train.data.shuffling import permuted
from llama_plugin_train.tokens import Encoder

from llama_core.announce import Announcements
from llama_core.errors import LlamaError
from llama_core.model.files.faults import FileChanged

from .conftest import Make, sentences

FIELDS = Rows.__slots__


def equal(a: Rows, b: Rows) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def stacked(parts: list[Rows], order: Any) -> list[Any]:
    return [np.concatenate([getattr(one, name) for one in parts])[order] for name in FIELDS]


@pytest.fixture
def two(make: Make) -> list[Source]:
    first = make(sentences(200, 1), "first", shard_tokens=1000)
    return [Source(first, 0.7), Source(make(sentences(50, 2), "second"), 0.3, "whole")]


@pytest.mark.parametrize("packing", ["cut", "whole"])
@pytest.mark.parametrize("length", [7, 64, 500])
def test_every_token_is_learnt_once_in_an_epoch(
    make: Make, encoder: Encoder, packing: Any, length: int
) -> None:
    """The pairs of neighbours within each document are the pairs that rows teach, no more."""
    shards = make(sentences(60), shard_tokens=700)
    documents = []
    for tokens, ends in zip(shards.tokens, shards.ends, strict=True):
        documents += [one.tolist() for one in np.split(tokens, ends)[:-1]]
    assert all(one[-1] == encoder.document_end for one in documents)
    if packing == "whole":
        documents = [one[: length + 1] for one in documents]
    wanted = Counter(pair for one in documents for pair in pairwise(one))

    stream = Stream([Source(shards, packing=packing)], length=length, batch_size=1)
    shown: Counter[tuple[int, int]] = Counter()
    for _ in range(stream.num_rows):
        rows = stream.next()
        learnt = rows.weights_BT > 0
        pairs = zip(rows.tokens_BT[learnt].tolist(), rows.targets_BT[learnt].tolist(), strict=True)
        shown.update(pairs)
    assert shown == wanted
    assert stream.epochs() == {"some": 1.0}


def test_documents_are_apart(make: Make, encoder: Encoder) -> None:
    """Segments grow at each document, positions restart, and its first token is nobody's target."""
    stream = Stream([Source(make(sentences(40)))], length=50, batch_size=4)
    rows = stream.next()
    ends = rows.tokens_BT == encoder.document_end
    assert ends.any()
    for b in range(4):
        position = segment = 0
        for t in range(50):
            assert rows.positions_BT[b, t] == position
            assert rows.segments_BT[b, t] == segment
            assert rows.weights_BT[b, t] == (0 if ends[b, t] else 1)
            position = 0 if ends[b, t] else position + 1
            segment += int(ends[b, t])
    types = [getattr(rows, name).dtype.name for name in FIELDS]
    assert types == ["int64", "int64", "float32", "int64", "int32"]


def test_it_goes_on_at_the_exact_row(two: list[Source]) -> None:
    """A position that was through JSON gives the same rows; other seeds give others."""
    stream = Stream(two, length=32, batch_size=3, seed=5)
    for _ in range(7):
        stream.next()
    position = json.loads(json.dumps(stream.position()))
    wanted = [stream.next() for _ in range(40)]
    again = Stream(two, length=32, batch_size=3, seed=5)
    again.seek(position)
    assert all(equal(again.next(), one) for one in wanted)
    other = Stream(two, length=32, batch_size=3, seed=6)
    assert not equal(other.next(), Stream(two, length=32, batch_size=3, seed=5).next())


@pytest.mark.parametrize("num_ranks", [2, 3, 6])
def test_ranks_share_the_rows_of_one(two: list[Source], num_ranks: int) -> None:
    """What n ranks read in a step is what one rank with n times the rows reads, in its order."""
    alone = Stream(two, length=16, batch_size=6, seed=1)
    ranks = [
        Stream(two, length=16, batch_size=6 // num_ranks, seed=1, rank=r, num_ranks=num_ranks)
        for r in range(num_ranks)
    ]
    for _ in range(20):
        parts = [one.next() for one in ranks]
        order = np.arange(6).reshape(num_ranks, -1).T.reshape(-1)
        whole = alone.next()
        for found, name in zip(stacked(parts, order), FIELDS, strict=True):
            assert np.array_equal(found, getattr(whole, name))
    assert ranks[-1].position() == alone.position()


def test_a_run_may_go_on_with_other_ranks(two: list[Source]) -> None:
    begun = Stream(two, length=16, batch_size=2, rank=1, num_ranks=4)
    begun.next()
    alone = Stream(two, length=16, batch_size=8)
    alone.next()
    again = Stream(two, length=16, batch_size=8)
    again.seek(begun.position())
    assert equal(again.next(), alone.next())


def test_evaluation_sees_each_row_once(two: list[Source]) -> None:
    """Over all ranks, with a last batch that is smaller."""
    wanted = Stream(two, length=32, batch_size=10**6).once()
    whole = np.concatenate([one.tokens_BT for one in wanted])
    parts = [
        np.concatenate(
            [one.tokens_BT for one in Stream(
                two, length=32, batch_size=5, rank=r, num_ranks=2, shuffle=False
            ).once()]
        )
        for r in range(2)
    ]  # fmt: skip
    assert len(whole) == Stream(two, length=32, batch_size=1).num_rows
    assert np.array_equal(parts[0], whole[::2])
    assert np.array_equal(parts[1], whole[1::2])


def test_a_shuffle_is_a_permutation_for_every_size_and_key() -> None:
    for size in [1, 2, 3, 5, 16, 17, 255, 1000, 4097]:
        for key in range(3):
            found = permuted(np.arange(size), size, key)
            assert sorted(found.tolist()) == list(range(size))
    far = permuted(np.array([0, 10**12]), 10**12 + 1, 0)
    assert len(set(far.tolist())) == 2
    assert far.max() <= 10**12


def test_a_shuffle_mixes() -> None:
    """Neighbours part, and epochs have orders of their own."""
    size = 10_000
    first, second = (permuted(np.arange(size), size, "x", epoch) for epoch in (0, 1))
    for one in (first, second):
        assert abs(np.corrcoef(np.arange(size), one)[0, 1]) < 0.05
        assert (np.abs(np.diff(one)) == 1).mean() < 0.001
    assert (first == second).mean() < 0.001


def test_a_mixture_has_its_weights_in_every_stretch() -> None:
    mixture = Mixture([5, 3, 1.5, 0.5])
    owners, inside = mixture.find(np.arange(3 * CYCLE))
    for owner, share in enumerate([0.5, 0.3, 0.15, 0.05]):
        mine = owners == owner
        assert mine.sum() == 3 * CYCLE * share
        assert inside[mine].tolist() == list(range(mine.sum()))
        for first in range(0, 3 * CYCLE - 100, 37):
            assert abs(mine[first : first + 100].sum() - 100 * share) <= 2
    with pytest.raises(DataError, match="cannot be mixed"):
        Mixture([1, 0])


def test_a_small_weight_is_not_none() -> None:
    owners, _ = Mixture([1e-9, 1, 1]).find(np.arange(CYCLE))
    assert np.bincount(owners).tolist() == [1, 500, 499]


def test_packing_whole_wastes_little(make: Make) -> None:
    shards = make(sentences(500))
    stream = Stream([Source(shards, packing="whole")], length=128, batch_size=1)
    assert stream.num_rows <= 1.03 * shards.num_tokens / 129 + 1


def test_a_damaged_shard_is_refused_by_name(make: Make) -> None:
    folder = make(sentences(100), shard_tokens=500).folder
    path = folder / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    with pytest.raises(LlamaError, match=r"shard-00001\.safetensors is damaged.*Remove"):
        Shards(folder)
    path.write_bytes(data[:-1])
    with pytest.raises(LlamaError, match="shard-00001.*bytes"):
        Shards(folder)
    path.unlink()
    with pytest.raises(LlamaError, match="cannot read .*shard-00001"):
        Shards(folder)
    text = (folder / "manifest.json").read_text().replace('"tokens"', '"Tokens"', 1)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(LlamaError, match=r"manifest\.json is damaged"):
        Shards(folder)


def test_a_shard_that_is_written_to_is_noticed(make: Make) -> None:
    shards = make(sentences(50))
    stream = Stream([Source(shards)], length=8, batch_size=2)
    stream.next()
    with (shards.folder / "shard-00000.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(FileChanged, match="shard-00000"):
        stream.next()


def test_a_position_of_other_data_is_refused(two: list[Source], make: Make) -> None:
    position = Stream(two, length=32, batch_size=1, seed=3).position()
    for other, said in [
        (Stream(two, length=16, batch_size=1, seed=3), "length was 32 and is 16"),
        (Stream(two, length=32, batch_size=1, seed=4), "seed was 3 and is 4"),
        (Stream(two[:1], length=32, batch_size=1, seed=3), "there were 2 sources and are 1"),
        (
            Stream([Source(make(["new words here"], "first"), 0.7), two[1]], length=32,
                   batch_size=1, seed=3),
            "source 'first' was 'first' with other shards",
        ),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=said):
            other.seek(position)
    with pytest.raises(DataError, match="no row to go on from"):
        Stream(two, length=32, batch_size=1, seed=3).seek({**position, "row": -1})


def test_a_tiny_corpus_is_padded_and_said(make: Make) -> None:
    said = Announcements()
    shards = make(["the fox"])
    stream = Stream([Source(shards)], length=100, batch_size=2, announcements=said)
    rows = stream.next()
    assert rows.weights_BT.sum() == 2 * (shards.num_tokens - 1)
    assert any("not enough for one row of 100" in text for text in said.counts)


def test_documents_that_lose_their_end_are_said(make: Make) -> None:
    said = Announcements()
    Stream([Source(make(["the fox " * 50, "a"]), packing="whole")], length=20, batch_size=1,
           announcements=said)  # fmt: skip
    assert any("1 of 2 documents" in text for text in said.counts)


def test_prompts_are_not_learnt(encoder: Encoder, tmp_path: Path) -> None:
    """Of a conversation in a row, weight is on what the assistant wrote and on nothing else."""
    turns = [("system", "sing"), ("user", "the fox"), ("assistant", "a red bird"),
             ("user", "7 pears"), ("assistant", "12")]  # fmt: skip
    messages = [{"role": role, "content": content} for role, content in turns]
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n")
    shards = prepare(Corpus("chat", (path,)), encoder, tmp_path / "cache")
    rows = Stream([Source(shards, packing="whole")], length=200, batch_size=1).next()
    learnt = rows.targets_BT[rows.weights_BT > 0]
    assert encoder.tokenizer.decode(learnt, skip_special=False) == (
        "a red bird<|im_end|>\n12<|im_end|>\n"
    )
    shown = rows.tokens_BT[0][rows.segments_BT[0] == 0]
    assert encoder.tokenizer.decode(shown, skip_special=False).startswith(
        "<|im_start|>system\nsing<|im_end|>\n<|im_start|>user\nthe fox<|im_end|>\n"
        "<|im_start|>assistant\na red bird<|im_end|>\n"
    )
