"""`llama marketplace rebuild`: make again all that follows from the records of an index."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_marketplace.cli.operating import index_option, keys_option, open_index, open_keys


@click.command("rebuild", epilog="Example: llama marketplace rebuild --index index --keys keys")
@index_option
@keys_option
@json_option
def command(folder: Path, places: tuple[Path, ...], as_json: bool) -> None:
    """Write the catalogue, the names and the pages for pip anew; what is right stays as it is.

    What was replaced more than a day ago, and no reader asks for any more, is removed.
    """
    from llama_marketplace.publish.pruning import prune

    index = open_index(folder)
    index.derive_all()
    names = index.all_names()
    signed = index.commit(open_keys(places))
    removed = prune(index.layout, index.roles.now - timedelta(days=1))
    emit(
        {"plugins": len(names), "signed": signed, "removed": removed},
        as_json,
        lambda: [
            f"{len(names)} plugins; signed: {', '.join(signed) or 'nothing had to change'}",
            f"{removed} files removed that nobody asks for any more",
        ],
    )
