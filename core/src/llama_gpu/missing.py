"""A capability that nobody provides is said when it is asked for, with the way to get it."""

from __future__ import annotations

from llama_core.errors import MissingCapability, did_you_mean, pip_install, sentence
from llama_core.plugins import Plugins


def require(plugins: Plugins, kind: str, name: str) -> None:
    """Raise where the capability cannot be had: not installed, or the reason it cannot run."""
    if any(one.provides.name == name for one in plugins.capabilities(kind)):
        plugins.resolve(kind, name)
        return
    known = plugins.names(kind)
    raise MissingCapability(
        f"no plugin provides the {kind} '{name}'",
        remedy=sentence(
            did_you_mean(name, known),
            f"here are {', '.join(known)}" if known else None,
            f"install one that does: {pip_install()}",
        ),
    )
