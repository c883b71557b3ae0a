"""The catalogue: what is installed, what of it may run here, and who answers for a name.

Everything that can be decided from manifests and settings is decided here, before any plugin code
is imported. Knows policy, versions, platforms, requirements and the rule for conflicts; knows
nothing of hooks.
"""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llama_core import compat, lock, overlay, requirements
from llama_core.announce import Announcements
from llama_core.config import SETTING, Config, user_config_file
from llama_core.contracts import spec as spec_of
from llama_core.contracts.spec import Spec
from llama_core.discovery import BUILTIN, Found
from llama_core.errors import (
    CapabilityConflict,
    LlamaError,
    ManifestError,
    MissingCapability,
    PluginDisabled,
    did_you_mean,
    sentence,
)
from llama_core.manifest import Manifest, Provides, Requires, parse

MOST_NAMED = 20  # of a kind's capabilities in one line


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
    faults: list[float] = field(default_factory=list)  # when, by the monotonic clock
    module: object | None = None  # given by an application, instead of imported
    activating: Any = field(default_factory=threading.RLock, repr=False)

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def num_faults(self) -> int:
        return len(self.faults)


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


_ByName = dict[tuple[str, str], list[Capability]]

# A thread that does not survive a fork may have held a lock that does.
_everywhere: weakref.WeakSet[Catalogue] = weakref.WeakSet()


