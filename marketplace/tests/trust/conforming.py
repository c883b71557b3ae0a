"""This client behind the command line that TUF's suite of conformance asks for: a program.

Everything of a refresh and of a download is the client's own. Only the catalogue, which every index
here has and the suite's repositories have not, is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llama_marketplace.index.layout import write_whole
from llama_marketplace.trust.client import Client

from llama_core.errors import LlamaError


class Bare(Client):
    """Reads repositories that have no catalogue."""

    def _catalogue(self, *_: Any) -> tuple[str, None]:
        return "", None


def client(given: argparse.Namespace) -> Client:
    state = given.metadata_dir.parent  # in which the client calls its folder `metadata` too
    root = hashlib.sha256((state / "pinned.root.json").read_bytes()).hexdigest()
    return Bare(given.metadata_url.removesuffix("metadata/"), root, state, state / "cache")


def init(given: argparse.Namespace) -> None:
    """What a user does who writes the digest of a root into `llama.toml`."""
    shutil.copyfile(given.root, given.metadata_dir.parent / "pinned.root.json")
    shutil.copyfile(given.root, given.metadata_dir / "root.json")


def refresh(given: argparse.Namespace) -> Client:
    reader = client(given)
    if reader.refresh().offline:
        raise LlamaError("no server answered")
    return reader


def download(given: argparse.Namespace) -> None:
    reader = refresh(given)
    for name in given.target_name:
        data = reader.read(name)
        if data is None:
            raise LlamaError(f"nobody signs for {name}")
        write_whole(given.target_dir / quote(name, safe=""), data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--metadata-dir", "--target-dir"):
        parser.add_argument(name, type=Path)
    for name in ("--metadata-url", "--target-base-url"):
        parser.add_argument(name)
    parser.add_argument("--target-name", action="append")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    for name, work in (("init", init), ("refresh", refresh), ("download", download)):
        chosen = commands.choices.get(name) or commands.add_parser(name)
        chosen.set_defaults(work=work)
    given = parser.parse_args()
    try:
        given.work(given)
    except LlamaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
