"""Whether an object's methods can be called the way a Protocol's are."""

from __future__ import annotations

import inspect
from typing import Any


def misfits(candidate: Any, contract: type) -> list[str]:
    """The methods that do not take the contract's arguments, and which these are."""
    faults = []
    for name, method in _methods(contract).items():
        parameters = list(inspect.signature(method).parameters.values())[1:]
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            continue  # the contract itself is open
        own = candidate if name == "__call__" else getattr(candidate, name)
        try:
            signature = inspect.signature(own)
        except TypeError:
            faults.append(f"{name} cannot be called: it is {own!r}")
            continue
        except ValueError:
            continue  # written in C without a signature
        required = [p.name for p in parameters if p.default is p.empty]
        for names in (required, [p.name for p in parameters]):
            try:
                signature.bind(*names)
            except TypeError:
                faults.append(f"{name}{signature} cannot be called as {name}({', '.join(names)})")
                break
    return faults


def _methods(contract: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(contract.__mro__):
        if getattr(base, "_is_protocol", False) and base.__name__ != "Protocol":
            found |= {
                name: value
                for name, value in vars(base).items()
                if inspect.isfunction(value) and (name == "__call__" or not name.startswith("_"))
            }
    return found
