"""The `llama` command. Everything it can do is listed without importing what does it."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (an error, said in one line) or 2 (wrong usage)."""
    _open_what_is_closed()
    try:
        from llama_core.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def _open_what_is_closed() -> None:
    """A shell's `<&-` leaves Python without the stream, where commands expect an empty one.

    An answer that nobody can read is no success: what is written to a closed output fails.
    """
    streams = (("stdin", "r", os.O_RDWR), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_RDWR))
    for name, mode, rights in streams:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, rights), mode, encoding="utf-8"))
