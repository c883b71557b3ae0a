"""`llama marketplace search`: what the indexes offer for this machine, and why not the newest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from llama_core.cli.output import emit, json_option, table
from llama_core.contracts import KINDS
from llama_marketplace.cli import shopping

if TYPE_CHECKING:
    from llama_marketplace.index.catalogue import Summary
    from llama_marketplace.install.machine import Machine
    from llama_marketplace.sources import Source

MOST = 50


@click.command("search", epilog="Example: llama marketplace search json --kind transform")
@click.argument("words", nargs=-1)
@click.option("--kind", type=click.Choice(KINDS), help="Providing a capability of this kind.")
@click.option("--platform", metavar="OS/ARCH", help="Running there, as in linux/aarch64.")
@click.option("--device", metavar="NAME", help="With wheels for it, as in cuda or rocm.")
@click.option("--licence", metavar="SPDX", help="Under this licence.")
@click.option("--verified", is_flag=True, help="By publishers that the index has verified.")
@click.option("--all", "everything", is_flag=True, help="Those too of which no version fits here.")
@click.option("--most", type=click.IntRange(min=1), default=MOST, show_default=True)
@json_option
def command(
    words: tuple[str, ...], kind: str | None, platform: str | None, device: str | None,
    licence: str | None, verified: bool, everything: bool, most: int, as_json: bool,
) -> None:  # fmt: skip
    """Search the indexes by words in names, summaries, publishers and capabilities.

    Each plugin is shown in the newest version that fits this machine. A name is looked for in one
    index alone, the first that has it.
    """
    from llama_marketplace.install.machine import Machine

    def wanted(each: Summary) -> bool:
        return all((
            kind is None or kind in each.kinds,
            platform is None or not each.platforms or platform in each.platforms,
            device is None or any(one.startswith(device) for one in each.devices),
            licence is None or (each.licence or "").lower() == licence.lower(),
            each.verified or not verified,
        ))  # fmt: skip

    matching = sorted(_matching(words), key=lambda each: each[0])
    found: Iterable[tuple[Summary | None, str]] = (
        (source.valid(line), source.name) for _, line, source in matching
    )
    num_found = len(matching)
    if kind or platform or device or licence or verified:
        found = [each for each in found if each[0] and wanted(each[0])]
        num_found = len(found)
    rows: list[dict[str, Any]] = []
    num_unfit, machine = 0, Machine()
    for summary, index in found:
        if summary is None:
            num_found -= 1
            continue
        if len(rows) == most:
            break
        row = _row(summary, index, machine)
        if row["version"] or everything:
            rows.append(row)
        else:
            num_unfit += 1
    facts = {"plugins": rows, "found": num_found, "not_fitting": num_unfit}
    emit(facts, as_json, lambda: _lines(facts))


def _matching(words: Sequence[str]) -> Iterator[tuple[str, bytes, Source]]:
    """Name, line and index of each plugin of which the words say something.

    The lines are not read whole: of a thousand that match, fifty are shown.
    """
    from llama_marketplace.sources import owner

    sources = shopping.indexes()
    seen: set[str] = set()
    for source in sources:
        for name, line in source.lines(words):
            if name not in seen and source in owner(name, sources):
                seen.add(name)
                yield name, line, source


def _row(summary: Summary, source: str, machine: Machine) -> dict[str, Any]:
    from llama_marketplace.install.fitting import unfit

    newest, hidden = None, {}
    for each in summary.versions:
        why = unfit(each, None, machine)
        if why is None:
            newest = each
            break
        hidden[each.version] = why
    return {
        "name": summary.name,
        "plugin": summary.plugin,
        "version": newest.version if newest else None,
        "hidden": hidden,
        "status": newest.status if newest else None,
        "summary": summary.summary,
        "publisher": summary.publisher,
        "verified": summary.verified,
        "licence": summary.licence,
        "provides": list(summary.provides),
        "index": source,
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    rows = facts["plugins"]
    if rows:
        yield from table(
            ("NAME", "VERSION", "BY", "SUMMARY"),
            (
                (
                    str(row["name"]),
                    str(row["version"] or "none fits"),
                    f"{row['publisher']}{' (verified)' if row['verified'] else ''}",
                    str(row["summary"]),
                )
                for row in rows
            ),
        )
    for row in rows:
        for version, why in row["hidden"].items():
            yield f"  {row['name']} {version} is hidden: {why}"
    if not facts["found"]:
        yield "no plugin matches"
    if facts["not_fitting"]:
        yield f"{facts['not_fitting']} that match do not fit here (--all shows them, and why)"
    more = facts["found"] - facts["not_fitting"] - len(rows)
    if more:
        yield f"and {more} more (--most)"
