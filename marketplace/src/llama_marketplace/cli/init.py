"""`llama marketplace init`: a new index, its keys, and the lines by which users trust it."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import FOLDER, root_digest


@click.command("init", epilog="Example: llama marketplace init index --keys keys")
@click.argument("folder", type=FOLDER)
@click.option("--keys", "place", type=FOLDER, required=True, help="A new folder for its keys.")
@click.option("--root-keys", type=click.IntRange(1, 9), default=1, help="How many root keys.")
@click.option("--threshold", type=click.IntRange(1, 9), default=1, help="Root keys that must sign.")
@json_option
def command(folder: Path, place: Path, root_keys: int, threshold: int, as_json: bool) -> None:
    """Start an index: a folder that any file server can host, and keys that stay at home."""
    from llama_marketplace.publish.repository import Repository, current_time
    from llama_marketplace.trust import keys
    from llama_marketplace.trust.roles import OWN, TOP

    if place.resolve().is_relative_to(folder.resolve()):
        raise LlamaError(
            f"{place} lies inside of the index, which is for everybody to read",
            remedy="Keep the keys elsewhere.",
        )
    if threshold > root_keys:
        raise LlamaError(f"{threshold} of {root_keys} root keys can never sign")
    names = {name: [name] for name in (*TOP, *OWN)}
    for name in ("root", "targets"):
        names[name] = [name] + [f"{name}-{number}" for number in range(2, root_keys + 1)]
    made = {
        role: [keys.create(place / f"{file}.pem") for file in files]
        for role, files in names.items()
    }
    ring = keys.KeyRing.open([place])
    signed = Repository.create(folder, made, current_time(), threshold).commit(ring)
    facts = {
        "index": str(folder),
        "keys": str(place),
        "root": root_digest(folder),
        "signed": signed,
    }
    emit(
        facts,
        as_json,
        lambda: [
            f"{folder} is an index; its keys are in {place}",
            "Keep the keys of root and targets offline: they are needed for publishers and keys.",
            "Users trust it by these lines in their llama.toml:",
            "",
            "[[marketplace.indexes]]",
            f'name = "{folder.resolve().name}"',
            'url = "https://WHERE-IT-IS-HOSTED/"',
            f'root = "{facts["root"]}"',
        ],
    )
