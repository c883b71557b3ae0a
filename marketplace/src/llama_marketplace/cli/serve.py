"""`llama marketplace serve`: an index over HTTP, to try it."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import root_digest


@click.command("serve", epilog="Example: llama marketplace serve index --port 8070")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--host", default="127.0.0.1", help="Where to listen; this machine alone by default.")
@click.option("--port", type=click.IntRange(0, 65535), default=8070, help="0 takes a free one.")
@json_option
def command(folder: Path, host: str, port: int, as_json: bool) -> None:
    """Serve an index for development; pip may use it too. Ctrl-C ends it.

    What an index holds is public by nature, so there is no key; for real use, copy the folder to
    any file server.
    """
    from llama_marketplace.publish.serving import IndexServer

    if not (folder / "metadata" / "timestamp.json").is_file():
        raise LlamaError(f"{folder} is not an index", remedy="llama marketplace init FOLDER")
    try:
        server = IndexServer(folder, host, port, verbose=not as_json)
    except OSError as error:
        raise LlamaError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    def stop(*_: Any) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    root, url = root_digest(folder), server.url
    emit(
        {"url": url, "root": root},
        as_json,
        lambda: [
            f"{folder} is at {url}",
            f"plain pip: pip install --index-url {url}simple/ NAME",
            f"trust it: llama marketplace indexes add NAME {url} --root {root}",
        ],
    )
    sys.stdout.flush()
    with server:
        server.serve_forever()
