"""`llama marketplace verify`: whether what is installed is whole, fits, and is vouched for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from llama_core.cli.output import emit, json_option
from llama_core.cli.progress import progress
from llama_core.errors import LlamaError, plain

if TYPE_CHECKING:
    from llama_marketplace.install.generations import Dist, Generation

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
        lambda: wrong or [f"{len(plugins)} plugins of generation {now.number} are whole and fit"],
    )
    ctx.exit(1 if wrong else 0)


def _withdrawn(now: Generation) -> Iterator[str]:
    """What an index has quarantined; what cannot be asked is said, and is no fault of the files."""
    from llama_marketplace.sources import configured

    by_name = {each.name: each for each in configured()}
    for dist in now.plugins.values():
        source = by_name.get(dist.source or "")
        if source is None:
            log.warning("%s is of index '%s', which is not trusted", dist.name, dist.source)
            continue
        try:
            source.freshen()
            releases = source.releases(dist.name)
        except LlamaError as error:
            log.warning("what '%s' says of %s is not known: %s", source.name, dist.name, error)
            continue
        yield from _said(dist, releases)


def _said(dist: Dist, releases: object) -> Iterator[str]:
    from llama_marketplace.index.record import Record

    assert isinstance(releases, tuple)
    for record in releases:
        assert isinstance(record, Record)
        if record.version != dist.version:
            continue
        status = record.status
        if dist.sha256 not in {file.sha256 for file in record.files}:
            yield f"{dist.name} {dist.version} is not the wheel that its index signs for now"
        if status.status == "quarantined":
            yield (
                f"{dist.name} {dist.version} is quarantined since {status.date}: "
                f"{plain(status.reason or '')}. llama marketplace update, or uninstall it"
            )
        elif status.status != "active":
            log.warning(
                "%s %s is %s since %s: %s",
                dist.name, dist.version, status.status, status.date, plain(status.reason or ""),
            )  # fmt: skip
