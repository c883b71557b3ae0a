"""Writes the corpus: `python -m recipe.corpus --out DIR --seed N --stories M --chats K`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recipe.corpus.chats import bound, chat, plain, questioned, recalled
from recipe.corpus.suite import questions_of_suite

SHARD = 50_000  # items
TOKENIZER = 30_000  # items of each sort, at most
LETTERS = re.compile("[A-Z][A-Z-]")
HELD = 2_000  # items of each held-out file, at most
SUITE_SEED, SUITE_EACH = 1, 100  # of the suite that ships, whatever the corpus' seed is


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.corpus",
        description="Write the text that the bundled model is trained and tested on.",
        epilog="Example: python -m recipe.corpus --out corpus --seed 1 --stories 9000 --chats 9000",
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stories", type=_count, default=150_000, help="plain stories")
    parser.add_argument("--chats", type=_count, default=400_000)
    parser.add_argument("--recalls", type=_count, default=40_000, help="chats for looking back")
    parser.add_argument("--bindings", type=_count, default=40_000, help="chats of whose is what")
    parser.add_argument("--readings", type=_count, default=20_000, help="stories, much asked about")
    given = parser.parse_args(arguments)
    try:
        given.out.mkdir(parents=True)
    except OSError as error:
        parser.error(f"cannot make the folder {given.out}: {error.strerror}")
    for name, items, make in (
        ("stories", given.stories, plain),
        ("chats", given.chats, chat),
        ("recalls", given.recalls, recalled),
        ("bindings", given.bindings, bound),
        ("readings", given.readings, questioned),
    ):
        for first in range(0, items, SHARD):
            rows = (make(given.seed, number) for number in range(first, min(first + SHARD, items)))
            _write(given.out / f"{name}-{first // SHARD:03}.jsonl", rows)
    _write(given.out / "tokenizer.jsonl", _for_tokenizer(given.seed, given.stories, given.chats))
    held = min(HELD, max(given.stories, given.chats) // 20)
    stories = [plain(given.seed, number, held=True) for number in range(held)]
    _write(given.out / "held-out-stories.jsonl", stories)
    _write_text(given.out / "held-out.txt", "\n\n".join(each["text"] for each in stories) + "\n")
    chats = (chat(given.seed, n, held=True, reworded=n % 2 == 1) for n in range(held))
    _write(given.out / "held-out-chats.jsonl", chats)
    _write(given.out / "skills.jsonl", questions_of_suite(SUITE_SEED, SUITE_EACH))
    files = sorted(given.out.iterdir())
    total = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"{len(files)} files, {total / 1e6:.1f} MB, in {given.out}\n")
    return 0


def _for_tokenizer(seed: int, stories: int, chats: int) -> Iterator[dict[str, Any]]:
    """What merges are learned from: all but words in capitals, which are to stay letters."""
    for number in range(min(stories, TOKENIZER)):
        yield plain(seed, number)
    for number in range(min(chats, TOKENIZER)):
        for message in chat(seed, number)["messages"]:
            if not LETTERS.search(message["content"]):
                yield {"text": message["content"]}


def _count(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError("it must not be negative")
    return value


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
