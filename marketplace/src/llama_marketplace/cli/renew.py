"""`llama marketplace renew`: sign again what will soon not be believed, the timestamp always."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_marketplace.cli.operating import (
    begin_offer,
    check_offer,
    keys_option,
    offer_options,
    open_index,
    open_keys,
    told_of,
)


@click.command("renew", epilog="Example: llama marketplace renew --index index --keys keys")
@click.argument("roles", nargs=-1)
@click.option("--days", type=click.IntRange(0, 365), default=14, help="What counts as soon.")
@offer_options
@keys_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, roles: tuple[str, ...], days: int, folder: Path | None,
    offer: Path | None, source: str | None, places: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Renew the timestamp, and whatever else runs out soon and whose key is at hand.

    Run it daily where the index is kept. A timestamp is believed for seven days: for so long at
    most can a mirror hide that there is something new. Exits with 1 where something runs out soon
    and its key is elsewhere. A publisher elsewhere renews itself: `renew PUBLISHER --offer FOLDER`.
    """
    check_offer(folder, offer, source)
    if folder is None:
        _offer(roles, source, offer, places, as_json)
        return
    index, ring = open_index(folder), open_keys(places)
    soon = {
        name: end
        for name, end in index.roles.expiring(timedelta(days=days)).items()
        if name != "timestamp"
    }
    wanted = {*roles, *soon}
    able = {name for name in wanted if index.roles.can_sign(name, ring)}
    index.roles.touch("timestamp", *able)
    signed = index.commit(ring)
    left = {name: soon[name].date().isoformat() for name in sorted(set(soon) - able)}
    emit(
        {"signed": signed, "runs_out": left},
        as_json,
        lambda: [
            f"signed: {', '.join(signed)}",
            *(f"runs out on {day}, and its key is not here: {name}" for name, day in left.items()),
        ],
    )
    ctx.exit(1 if left or set(roles) - able else 0)


def _offer(
    roles: tuple[str, ...],
    source: str | None,
    offer: Path | None,
    places: tuple[Path, ...],
    as_json: bool,
) -> None:
    if len(roles) != 1:
        raise click.UsageError("--offer is of one publisher: renew PUBLISHER --offer FOLDER")
    assert offer is not None
    offered = begin_offer(source, roles[0], open_keys(places))
    offered.write(offer)
    emit(
        {"signed": list(roles), "runs_out": {}, "offer": str(offer)},
        as_json,
        lambda: [f"signed: {roles[0]}", told_of(offer, offered.index)],
    )
