"""The `llama` command. Everything it can do is listed without importing what does it."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (an error, said in one line) or 2 (wrong usage)."""
    try:
        from llama_core.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if argv is None else argv))
