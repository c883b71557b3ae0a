"""`llama marketplace verify`: whether what is installed is whole, fits, and is vouched for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from llama_core.cli.output import emit, json_option
from llama_core.cli.progress import progress
from llama_core.errors import plain
from llama_marketplace.cli import shopping

if TYPE_CHECKING:
    from llama_marketplace.install.generations import Generation
    from llama_marketplace.sources import Source

log = logging.getLogger("llama_core.marketplace")


@click.command("verify", epilog="Example: llama marketplace verify")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check every installed file, what plugins need, and what their indexes say of them now.

    Exits with 1 if anything is wrong. Where this environment has changed and everything still
    fits, that is taken note of, and is not announced any more.
    """
    from llama_marketplace.install.base import Base
    from llama_marketplace.install.generations import Generations
    from llama_marketplace.install.verifying import problems

    generations = Generations()
    now = generations.current()
    with progress("verifying", len(now.dists)) as tick:
        wrong = list(problems(generations, Base(), tick))
    wrong += list(_withdrawn(now))
    if not wrong and now.number:
        generations.accept_base(now.number)
    plugins = {each.name: each.version for each in now.plugins.values()}
    emit(
        {"generation": now.number, "plugins": plugins, "problems": wrong},
        as_json,
        lambda: wrong or [f"generation {now.number} is whole and fits: {_counted(plugins)}"],
    )
    ctx.exit(1 if wrong else 0)


def _counted(plugins: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in plugins.items()) or "no plugin"


def _withdrawn(now: Generation) -> Iterator[str]:
    """What an index has taken back; what cannot be asked is said, and is no fault of the files."""
    from llama_marketplace.install.withdrawing import released

    for dist, releases in released(now.plugins.values(), _indexes()):
        record = next((each for each in releases if each.version == dist.version), None)
        if record is None:
            yield f"{dist.name} {dist.version} is not in index '{dist.source}' any more"
            continue
        what, status = f"{dist.name} {dist.version}", record.status
        why = plain(status.reason or "", 200)
        if dist.sha256 not in {file.sha256 for file in record.files}:
            yield f"{what} is not the wheel that its index signs for now"
        if status.status == "quarantined":
            yield f"{what} is quarantined since {status.date}: {why}: llama marketplace update"
        elif status.status != "active":
            log.warning("%s is %s since %s: %s", what, status.status, status.date, why)


def _indexes() -> Sequence[Source]:
    from llama_marketplace.sources import configured

    return shopping.indexes(now=True) if configured() else []