def _after_fork() -> None:
    for catalogue in _everywhere:
        catalogue._lock = threading.RLock()
        for plugin in catalogue:
            plugin.activating = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
        self._lock = threading.RLock()  # of the tables; never held while plugin code runs
        self._by_name: _ByName = {}
        self._resolved: dict[tuple[str, str], Capability] = {}
        is_locked = self.config.locked and self.config.plugins
        locked = lock.read(self.config.lock_file) if is_locked else None
        for each in found:
            self._admit(Plugin(each), locked)
        self._check_settings()
        _everywhere.add(self)

    def __iter__(self) -> Iterator[Plugin]:
        return iter(list(self.installed.values()))

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
        found, broken = plugin.found, plugin.found.error
        if broken is None:
            try:
                plugin.manifest = _manifest(found)
            except LlamaError as error:
                broken = error
        try:
            self._check_policy(found, locked)  # first: who disables what is broken has peace
            if broken is not None:
                raise broken
            requirements.check_core(found)
        except PluginDisabled as error:
            plugin.state, plugin.reason = State.DISABLED, error
        except LlamaError as error:
            plugin.state, plugin.reason = State.REFUSED, error
            self.announcements.note(f"plugin '{found.name}' is left out: {error}")
        for note in found.notes:
            self.announcements.note(f"plugin '{found.name}' ({found.dist}): {note}")
        self._index_one(plugin, self._by_name)

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
                remedy=_lift(name, where("plugins.allow"), "allow", "Add it to"),
            )
        if name in config.disable:
            raise PluginDisabled(
                f"plugin '{name}' is disabled ({where(f'plugins.disable.{name}', 'config')})",
                remedy=_lift(name, where(f"plugins.disable.{name}"), "disable", "Take it out of"),
            )
        why = lock.refusal(found, locked) if locked is not None else None
        if why is not None:
            raise PluginDisabled(
                f"plugin '{name}' {found.version} is kept out by locked mode: {why}",
                remedy="If you trust it: llama plugins lock",
            )
        why = overlay.withdrawn(found.dist, found.version, found.location)
        if why is not None:
            raise PluginDisabled(
                f"plugin '{name}' {found.version} was taken back by the index it is from: {why}",
                remedy="llama marketplace update",
            )

    def _index(self) -> None:
        by_name: _ByName = {}
        for plugin in self:
            self._index_one(plugin, by_name)
        self._by_name, self._resolved = by_name, {}  # at once: readers take no lock

    def _index_one(self, plugin: Plugin, by_name: _ByName) -> None:
        for provides in plugin.manifest.provides if plugin.manifest else ():
            spec = self._specs(provides.kind)
            unfit: LlamaError | None = compat.refusal(
                spec, provides.api, plugin=plugin.name, name=provides.name
            ) or requirements.elsewhere(plugin.name, provides)
            one = Capability(plugin, provides, unfit)
            by_name.setdefault((provides.kind, provides.name), []).append(one)
        if plugin.state is State.READY and plugin.manifest and plugin.manifest.provides:
            reasons = [
                one.unfit
                for p in plugin.manifest.provides
                for one in by_name[p.kind, p.name]
                if one.plugin is plugin
            ]
            if all(reasons):  # nothing of it can be had: say so where plugins are listed
                plugin.state, plugin.reason = State.REFUSED, reasons[0]

    def _check_settings(self) -> None:
        """Names in the settings that mean nothing here are said: one may be misspelt."""
        for key, names in (("allow", self.config.allow or ()), ("disable", self.config.disable)):
            for name in names:
                if name not in self.installed:
                    hint = did_you_mean(name, self.installed)
                    what = f"plugins.{key} names '{name}', which is not installed"
                    self.announcements.note(what, remedy=sentence(hint) or None)
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
        if not isinstance(name, str):
            raise MissingCapability(f"a {kind} is asked for by its name, not by {name!r}")
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
        usable.sort(key=_rank)
        if len(usable) > 1:
            losers = ", ".join(f"'{one.plugin.name}'" for one in usable[1:])
            what = f"{usable[0]} is used; the name is also provided by {losers}"
            choice = f'Choose with [plugins.prefer] "{kind}.{short}" = "NAME" in llama.toml.'
            if self.config.strict:
                raise CapabilityConflict(f"strict mode: {what}", remedy=choice)
            self.announcements.note(what, remedy=choice)
        for one in candidates:
            expected = one.reason is None or one.plugin.state is State.DISABLED
            if not expected and _rank(one) < _rank(usable[0]):
                self.announcements.fallback(f"{usable[0]} is used instead: {one.reason}")
        return usable[0]

    def _missing(self, kind: str, name: str, rejected: list[Capability]) -> LlamaError:
        if len(rejected) == 1 and rejected[0].reason is not None:
            return copy.copy(rejected[0].reason)  # raised anew, it would hold every traceback
        known = self.names(kind)
        near = did_you_mean(name.removeprefix("llama-plugin-"), known)
        elsewhere = [k for k, n in self._by_name if n == name and k != kind]
        reasons = [f"plugin '{one.plugin.name}': {one.reason}" for one in rejected if one.reason]
        package = name.rpartition("/")[0] or name
        here = self.installed.get(package)
        if here is not None and here.manifest is None:  # what it provides cannot be known
            reasons.append(f"plugin '{package}': {here.reason}")
        hints = [near, *(f"there is a {each} '{name}'" for each in elsewhere)]
        if not near and not elsewhere and not rejected and package not in self.installed:
            look = "the project's README lists those known"
            if ("command", "marketplace") in self._by_name:
                look = f"`llama marketplace search --kind {kind}` finds those that an index has"
            hints.append(f"a plugin may add that {kind}; {look}")
        if known and not near and not rejected:
            more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
            hints.append(f"usable here: {', '.join(known[:MOST_NAMED])}{more}")
        return MissingCapability(
            sentence(f"no usable plugin provides {kind} '{name}'", *reasons),
            remedy=sentence(*hints, "`llama plugins list` shows what is here"),
        )

    def _check_requirements(self, plugin: Plugin) -> None:
        def offers(need: Requires) -> list[Capability]:
            if need.name is None:
                return self.capabilities(need.kind)
            return self._by_name.get((need.kind, need.name), [])

        requirements.check(plugin, offers)


def _rank(one: Capability) -> tuple[bool, str]:
    return one.plugin.name == BUILTIN, one.plugin.name


def _lift(name: str, origin: str | None, key: str, how: str) -> str:
    if origin == "environment":
        return f"{how} {SETTING[f'plugins.{key}'].env}."
    if origin in (None, str(user_config_file())):
        return f"llama plugins enable {name}"
    return f"{how} [plugins] {key} in {origin}."


def _manifest(found: Found) -> Manifest:
    assert found.table is not None
    source = str(found.manifest_path)
    manifest = parse(dict(found.table), source=source, entry_point=found.name)
    top = found.package.partition(".")[0]
    if manifest.module is not None and manifest.module.partition(".")[0] != top:
        raise ManifestError(
            f"{source} says module = {manifest.module!r}, outside its own package {top!r}",
            remedy="What is checked and locked is the package; its hooks must come from there.",
        )
    return manifest
