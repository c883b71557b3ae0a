"""`llama list`: the models that are here, pulled or installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.output import emit, json_option, table
from llama_core.cli.plugins import pass_session
from llama_core.contracts.model import SPEC as MODEL
from llama_core.engine.memory import size
from llama_core.errors import LlamaError
from llama_core.model.files.disk import disk_bytes
from llama_core.model.hub import HubSettings, list_models
from llama_core.plugins import Plugins


@click.command("list", epilog="Example: llama list --json")
@json_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """The models that run without a download: what was pulled, and installed model plugins."""
    settings = HubSettings.from_environment()
    pulled = [{**one.to_dict(), "source": "hub"} for one in list_models(settings)]
    rows = [*pulled, *installed(session.plugins)]
    if not rows and not as_json:
        click.echo("no model is here yet; get one with: llama pull hf:org/name", err=True)
        return
    emit({"models": rows, "cache": str(settings.cache)}, as_json, lambda: table(HEAD, _rows(rows)))


HEAD = ("MODEL", "SIZE", "WHERE")


def installed(plugins: Plugins) -> Iterator[dict[str, Any]]:
    """What model plugins carry; one that fails says why in its row."""
    for name in plugins.names(MODEL.kind):
        row: dict[str, Any] = {
            "name": name,
            "source": plugins.resolve(MODEL.kind, name).plugin.name,
        }
        try:
            path = plugins.create(MODEL, name).path()
        except LlamaError as error:
            yield {**row, "path": None, "bytes": None, "reason": str(error)}
            continue
        yield {**row, "path": str(path), "bytes": disk_bytes(path)}


def _rows(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        taken = "?" if row["bytes"] is None else size(row["bytes"])
        yield row["name"], taken, row["path"] or row["reason"]
