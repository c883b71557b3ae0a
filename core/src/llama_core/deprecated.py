"""Everything that is on its way out, in one place.

A deprecation is an entry here and a call of `warn`; nothing else in the code base knows a date or
words of farewell. An entry is removed together with what it names, not before two minor versions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass


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


def older_contract(kind: str, found: int, current: int, plugin: str) -> Deprecation:
    """A plugin that speaks the previous version of a contract; `compat.py` adapts it."""
    return Deprecation(
        what=f"version {found} of the {kind} contract, spoken by plugin '{plugin}',",
        since="the version that introduced its successor",
        removed_in="the second minor version after it",
        instead=f"version {current}",
    )


def warn(entry: Deprecation, *, stacklevel: int = 2) -> None:
    """Tell whoever called the deprecated thing."""
    warnings.warn(str(entry), LlamaDeprecationWarning, stacklevel=stacklevel + 1)
