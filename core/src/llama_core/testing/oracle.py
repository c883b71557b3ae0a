"""The oracle of the suites: the core's own reference backend, asked for like any capability."""

from __future__ import annotations

from functools import cache

from llama_core.contracts.backend import SPEC, Backend
from llama_core.discovery import builtin
from llama_core.plugins import Plugins


@cache
def reference(dtype: str = "f32") -> Backend:
    """The reference in a registry of its own: what is installed cannot take its place."""
    return Plugins([builtin()]).create(SPEC, "reference", {"dtype": dtype})
