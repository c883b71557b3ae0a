"""What a contract is: the Protocol a capability fulfils, the hook that hands it over, its version.

Each file beside this one defines one kind of capability: a Protocol, the frozen data it speaks in,
and a `SPEC`. The Protocol is what a plugin author reads, the Spec is what the core asks by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec(Generic[T]):
    """One kind of capability as the core sees it."""

    kind: str
    contract: type[T]
    hook: str
    api: int = 1  # the version served natively
    oldest: int = 1  # the oldest version that `compat.py` still adapts
    since: str = "0.1"  # the version of the core that introduced `api`

    def unfulfilled(self, candidate: Any) -> str | None:
        """Why an object does not fulfil the contract, or None where it has all it must."""
        if candidate is None:
            return f"it answered nothing where a {self.contract.__name__} was asked for"
        if isinstance(candidate, type):
            return f"it gave the class {candidate.__name__} where an object of it was asked for"
        for name in _members(cast(Any, self.contract)):
            # hasattr(type(5), "__call__") is true: the type itself can be called.
            if not (callable(candidate) if name == "__call__" else hasattr(candidate, name)):
                return (
                    f"it gave an object of type {type(candidate).__name__}, which lacks "
                    f"'{name}' of the contract {self.contract.__name__}"
                )
        return None


@lru_cache(maxsize=64)
def _members(contract: Any) -> tuple[str, ...]:
    """The names that an object must have to fulfil a Protocol."""
    names: dict[str, None] = {}
    for base in reversed(contract.__mro__):
        if getattr(base, "_is_protocol", False) and base.__name__ != "Protocol":
            own = [*vars(base), *vars(base).get("__annotations__", ())]
            names |= dict.fromkeys(n for n in own if n == "__call__" or not n.startswith("_"))
    return tuple(names)
