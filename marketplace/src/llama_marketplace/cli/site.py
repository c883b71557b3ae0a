"""`llama marketplace site`: an index as a static web site, to be looked through in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError, did_you_mean
from llama_marketplace.cli.operating import FOLDER

if TYPE_CHECKING:
    from llama_marketplace.site.entries import Shelf


@click.command("site", epilog="Example: llama marketplace site --index index --out site")
@click.option("--out", type=FOLDER, required=True, help="The folder of the site.")
@click.option("--index", "folder", type=FOLDER, help="An index in a folder, by its operator.")
@click.option("--url", help="Where that index is hosted, for the lines that visitors type.")
@click.option("--from", "names", metavar="NAME", multiple=True, help="An index that is trusted.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, out: Path, folder: Path | None, url: str | None, names: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Render an index as a web site: search, filters, and a page for each plugin.

    Of --index, of each --from, or of all indexes that are trusted. The site is static files: copy
    them anywhere, or open index.html from the disk. Rendered again, it changes only where the index
    did. Exits with 1 where a plugin had to be left out.
    """
    from llama_core.cli.progress import progress
    from llama_marketplace.site.building import build

    shelves = _shelves(folder, url, names)
    total = len({name for shelf in shelves for name in shelf.names})
    try:
        with progress("rendering", total) as tick:
            built = build(out, shelves, tick)
    except OSError as error:
        raise LlamaError(f"cannot write {error.filename or out}: {error.strerror}") from error
    page = out / "index.html"
    facts = {
        "page": str(page),
        "plugins": built.num_plugins,
        "written": built.num_written,
        "removed": built.num_removed,
        "left_out": dict(built.left_out),
    }
    emit(
        facts,
        as_json,
        lambda: [
            *(f"left out: {name}: {why}" for name, why in built.left_out),
            f"{page} shows {built.num_plugins} plugins; {built.num_written} files written, "
            f"{built.num_removed} removed",
        ],
    )
    ctx.exit(1 if built.left_out else 0)


def _shelves(folder: Path | None, url: str | None, names: tuple[str, ...]) -> list[Shelf]:
    from llama_marketplace.cli import shopping
    from llama_marketplace.site import entries
    from llama_marketplace.site.text import address

    if url is not None and folder is None:
        raise click.UsageError("--url goes with --index")
    if url is not None and address(url) is None:
        raise click.UsageError("--url must be an http or https address")
    found = [entries.of_folder(folder, url)] if folder is not None else []
    if names or folder is None:
        sources = shopping.indexes()
        known = {each.name: each for each in sources}
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f"Trusted are {', '.join(known)}."
                raise LlamaError(f"no index '{name}' is trusted", remedy=hint)
        chosen = [each for each in sources if not names or each.name in names]
        found += [entries.of_source(each, sources) for each in chosen]
    return found
