"""`llama marketplace mark`: what became of a version that was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import (
    begin_offer,
    check_offer,
    keys_option,
    offer_options,
    open_index,
    open_keys,
    told_of,
)
from llama_marketplace.index.catalogue import STATUSES

if TYPE_CHECKING:
    from llama_marketplace.index.record import Change


@click.command(
    "mark",
    epilog="Example: llama marketplace mark llama-plugin-x 1.0.0 yanked --reason 'wrong results' "
    "--index index --keys keys",
)
@click.argument("name")
@click.argument("version")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--reason", help="Shown to everybody; needed for all but 'active'.")
@click.option("--publisher", help="With --offer: whose it is, and who signs.")
@click.option("--as-index", is_flag=True, help="Take back what the index itself decided.")
@offer_options
@keys_option
@json_option
def command(
    name: str, version: str, status: str, reason: str | None, publisher: str | None,
    as_index: bool, folder: Path | None, offer: Path | None, source: str | None,
    places: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Deprecate, yank or quarantine a version, or make it active again.

    Its publisher deprecates and yanks, with its own key. The operator quarantines, with the key of
    names, and takes that back with `active --as-index`; that outweighs what the publisher says.
    """
    from llama_marketplace.index.record import Change
    from llama_marketplace.publish.repository import current_time

    if status != "active" and not reason:
        raise click.UsageError(f"say why it is {status}: --reason TEXT")
    if as_index and status != "active":
        raise click.UsageError("--as-index goes with 'active' alone")
    check_offer(folder, offer, source)
    if (publisher is None) != (offer is None):
        raise click.UsageError("--publisher and --offer go together")
    change = Change.model_validate(
        {"status": status, "date": current_time().date(), "reason": reason}
    )
    if publisher is not None and offer is not None:
        if status == "quarantined" or as_index:
            raise click.UsageError("that is for the operator of an index: --index FOLDER")
        offered = begin_offer(source, publisher, open_keys(places))
        offered.change_status(name, version, change)
        offered.write(offer)
        signed, rest = [publisher], [told_of(offer, offered.index)]
    else:
        assert folder is not None
        signed, rest = _marked(folder, name, version, change, as_index, places), []
    facts = {"name": name, "version": version, "status": status, "reason": reason}
    emit(
        {**facts, "signed": signed, "offer": None if offer is None else str(offer)},
        as_json,
        lambda: [f"{name} {version} is {status}", *rest],
    )


def _marked(
    folder: Path, name: str, version: str, change: Change, as_index: bool, places: tuple[Path, ...]
) -> list[str]:
    index = open_index(folder)
    if change.status == "quarantined" or as_index:
        index.decide(name, version, None if as_index else change)
    else:
        index.change_status(index.publisher_of(name), name, version, change)
    now = next(each.status for each in index.records(name) if each.version == version)
    if now.status != change.status:
        raise LlamaError(
            f"{name} {version} stays {now.status} by its index: {now.reason}",
            remedy="The operator takes that back with: llama marketplace mark … active --as-index",
        )
    return index.commit(open_keys(places))
