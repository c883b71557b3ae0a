"""Whether what a plugin needs is here: the core, the machine, and what other plugins provide.

Works on metadata, manifests and the catalogue's answers; nothing is imported. A plugin is
*grounded* when each of its requirements is met by a plugin that is grounded without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from llama_core import __version__
from llama_core.errors import IncompatiblePlugin, LlamaError
from llama_core.platforms import here

if TYPE_CHECKING:
    from llama_core.catalogue import Capability, Plugin
    from llama_core.discovery import Found
    from llama_core.manifest import Provides, Requires

    Offers = Callable[[Requires], Sequence[Capability]]

MAX_SHOWN = 3  # offers of one requirement that an error explains
MAX_CHAIN = 6  # plugins in the chain that it follows


def check_core(found: Found) -> None:
    """Refuse a distribution whose own dependency range leaves this core out."""
    if found.needs_core is not None and not _serves(found.needs_core):
        raise IncompatiblePlugin(
            f"{found.dist} {found.version} needs {found.needs_core}, and llama-core {__version__} "
            "is here",
            remedy=f"pip install '{found.needs_core}'",
        )


@lru_cache(maxsize=256)  # a thousand plugins say the same few things
def _serves(requirement: str) -> bool:
    try:
        needs = Requirement(requirement)
        if needs.marker is not None and not needs.marker.evaluate():
            return True  # a line for other machines
        return needs.specifier.contains(__version__, prereleases=True)
    except (ValueError, UndefinedEnvironmentName):
        return True  # not ours to judge: installers read this line before us


def elsewhere(plugin: str, provides: Provides) -> LlamaError | None:
    """Why a capability cannot run on this machine, or None where it can."""
    os_name, arch = here()
    needs = provides.needs
    if (needs.os and os_name not in needs.os) or (needs.arch and arch not in needs.arch):
        wanted = ", ".join([*needs.os, *needs.arch])
        return IncompatiblePlugin(
            f"{provides} of plugin '{plugin}' runs on {wanted}, and this is {os_name} {arch}"
        )
    return None


def check(plugin: Plugin, offers: Offers) -> None:
    """Raise, with the chain that leads to what is missing, unless the plugin is grounded."""
    if not _needs(plugin):
        return
    grounded = _grounded(plugin, offers)
    if plugin.name not in grounded:
        explanation = _Explanation(offers, grounded)
        why = explanation.of(plugin)
        raise IncompatiblePlugin(why, remedy=explanation.remedy)


def _needs(plugin: Plugin) -> tuple[Requires, ...]:
    return plugin.manifest.requires if plugin.manifest else ()


def _grounded(plugin: Plugin, offers: Offers) -> set[str]:
    """The least set that is closed under "all its requirements are met from within the set"."""
    waiting: dict[str, list[set[str]]] = {}  # who may meet each requirement
    grounded: set[str] = set()
    ahead = [plugin]
    while ahead:
        one = ahead.pop()
        if one.name in waiting or one.name in grounded:
            continue
        if not _needs(one):
            grounded.add(one.name)
            continue
        waiting[one.name] = []
        for need in _needs(one):
            fit = [offer.plugin for offer in offers(need) if _misfit(offer, need) is None]
            waiting[one.name].append({each.name for each in fit})
            ahead += fit
    while True:
        met = {name for name, needs in waiting.items() if all(grounded & may for may in needs)}
        if not met:
            return grounded
        grounded |= met
        for name in met:
            del waiting[name]


def _misfit(offer: Capability, need: Requires) -> str | None:
    """Why one offer does not do, leaving aside what it requires itself."""
    found = offer.plugin.found
    if offer.reason is not None:
        return str(offer.reason)
    if not SpecifierSet(need.version or "").contains(found.version, prereleases=True):
        return f"{found.dist} {found.version} is installed"
    return None


class _Explanation:
    """Why a plugin is not grounded. Each plugin is explained once, however many ways lead to it."""

    def __init__(self, offers: Offers, grounded: set[str]) -> None:
        self._offers, self._grounded = offers, grounded
        self._seen: set[str] = set()
        self.remedy: str | None = None  # for the end of the chain

    def of(self, plugin: Plugin, path: tuple[str, ...] = ()) -> str:
        if plugin.name in path:
            return "the requirement is circular: " + " → ".join((*path, plugin.name))
        if plugin.name in self._seen or len(path) >= MAX_CHAIN:
            return f"plugin '{plugin.name}' has requirements that are not met"
        self._seen.add(plugin.name)
        # What nobody provides is said before what somebody provides in vain.
        unmet = [(self._offers(need), need) for need in _needs(plugin)]
        unmet = [(found, need) for found, need in unmet if not self._meets(found, need)]
        found, need = min(unmet, key=lambda pair: bool(pair[0]))
        reasons = [self._rejected(one, need, (*path, plugin.name)) for one in found[:MAX_SHOWN]]
        if not found:
            reasons = ["no plugin provides it"]
            self.remedy = f"Install a plugin that provides a {need.kind}; its author knows which."
        elif len(found) > MAX_SHOWN:
            reasons.append(f"and {len(found) - MAX_SHOWN} more")
        return f"plugin '{plugin.name}' requires {need}: {'; '.join(reasons)}"

    def _meets(self, found: Sequence[Capability], need: Requires) -> bool:
        return any(
            _misfit(one, need) is None and one.plugin.name in self._grounded for one in found
        )

    def _rejected(self, offer: Capability, need: Requires, path: tuple[str, ...]) -> str:
        why = _misfit(offer, need)
        if why is None:
            return self.of(offer.plugin, path)
        if offer.reason is None:
            self.remedy = f"pip install '{offer.plugin.found.dist}{need.version}'"
        return why
