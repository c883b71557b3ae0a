"""The catalogue: what is installed, what of it may run here, and who answers for a name.

Everything that can be decided from manifests and settings is decided here, before any plugin code
is imported. Knows policy, versions, platforms, requirements and the rule for conflicts; knows
nothing of hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from llama_core import __version__, compat, lock
from llama_core.announce import Announcements
from llama_core.config import Config
from llama_core.contracts import spec as spec_of
from llama_core.contracts.spec import Spec
from llama_core.discovery import BUILTIN, Found
from llama_core.errors import (
    CapabilityConflict,
    IncompatiblePlugin,
    LlamaError,
    MissingCapability,
    PluginDisabled,
    did_you_mean,
    sentence,
)
from llama_core.manifest import Manifest, Provides, Requires, here, parse


class State(StrEnum):
    """Where a plugin stands."""

    READY = "ready"  # may be activated; nothing of it is imported
    ACTIVE = "active"
    DISABLED = "disabled"  # by policy
    REFUSED = "refused"  # cannot run here
    QUARANTINED = "quarantined"  # failed before


@dataclass(slots=True, eq=False)
class Plugin:
    """One installed plugin. `reason` says why it is not ready or active."""

    found: Found
    manifest: Manifest | None = None
    state: State = State.READY
    reason: LlamaError | None = None
    num_faults: int = 0
    module: object | None = None  # given by an application, instead of imported

    @property
    def name(self) -> str:
        return self.found.name


@dataclass(frozen=True, slots=True, eq=False)
class Capability:
    """One thing one plugin provides, and why it cannot be had, if so."""

    plugin: Plugin
    provides: Provides
    unfit: LlamaError | None = None  # contract version or platform

    @property
    def reason(self) -> LlamaError | None:
        return self.plugin.reason or self.unfit

    def __str__(self) -> str:
        return f"{self.provides} of plugin '{self.plugin.name}'"


class Catalogue:
    """All installed plugins by name, and their capabilities by kind and name."""

    def __init__(
        self,
        found: Iterable[Found],
        config: Config | None = None,
        *,
        specs: Callable[[str], Spec[Any]] = spec_of,
    ) -> None:
        self.config = config or Config()
        self.announcements = Announcements(strict=self.config.strict)
        self.installed: dict[str, Plugin] = {}
        self._specs = specs
        self._lock = threading.RLock()
        self._by_name: dict[tuple[str, str], list[Capability]] = {}
        self._resolved: dict[tuple[str, str], Capability] = {}
        is_locked = self.config.locked and self.config.plugins
        locked = lock.read(self.config.lock_file) if is_locked else None
        for each in found:
            self._admit(Plugin(each), locked)
        self._check_preferences()

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.installed.values())

    def __getitem__(self, name: str) -> Plugin:
        if name not in self.installed:
            raise MissingCapability(
                f"no plugin called '{name}' is installed",
                remedy=sentence(
                    did_you_mean(name, self.installed), "`llama plugins list` shows all"
                ),
            )
        return self.installed[name]

    def capabilities(self, kind: str | None = None) -> list[Capability]:
        """What every installed plugin provides, usable or not (each says why not)."""
        return [
            one
            for (its_kind, _), several in sorted(self._by_name.items())
            for one in several
            if kind in (None, its_kind)
        ]

    def names(self, kind: str) -> list[str]:
        """The names that can be asked for, of one kind."""
        return sorted({c.provides.name for c in self.capabilities(kind) if c.reason is None})

    def resolve(self, kind: str, name: str) -> Capability:
        """Which plugin answers for a name; `plugin/name` asks for one plugin's own."""
        known = self._resolved.get((kind, name))
        if known is not None and known.reason is None:
            return known
        with self._lock:
            chosen = self._resolved[kind, name] = self._choose(kind, name)
            return chosen

    # ---- admitting ---------------------------------------------------------------------------

    def _admit(self, plugin: Plugin, locked: Mapping[str, lock.Locked] | None) -> None:
        self.installed[plugin.name] = plugin
        found = plugin.found
        try:
            if found.error is not None:
                raise found.error
            assert found.table is not None
            source = str(found.manifest_path)
            plugin.manifest = parse(dict(found.table), source=source, entry_point=found.name)
            self._check_policy(found, locked)
            _check_core_range(found)
        except PluginDisabled as error:
            plugin.state, plugin.reason = State.DISABLED, error
        except LlamaError as error:
            plugin.state, plugin.reason = State.REFUSED, error
        for note in found.notes:
            self.announcements.note(f"plugin '{found.name}' ({found.dist}): {note}")
        self._index_one(plugin)

    def _check_policy(self, found: Found, locked: Mapping[str, lock.Locked] | None) -> None:
        name, config = found.name, self.config
        if name == BUILTIN:
            return
        where = config.origin.get
        if not config.plugins:
            raise PluginDisabled(f"plugin '{name}' is off: --no-plugins")
        if config.allow is not None and name not in config.allow:
            raise PluginDisabled(
                f"plugin '{name}' is not on the allow-list ({where('plugins.allow', 'config')})",
                remedy=f"llama plugins enable {name}",
            )
        if name in config.disable:
            raise PluginDisabled(
                f"plugin '{name}' is disabled ({where('plugins.disable', 'config')})",
                remedy=f"llama plugins enable {name}",
            )
        why = lock.refusal(found, locked) if locked is not None else None
        if why is not None:
            raise PluginDisabled(
                f"plugin '{name}' {found.version} is kept out by locked mode: {why}",
                remedy="If you trust it: llama plugins lock",
            )

    def _index(self) -> None:
        self._by_name.clear()
        self._resolved.clear()
        for plugin in self:
            self._index_one(plugin)

    def _index_one(self, plugin: Plugin) -> None:
        for provides in plugin.manifest.provides if plugin.manifest else ():
            spec = self._specs(provides.kind)
            unfit: LlamaError | None = compat.refusal(
                spec, provides.api, plugin=plugin.name, name=provides.name
            ) or _check_platform(plugin.name, provides)
            one = Capability(plugin, provides, unfit)
            self._by_name.setdefault((provides.kind, provides.name), []).append(one)
        if plugin.state is State.READY and plugin.manifest and plugin.manifest.provides:
            reasons = [
                one.unfit
                for p in plugin.manifest.provides
                for one in self._by_name[p.kind, p.name]
                if one.plugin is plugin
            ]
            if all(reasons):  # nothing of it can be had: say so where plugins are listed
                plugin.state, plugin.reason = State.REFUSED, reasons[0]

    def _check_preferences(self) -> None:
        for wanted, name in self.config.prefer.items():
            kind, _, capability = wanted.partition(".")
            if not any(
                one.plugin.name == name for one in self._by_name.get((kind, capability), ())
            ):
                self.announcements.note(
                    f"plugins.prefer names plugin '{name}' for {wanted}, which it does not provide"
                )

    # ---- choosing ----------------------------------------------------------------------------

    def _choose(self, kind: str, name: str) -> Capability:
        owner, _, short = name.rpartition("/")
        candidates = [
            one
            for one in self._by_name.get((kind, short), ())
            if not owner or one.plugin.name == owner
        ]
        usable = [one for one in candidates if one.reason is None]
        if not usable:
            raise self._missing(kind, name, candidates)
        preferred = self.config.prefer.get(f"{kind}.{short}")
        if preferred is not None and not owner:
            for one in usable:
                if one.plugin.name == preferred:
                    return one
            raise self._missing(kind, f"{preferred}/{short}", candidates)
        # The rule: an installed plugin replaces a builtin; between installed ones, by name.
        usable.sort(key=lambda one: (one.plugin.name == BUILTIN, one.plugin.name))
        if len(usable) > 1:
            losers = ", ".join(f"'{one.plugin.name}'" for one in usable[1:])
            what = f"{usable[0]} is used; {losers} provide the same name"
            choice = f'Choose with [plugins.prefer] "{kind}.{short}" = "NAME" in llama.toml.'
            if self.config.strict:
                raise CapabilityConflict(f"strict mode: {what}", remedy=choice)
            self.announcements.note(what, remedy=choice)
        return usable[0]

    def _missing(self, kind: str, name: str, rejected: list[Capability]) -> LlamaError:
        if len(rejected) == 1 and rejected[0].reason is not None:
            return rejected[0].reason
        near = did_you_mean(name, self.names(kind))
        reasons = [f"plugin '{one.plugin.name}': {one.reason}" for one in rejected if one.reason]
        package = name.rpartition("/")[0] or name
        return MissingCapability(
            sentence(f"no usable plugin provides {kind} '{name}'", *reasons),
            remedy=sentence(
                near,
                f"`llama plugins list` shows what is here, `pip install llama-plugin-{package}` "
                "may add it",
            ),
        )

    def _check_requirements(self, plugin: Plugin, path: tuple[str, ...]) -> None:
        path = (*path, plugin.name)
        for need in plugin.manifest.requires if plugin.manifest else ():
            refusals = [self._unmet(one, need, path) for one in self._offers(need)]
            if not refusals or all(refusals):
                why = "; ".join(str(one) for one in refusals if one) or "no plugin provides it"
                missing = need.name or need.kind
                raise IncompatiblePlugin(
                    f"plugin '{plugin.name}' requires {need}: {why}",
                    remedy=None if refusals else f"pip install llama-plugin-{missing}",
                )

    def _offers(self, need: Requires) -> list[Capability]:
        return [c for c in self.capabilities(need.kind) if need.name in (None, c.provides.name)]

    def _unmet(self, offer: Capability, need: Requires, path: tuple[str, ...]) -> str | None:
        found = offer.plugin.found
        if offer.plugin.name in path:
            return "the requirement is circular: " + " → ".join((*path, offer.plugin.name))
        if offer.reason is not None:
            return str(offer.reason)
        wanted = SpecifierSet(need.version or "")
        if not wanted.contains(found.version, prereleases=True):
            return f"{found.dist} {found.version} is installed"
        try:
            self._check_requirements(offer.plugin, path)
        except IncompatiblePlugin as error:
            return str(error)
        return None


def _check_core_range(found: Found) -> None:
    if found.needs_core is None:
        return
    try:
        needs = Requirement(found.needs_core)
    except InvalidRequirement:
        return  # not ours to judge: installers already read this line
    if not needs.specifier.contains(__version__, prereleases=True):
        raise IncompatiblePlugin(
            f"{found.dist} {found.version} needs {needs}, and llama-core {__version__} is here",
            remedy=f"pip install '{needs}'",
        )


def _check_platform(plugin: str, provides: Provides) -> LlamaError | None:
    os_name, arch = here()
    needs = provides.needs
    if (needs.os and os_name not in needs.os) or (needs.arch and arch not in needs.arch):
        wanted = ", ".join([*needs.os, *needs.arch])
        return IncompatiblePlugin(
            f"{provides} of plugin '{plugin}' runs on {wanted}, and this is {os_name} {arch}"
        )
    return None
