"""Everything that is on its way out, in one place.

A deprecation is an entry here and a call of `warn`; nothing else in the code base knows a date or
words of farewell. An entry is removed together with what it names, not before two minor versions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from llama_core.contracts.spec import Spec


class LlamaDeprecationWarning(DeprecationWarning):
    """Something of llama-core's own that a later version will no longer have."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """One thing that goes: since when, when it goes, and what takes its place."""

    what: str
    since: str
    removed_in: str
    instead: str

    def __str__(self) -> str:
        return (
            f"{self.what} is deprecated since llama-core {self.since} and goes in "
            f"{self.removed_in}; use {self.instead} instead"
        )


def older_contract(spec: Spec[Any], found: int, plugin: str) -> Deprecation:
    """A plugin that speaks the previous version of a contract; `compat.py` adapts it."""
    major, minor = (int(part) for part in spec.since.split(".")[:2])
    return Deprecation(
        what=f"version {found} of the {spec.kind} contract, spoken by plugin '{plugin}',",
        since=spec.since,
        removed_in=f"{major}.{minor + 2}",
        instead=f"version {spec.api}",
    )


def warn(entry: Deprecation, *, stacklevel: int = 2) -> None:
    """Tell whoever called the deprecated thing."""
    warnings.warn(str(entry), LlamaDeprecationWarning, stacklevel=stacklevel + 1)
