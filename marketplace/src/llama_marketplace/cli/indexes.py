"""`llama marketplace indexes`: whom the user trusts, as it stands in the user's llama.toml."""

from __future__ import annotations

from typing import Any

import click

from llama_core.cli.output import emit, json_option, table
from llama_core.errors import LlamaError


@click.group("indexes", epilog="Example: llama marketplace indexes list")
def command() -> None:
    """Trust an index, or no longer; the first that has a name is the one that counts."""


@command.command(
    "add",
    epilog="Example: llama marketplace indexes add corp https://plugins.corp.example/ "
    "--root SHA256 --namespace 'llama-plugin-corp-*'",
)
@click.argument("name")
@click.argument("url")
@click.option("--root", required=True, help="The SHA-256 of its 1.root.json, from its operator.")
@click.option("--namespace", "namespaces", multiple=True, help="Names that come from here alone.")
@click.option("--first", is_flag=True, help="Ask it before the others.")
@json_option
def add(
    name: str, url: str, root: str, namespaces: tuple[str, ...], first: bool, as_json: bool
) -> None:
    """Trust an index by its address and its root, after reading it once."""
    from llama_marketplace import trusting

    source = trusting.proposed(name, url, root, namespaces)
    done = source.refresh()
    file = trusting.write(source, first=first)
    facts = {"name": name, "url": url, "file": str(file), "bytes": done.bytes}
    emit(facts, as_json, lambda: [f"{name} is trusted in {file}"])


@command.command("list", epilog="Example: llama marketplace indexes list --json")
@json_option
def list_(as_json: bool) -> None:
    """List the indexes that are trusted, in their order."""
    from llama_marketplace.sources import configured

    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "url": each.url,
            "root": each.root,
            "namespaces": list(each.namespaces),
            "refreshed": at.isoformat() if (at := each.refreshed) else None,
        }
        for each in configured()
    ]
    emit(
        {"indexes": rows},
        as_json,
        lambda: table(
            ("INDEX", "NAMES", "REFRESHED", "ADDRESS"),
            (
                (
                    str(row["name"]),
                    " ".join(row["namespaces"] or ()) or "any",
                    str(row["refreshed"] or "never"),
                    str(row["url"]),
                )
                for row in rows
            ),
        ),
    )


@command.command("remove", epilog="Example: llama marketplace indexes remove corp")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Trust an index no longer; what was installed from it stays."""
    from llama_marketplace import trusting

    file = trusting.remove(name)
    emit({"name": name, "file": str(file)}, as_json, lambda: [f"{name} is gone from {file}"])


@command.command("refresh", epilog="Example: llama marketplace indexes refresh")
@json_option
def refresh(as_json: bool) -> None:
    """Ask every index what is new."""
    from llama_marketplace.sources import configured

    rows = []
    for each in configured():
        done = each.refresh()
        state = "offline" if done.offline else "new" if done.changed else "as before"
        rows.append({"name": each.name, "state": state, "bytes": done.bytes})
    if not rows:
        raise LlamaError("no index is trusted yet", remedy="llama marketplace indexes add --help")
    emit(
        {"indexes": rows},
        as_json,
        lambda: (f"{row['name']}: {row['state']}, {row['bytes']} bytes" for row in rows),
    )
