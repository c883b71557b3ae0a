"""`llama marketplace mark`: what became of a version that was published."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import index_option, keys_option, open_index, open_keys
from llama_marketplace.index.catalogue import STATUSES


@click.command(
    "mark",
    epilog="Example: llama marketplace mark llama-plugin-x 1.0.0 yanked --reason 'wrong results' "
    "--index index --keys keys",
)
@click.argument("name")
@click.argument("version")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--reason", help="Shown to everybody; needed for all but 'active'.")
@click.option("--as-index", is_flag=True, help="Take back what the index itself decided.")
@index_option
@keys_option
@json_option
def command(
    name: str, version: str, status: str, reason: str | None, as_index: bool, folder: Path,
    places: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Deprecate, yank or quarantine a version, or make it active again.

    Its publisher deprecates and yanks, with its own key. The operator quarantines, with the key of
    names, and takes that back with `active --as-index`; that outweighs what the publisher says.
    """
    from llama_marketplace.index.record import Change

    if status != "active" and not reason:
        raise click.UsageError(f"say why it is {status}: --reason TEXT")
    if as_index and status != "active":
        raise click.UsageError("--as-index goes with 'active' alone")
    index = open_index(folder)
    change = Change.model_validate(
        {"status": status, "date": index.roles.now.date(), "reason": reason}
    )
    if status == "quarantined" or as_index:
        index.decide(name, version, None if as_index else change)
    else:
        index.change_status(index.publisher_of(name), name, version, change)
    now = next(each.status for each in index.records(name) if each.version == version)
    if now.status != status:
        raise LlamaError(
            f"{name} {version} stays {now.status} by its index: {now.reason}",
            remedy="The operator takes that back with: llama marketplace mark … active --as-index",
        )
    signed = index.commit(open_keys(places))
    facts = {"name": name, "version": version, "status": status, "reason": reason}
    emit({**facts, "signed": signed}, as_json, lambda: [f"{name} {version} is {status}"])
