"""`llama marketplace accept`: what a publisher signed on its own machine, taken into an index."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_marketplace.cli.operating import index_option, keys_option, open_index, open_keys

log = logging.getLogger("llama_core.marketplace")


@click.command("accept", epilog="Example: llama marketplace accept offer --index index --keys keys")
@click.argument("offer", type=click.Path(path_type=Path, file_okay=False, exists=True))
@index_option
@keys_option
@json_option
def command(offer: Path, folder: Path, places: tuple[Path, ...], as_json: bool) -> None:
    """Take in what a publisher offers: a folder that `publish --offer` made.

    The publisher's signature, its names, each record and each wheel are verified as they are when
    one publishes here; nothing of a wheel is run, so what suites found is the publisher's word. The
    publisher's key is not needed, those of catalogue, names, snapshot and timestamp are.
    """
    from llama_marketplace.publish.accepting import accept

    index = open_index(folder)
    done = accept(index, offer)
    for warning in done.warnings:
        log.warning("%s", warning)
    signed = index.commit(open_keys(places))
    facts = {
        "publisher": done.publisher,
        "accepted": [
            {"name": each.name, "version": each.version, "status": each.status.status}
            for each in done.records
        ],
        "signed": signed,
    }

    def lines() -> list[str]:
        rows = [
            f"{each.name} {each.version} of {done.publisher} is {each.status.status} in {folder}"
            for each in done.records
        ]
        return rows or [f"{done.publisher} has signed again what it had signed before"]

    emit(facts, as_json, lines)
