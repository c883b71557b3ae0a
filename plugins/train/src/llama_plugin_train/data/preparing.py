"""Tokenizing a corpus once: the shards of the same files, tokenizer and options are found again.

The folder's name ends in a digest of all three. Whatever changes makes another folder, and which of
them changed is said; a folder is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.durable import replace_file
from llama_core.errors import LlamaError
from llama_core.model.files.save_folder import new_place
from llama_plugin_train.data.corpus import Corpus
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.data.readers import documents
from llama_plugin_train.data.shards import (
    FORMAT,
    MANIFEST,
    VERSION,
    Progress,
    Shards,
    ShardWriter,
    read_manifest,
)
from llama_plugin_train.data.tokenizing import encoded
from llama_plugin_train.sealed import digest_of, seal
from llama_plugin_train.tokens.encoder import Encoder

SHARD_TOKENS = 1 << 24
_SHOWN = 3


def prepare(
    corpus: Corpus,
    encoder: Encoder,
    cache: Path,
    *,
    num_workers: int = 1,
    shard_tokens: int = SHARD_TOKENS,
    announcements: Announcements | None = None,
    progress: Progress | None = None,
) -> Shards:
    """The shards of a corpus, made if they are not there.

    `progress` hears bytes done and in all: of tokenizing, about, and then of checking.
    """
    said = announcements or Announcements()
    sources = corpus.digests()
    made_of = {
        "version": VERSION,
        "sources": [one["sha256"] for one in sources],
        "tokenizer": encoder.digest,
        "options": {**corpus.options(), "shard_tokens": shard_tokens},
    }
    key = digest_of(made_of)
    folder = cache / f"{corpus.name}-{key[:16]}"
    if folder.is_dir():
        shards = Shards(folder, progress)
        if digest_of(shards.about["made_of"]) != key:
            raise DataError(f"{folder} is of another corpus", remedy="Remove it.")
        said.note(f"the shards of '{corpus.name}' are used again: {folder}")
        return shards
    if (why := _changed(corpus, cache, sources, made_of)) is not None:
        said.note(f"'{corpus.name}' is tokenized anew: {why}")
    with new_place(folder) as part:
        part.mkdir()
        writer = ShardWriter(part, encoder.vocab_size, shard_tokens)
        about = _write(corpus, encoder, writer, num_workers, said, progress)
        body = {
            "format": FORMAT,
            "version": VERSION,
            "name": corpus.name,
            "made_of": made_of,
            "sources": sources,
            "vocab_size": encoder.vocab_size,
            **about,
        }
        if corpus.digests() != sources:
            raise DataError(f"a file of '{corpus.name}' was changed while it was tokenized")
        replace_file(part / MANIFEST, [seal(body)])
    return Shards(folder, progress)


def _write(
    corpus: Corpus,
    encoder: Encoder,
    writer: ShardWriter,
    num_workers: int,
    said: Announcements,
    progress: Progress | None,
) -> dict[str, Any]:
    left_out: list[str] = []
    files, done = corpus.files(), 0
    total = sum(path.stat().st_size for path in files)
    for one in encoded(documents(corpus), encoder, num_workers):
        writer.add(one.tokens, one.weights, one.ends)
        left_out += one.left_out
        done = min(total, done + one.num_bytes)
        if progress is not None:
            progress(done, total)
    writer.flush()
    names = ", ".join(str(path) for path in files[:_SHOWN])
    if left_out:
        said.note(
            f"{len(left_out)} conversations of '{corpus.name}' are left out: "
            + "; ".join(left_out[:_SHOWN])
        )
    tokens = sum(one["tokens"] for one in writer.shards)
    if tokens < 2:
        raise DataError(
            f"the corpus '{corpus.name}' ({names}) has {tokens} tokens, too few to learn from",
            remedy="Give more text.",
        )
    return {
        "shards": writer.shards,
        "tokens": tokens,
        "documents": sum(one["documents"] for one in writer.shards),
        "left_out": len(left_out),
    }


def _changed(
    corpus: Corpus, cache: Path, sources: list[dict[str, Any]], made_of: Mapping[str, Any]
) -> str | None:
    """What differs from the last shards of this name, or None where there are none."""
    earlier = [one for one in cache.glob(f"{corpus.name}-*") if (one / MANIFEST).is_file()]
    if not earlier:
        return None
    newest = max(earlier, key=lambda one: (one / MANIFEST).stat().st_mtime_ns)
    try:
        last = read_manifest(newest)
    except LlamaError as error:
        return f"what was made before cannot be read: {error}"
    why = []
    before = {one["path"]: one["sha256"] for one in last["sources"]}
    now = {one["path"]: one["sha256"] for one in sources}
    if files := sorted(path for path in {*before, *now} if before.get(path) != now.get(path)):
        shown = ", ".join(files[:_SHOWN])
        more = f" and {len(files) - _SHOWN} more files" if len(files) > _SHOWN else ""
        why.append(f"{shown}{more} changed")
    if last["made_of"]["tokenizer"] != made_of["tokenizer"]:
        why.append("the tokenizer changed")
    if last["made_of"]["options"] != made_of["options"]:
        why.append("its options changed")
    return ", ".join(why) or "the order of its files changed"
