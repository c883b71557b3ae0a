"""`llama train init`: a configuration to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError


@click.command("init", epilog="Example: llama train init config.toml")
@click.argument("path", type=click.Path(path_type=Path), default="config.toml")
@json_option
def init(path: Path, as_json: bool) -> None:
    """Write a configuration with every word, its default and what it means to PATH.

    A file that is there is left alone. - writes to standard output.
    """
    from llama_plugin_train.loop.writing import commented

    text = commented()
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise LlamaError(
            f"{path} is there already", remedy="Name another file, or remove it first."
        ) from None
    except OSError as error:
        raise LlamaError(f"cannot write {path}: {error.strerror}") from error
    emit(
        {"path": str(path)},
        as_json,
        lambda: [f"{path} is written; say in it what to learn from, then: llama train {path}"],
    )
