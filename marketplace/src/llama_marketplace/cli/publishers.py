"""`llama marketplace publishers`: who may publish in an index."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option, table
from llama_marketplace.cli.operating import FILE, index_option, keys_option, open_index, open_keys


@click.group("publishers", epilog="Example: llama marketplace publishers list --index index")
def command() -> None:
    """Let publishers in, and list them."""


@command.command(
    "add",
    epilog="Example: llama marketplace publishers add acme --key acme.pub --index index "
    "--keys keys",
)
@click.argument("name")
@click.option("--key", "files", type=FILE, multiple=True, required=True, help="Its public key.")
@click.option("--threshold", type=click.IntRange(1, 9), default=1, help="Keys that must sign.")
@click.option("--verified", is_flag=True, help="You know who that is; shown to users.")
@index_option
@keys_option
@json_option
def add(
    name: str, files: tuple[Path, ...], threshold: int, verified: bool, folder: Path,
    places: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Let a publisher sign for what it publishes. Needs the keys of targets and names."""
    from llama_marketplace.trust.keys import load_public

    index = open_index(folder)
    publics = [load_public(file) for file in files]
    index.add_publisher(name, publics, threshold=threshold, verified=verified)
    signed = index.commit(open_keys(places))
    facts = {"publisher": name, "keys": [each.keyid for each in publics], "signed": signed}
    emit(facts, as_json, lambda: [f"{name} may publish in {folder}"])


@command.command("list", epilog="Example: llama marketplace publishers list --index index --json")
@index_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the publishers of an index."""
    from llama_marketplace.publish.repository import Repository, current_time

    index = Repository.open(folder, current_time())
    rows = [
        {"publisher": name, "verified": about.verified, "since": about.since.isoformat()}
        for name, about in sorted(index.publishers().items())
    ]
    emit(
        {"publishers": rows},
        as_json,
        lambda: table(
            ("PUBLISHER", "VERIFIED", "SINCE"),
            (
                (str(r["publisher"]), "yes" if r["verified"] else "no", str(r["since"]))
                for r in rows
            ),
        ),
    )
