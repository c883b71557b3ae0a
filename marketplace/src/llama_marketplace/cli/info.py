"""`llama marketplace info`: everything that an index says of a plugin, read and not run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli import shopping
from llama_marketplace.site.text import clean

if TYPE_CHECKING:
    from llama_marketplace.index.record import Record


@click.command("info", epilog="Example: llama marketplace info llama-plugin-rhyme")
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> None:
    """Show a plugin: what it provides, needs and may do, its wheels, history and README.

    The version is the newest that fits this machine, or the one asked for, as in 'NAME==1.2'.
    """
    from llama_marketplace.install.choosing import choose
    from llama_marketplace.install.machine import Machine
    from llama_marketplace.sources import find

    sources = shopping.indexes()
    wanted = shopping.wanted(name, sources)
    source, releases = find(wanted.name, sources)
    try:
        chosen = choose(releases, wanted.versions, Machine())
        record, fits = chosen.record, f"fits here: {chosen.file.filename}, {chosen.why}"
        hidden = {each.name: each.why for each in chosen.newer}
    except LlamaError as error:
        asked = [e for e in releases if wanted.versions.contains(e.version, prereleases=True)]
        record, fits, hidden = (asked or list(releases))[0], error.message, {}
    facts = {
        **record.model_dump(mode="json", by_alias=True),
        "index": source.name,
        "fits": fits,
        "newer": hidden,
        "versions": {each.version: each.status.status for each in releases},
    }
    emit(facts, as_json, lambda: [*_lines(record, facts), *_readme(record.readme)])


def _lines(record: Record, facts: dict[str, Any]) -> Iterator[str]:
    yield f"{record.name} {record.version} by {record.publisher}, from '{facts['index']}'"
    yield record.summary
    if record.status.status != "active":
        status = record.status
        yield f"{status.status} since {status.date}: {status.reason}"
    yield facts["fits"]
    for version, why in facts["newer"].items():
        yield f"newer, and not taken: {version}: {why}"
    yield f"plugin: {record.plugin}; licence: {record.licence or 'not said'}; " + (
        f"published {record.published.date()}"
    )
    if record.homepage:
        yield f"home: {record.homepage}"
    for provided in record.provides:
        combines = f"; with {', '.join(provided.combines)}" if provided.combines else ""
        yield f"provides {provided}{combines}"
    yield f"needs llama-core {record.requires_core or 'of any version'}" + (
        f", Python {record.requires_python}" if record.requires_python else ""
    )
    for each in record.requires:
        yield f"needs {each}"
    said = ", ".join(record.permissions) or "nothing beside computing in Python"
    yield f"says that it uses: {said}"
    for file in record.files:
        yield f"wheel {file.filename}, {file.size} bytes, sha256 {file.sha256}"
    for one in record.conformance:
        yield (
            f"conformance with core {one.core}, {one.date}: {one.suite}: {one.passed} passed, "
            f"{one.failed} failed"
        )
    for change in record.history:
        yield f"{change.date}: {change.status}" + (f", {change.reason}" if change.reason else "")
    yield "versions: " + ", ".join(
        version if status == "active" else f"{version} ({status})"
        for version, status in facts["versions"].items()
    )


def _readme(text: str) -> Iterator[str]:
    """Rendered on a terminal, as it was written elsewhere; what steers a terminal is left out."""
    shown = clean(text, lines=True)
    if not shown.strip():
        return
    yield ""
    if not sys.stdout.isatty():
        yield shown.rstrip()
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as captured:
        console.print(Markdown(shown, hyperlinks=False))
    yield captured.get().rstrip()
