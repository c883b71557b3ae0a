"""`llama marketplace keys`: signing keys made, shown, and replaced."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import FILE, index_option, keys_option, open_index, open_keys


@click.group("keys", epilog="Example: llama marketplace keys create keys/acme.pem")
def command() -> None:
    """Make signing keys, and give a role other ones."""


@command.command("create", epilog="Example: llama marketplace keys create keys/acme.pem")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase to keep it under.")
@json_option
def create(file: Path, passphrase: bool, as_json: bool) -> None:
    """Make a key. The file is the secret; the one ending in .pub may be given away."""
    from llama_marketplace.trust import keys

    if file.suffix != ".pem":
        raise LlamaError(f"{file}: a key's file ends in .pem")
    word = (
        click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
        if passphrase
        else None
    )
    key = keys.create(file, passphrase=word)
    facts = {"key": str(file), "public": str(file.with_suffix(".pub")), "id": key.keyid}
    emit(
        facts,
        as_json,
        lambda: [f"{facts['key']} is the secret", f"{facts['public']} is for the index's operator"],
    )


@command.command(
    "rotate",
    epilog="Example: llama marketplace keys rotate acme --new new.pub --index index --keys keys",
)
@click.argument("role")
@click.option("--new", "files", type=FILE, multiple=True, required=True, help="A new public key.")
@click.option("--threshold", type=click.IntRange(1, 9), default=1, help="Keys that must sign.")
@index_option
@keys_option
@json_option
def rotate(
    role: str, files: tuple[Path, ...], threshold: int, folder: Path, places: tuple[Path, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Give a role or a publisher these keys instead of those it had.

    Needs the new keys (a publisher may sign later, and until then nothing of it is believed), and
    those of what delegates to it: root's old ones for root, targets,
    snapshot and timestamp; those of targets for publishers, catalogue and names.
    """
    from llama_marketplace.trust.keys import load_public

    index, ring = open_index(folder), open_keys(places)
    index.roles.set_keys(role, [load_public(file) for file in files], threshold, ring)
    signed = index.commit(ring)
    emit({"role": role, "signed": signed}, as_json, lambda: [f"{role} has new keys"])
