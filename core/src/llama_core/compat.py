"""Where an older version of a contract differs from today's, adapted in this one file.

Core serves a contract's current version and the one before. When a kind's `api` goes up, its entry
here turns an object written for the older version into one that fulfils the newer; nothing else in
the core knows that the older version existed. Entries go together with `Spec.oldest`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llama_core.contracts.spec import Spec
from llama_core.errors import IncompatiblePlugin, pip_install

Adapters = Mapping[tuple[str, int], Callable[[Any], Any]]

# (kind, from this version) -> an object of the next version. Every kind is still at its first.
ADAPTERS: Adapters = {}


def refusal(spec: Spec[Any], api: int, *, plugin: str, name: str) -> IncompatiblePlugin | None:
    """Why a capability written for version `api` of a contract cannot be served, or None."""
    from llama_core import __version__

    if spec.oldest <= api <= spec.api:
        return None
    served = f"{spec.oldest} to {spec.api}" if spec.oldest < spec.api else f"{spec.api}"
    what = (
        f"plugin '{plugin}' provides {spec.kind} '{name}' at contract version {api}, and "
        f"llama-core {__version__} serves {served}"
    )
    if api > spec.api:
        return IncompatiblePlugin(
            what,
            remedy=f"Upgrade llama-core; if the plugin is yours, write it for version {spec.api}.",
        )
    return IncompatiblePlugin(
        what, remedy=f"Upgrade the plugin: {pip_install(plugin, flags='-U ')}"
    )


def adapt(value: Any, spec: Spec[Any], api: int, *, adapters: Adapters = ADAPTERS) -> Any:
    """The object as one of today's contract."""
    for version in range(api, spec.api):
        value = adapters[spec.kind, version](value)
    return value
