"""One process of a run that has several, watched and steered like one that is alone.

A launcher starts `python -m llama_plugin_train.cli.rank FOLDER`, once for each rank.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.cli.running import train


def main(arguments: Sequence[str]) -> int:
    """FOLDER, then changes as section.word=JSON."""
    told = dict(one.split("=", 1) for one in arguments[1:])
    try:
        changes = {name: json.loads(value) for name, value in told.items()}
        train(Plugins.load(), Path(arguments[0]), changes)
    except LlamaError as error:
        click.echo(f"llama: error: {error}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
