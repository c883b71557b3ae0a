"""`llama marketplace list`: what is installed from here, and what by other means."""

from __future__ import annotations

from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.output import emit, json_option, table
from llama_core.discovery import BUILTIN


@click.command("list", epilog="Example: llama marketplace list --json")
@click.option("--generations", "all_generations", is_flag=True, help="What there was before, too.")
@json_option
@click.make_pass_decorator(Session, ensure=True)
def command(session: Session, all_generations: bool, as_json: bool) -> None:
    """List the plugins that are installed, from an index or by pip; imports none of them."""
    from llama_marketplace.install.generations import Generations

    generations = Generations()
    now = generations.current()
    rows = [
        {
            "plugin": each.plugin,
            "name": each.name,
            "version": each.version,
            "managed": True,
            "index": each.source,
            "publisher": each.publisher,
        }
        for each in now.plugins.values()
    ]
    rows += [
        {"plugin": one.name, "name": one.dist, "version": one.version, "managed": False}
        for one in session.found
        if one.name != BUILTIN and one.dist not in now.plugins
    ]
    facts: dict[str, Any] = {"generation": now.number, "plugins": rows}
    if all_generations:
        facts["generations"] = [_generation(generations, each) for each in generations.numbers()]
    emit(facts, as_json, lambda: [*_plugins(rows), *_generations(facts)])


def _plugins(rows: list[dict[str, Any]]) -> Any:
    return table(
        ("PLUGIN", "VERSION", "DISTRIBUTION", "FROM"),
        (
            (
                str(row["plugin"]),
                str(row["version"]),
                str(row["name"]),
                f"'{row['index']}', by {row['publisher']}"
                if row["managed"]
                else "pip or the like; not managed from here",
            )
            for row in rows
        ),
    )


def _generation(generations: Any, number: int) -> dict[str, Any]:
    from llama_core.errors import LlamaError

    try:
        found = generations.read(number)
    except LlamaError as error:
        return {"generation": number, "problem": error.message}
    plugins = {each.name: each.version for each in found.plugins.values()}
    return {"generation": number, "made": found.made, "plugins": plugins}


def _generations(facts: dict[str, Any]) -> list[str]:
    said = []
    for each in facts.get("generations", ()):
        mark = "*" if each["generation"] == facts["generation"] else " "
        plugins = ", ".join(f"{n} {v}" for n, v in each.get("plugins", {}).items()) or "no plugin"
        told = each.get("problem") or f"{each['made']}  {plugins}"
        said.append(f"{mark} {each['generation']:>3}  {told}")
    return ["", *said] if said else []
