"""A command adds `llama NAME`. Its name and summary stand in the manifest, for `--help`.

One that the manifest calls `plugins.NAME` adds `llama plugins NAME`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    import click


class Command(Protocol):
    """What `click` runs: any `click.Command` or group fulfils it."""

    name: str | None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments and run."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse arguments into a context."""


SPEC: Spec[Command] = Spec("command", Command, "llama_add_command")
