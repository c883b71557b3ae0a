"""What a contract is: the Protocol a capability fulfils, the hook that hands it over, its version.

Each file beside this one defines one kind of capability: a Protocol, the frozen data it speaks in,
and a `SPEC`. The Protocol is what a plugin author reads, the Spec is what the core asks by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec(Generic[T]):
    """One kind of capability as the core sees it."""

    kind: str
    contract: type[T]
    hook: str
    api: int = 1  # the version served natively
    oldest: int = 1  # the oldest version that `compat.py` still adapts

    def members(self) -> tuple[str, ...]:
        """The names that an object must have to fulfil the contract."""
        names: dict[str, None] = {}
        for base in reversed(self.contract.__mro__):
            if not getattr(base, "_is_protocol", False) or base.__name__ == "Protocol":
                continue
            own = [*vars(base), *vars(base).get("__annotations__", ())]
            names |= dict.fromkeys(n for n in own if n == "__call__" or not n.startswith("_"))
        return tuple(names)

    def lacks(self, candidate: Any) -> tuple[str, ...]:
        """The contract's names that the candidate does not have; empty where it conforms."""
        have = type(candidate) if "__call__" in self.members() else candidate
        return tuple(
            name
            for name in self.members()
            if not hasattr(have if name == "__call__" else candidate, name)
        )
