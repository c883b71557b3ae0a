"""The plugins of one process: activating them and calling into them.

The only user of pluggy. Every plugin gets a `pluggy.PluginManager` of its own, so that what one
registers can never answer, wrap or break a neighbour's call. Nothing of a plugin is imported before
one of its capabilities is asked for by kind and name, or an engine starts that it listens to.
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, overload

import pluggy

from llama_core import compat, deprecated, hookspecs, options, overlay
from llama_core.catalogue import Capability, Catalogue, Plugin, State
from llama_core.config import Config, load_config
from llama_core.contracts import spec as spec_of
from llama_core.contracts.spec import Spec
from llama_core.discovery import BUILTIN, Found, discover
from llama_core.errors import (
    CapabilityConflict,
    IncompatiblePlugin,
    LlamaError,
    OptionsError,
    PluginFault,
    PluginQuarantined,
    did_you_mean,
    sentence,
)
from llama_core.events import EVENTS, Event, Events, PluginFailed, PluginLoaded
from llama_core.isolation import Guard, Watchdog, explain
from llama_core.manifest import parse

T = TypeVar("T")

# Imports so slow that a plugin should not need them merely to be activated.
HEAVY = ("torch", "transformers", "tensorflow", "jax", "pandas", "scipy")

# Faults further apart than this are no pattern; `core.max-faults` counts those within it.
FAULT_WINDOW_SECONDS = 600.0

LISTENERS = frozenset(f"llama_{event.name}" for event in EVENTS)
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("llama_"))


@dataclass(slots=True)
class _Active:
    """What activation made: the plugin's hooks, and how to take its listeners back."""

    manager: pluggy.PluginManager
    undo: list[Callable[[], None]] = field(default_factory=list)


class Plugins(Catalogue):
    """The catalogue of this process, brought to life. `Plugins.load()` makes one; thread-safe."""

    def __init__(
        self,
        found: Iterable[Found],
        config: Config | None = None,
        *,
        specs: Callable[[str], Spec[Any]] = spec_of,
        adapters: compat.Adapters = compat.ADAPTERS,
        events: Events | None = None,
    ) -> None:
        super().__init__(found, config, specs=specs)
        self.events = events or Events()
        self._adapters = adapters
        self._active: dict[str, _Active] = {}
        watchdog = Watchdog(self.config.hook_timeout_seconds, self._report_hang)
        self.guard = Guard(watchdog, self._count_fault)
        self._importing = Guard(watchdog, lambda error: None)  # one fault is enough, see activate

        if self.config.locked:
            # What was locked are the sources: bytecode beside them is neither read nor written.
            sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True

    @classmethod
    def load(cls, config: Config | None = None) -> Plugins:
        """The plugins installed in this environment, under the settings in force."""
        config = config or load_config()
        if config.plugins:
            overlay.append(strict=config.strict)
        return cls(discover(), config)

    # ---- asking ------------------------------------------------------------------------------

    @overload
    def create(self, kind: Spec[T], name: str, options: Mapping[str, Any] = ...) -> T: ...
    @overload
    def create(self, kind: str, name: str, options: Mapping[str, Any] = ...) -> Any: ...

    def create(self, kind: Spec[Any] | str, name: str, options: Mapping[str, Any] = {}) -> Any:
        """The capability's object, from the one plugin that answers for the name.

        Activates that plugin if need be. What the plugin gets are copies; what it gives is checked
        against the contract.
        """
        spec = kind if isinstance(kind, Spec) else self._specs(kind)
        capability = self.resolve(spec.kind, name)
        plugin, provides = capability.plugin, capability.provides
        given = self._checked_options(capability, options)
        active = self._active.get(plugin.name) or self.activate(plugin.name)
        hook = getattr(active.manager.hook, spec.hook)
        if provides.api < spec.api:
            old = deprecated.older_contract(spec, provides.api, plugin.name)
            deprecated.warn(old, stacklevel=2)
        with self.guard(plugin.name, spec.hook):
            value = hook(name=provides.name, options=given, plugins=self)
            if value is not None and provides.api != spec.api:
                value = compat.adapt(value, spec, provides.api, adapters=self._adapters)
            problem = spec.unfulfilled(value)
        if problem is not None:
            raise self.guard.fault(plugin.name, spec.hook, problem)
        return value

    def activate(self, name: str) -> _Active:
        """Import a plugin and check its claims; once per process, a second call does nothing."""
        plugin = self[name]
        with plugin.activating:  # its own lock: while one plugin hangs, the others can be had
            if name in self._active:
                return self._active[name]
            if plugin.reason is not None:
                raise copy.copy(plugin.reason)  # raised anew, it would hold every traceback
            self._check_requirements(plugin)
            try:
                active = _Active(self._import(plugin))
                self._check_claims(plugin, active.manager)
            except LlamaError as error:
                self._quarantine(plugin, getattr(error, "why", error.message), error)
                raise
            with self._lock:
                self._listen(plugin, active)
                self._active[name] = active
                plugin.state = State.ACTIVE
        self.events.emit(PluginLoaded(plugin=name, version=plugin.found.version))
        return active

    def start(self) -> None:
        """An engine or trainer starts: activate the plugins that listen. One that fails is said."""
        for plugin in list(self):
            listens = plugin.manifest is not None and plugin.manifest.listens
            if listens and plugin.state not in (State.ACTIVE, State.DISABLED):
                try:
                    self.activate(plugin.name)
                except LlamaError as error:
                    why = plugin.reason or error
                    self.announcements.fallback(f"going on without plugin '{plugin.name}': {why}")

    def emit(self, event: Event) -> None:
        """Tell the listeners."""
        self.events.emit(event)

    def register(self, module: object, manifest: Mapping[str, Any]) -> Plugin:
        """Add a plugin that an application brings along. Registering it again replaces it."""
        parsed = parse(dict(manifest), source="the manifest given to register()")
        with self._lock:
            old = self.installed.get(parsed.name)
            if old is not None and old.module is None:
                raise CapabilityConflict(
                    f"a plugin called '{parsed.name}' is installed already",
                    remedy="Give yours another name.",
                )
            if old is not None:
                self.deactivate(parsed.name)
            found = Found(parsed.name, getattr(module, "__name__", "?"), "(application)", "0")
            plugin = Plugin(found, parsed, module=module)
            self.installed[parsed.name] = plugin
            self._index()
            if plugin.reason is not None:
                raise copy.copy(plugin.reason)
            return plugin

    def deactivate(self, name: str) -> None:
        """Forget what a plugin registered; the next use activates it anew."""
        with self._lock:
            plugin = self[name]
            active = self._active.pop(name, None)
            for undo in active.undo if active else ():
                undo()
            if plugin.state is State.ACTIVE:
                plugin.state = State.READY

    def reset(self, name: str) -> None:
        """Lift a quarantine: the plugin may try again."""
        with self._lock:
            plugin = self[name]
            if plugin.state is State.QUARANTINED:
                plugin.state, plugin.reason, plugin.faults = State.READY, None, []
                self._resolved.clear()  # who answered in its place need not any more

    def fault(
        self, plugin: str, where: str, why: str, cause: BaseException | None = None
    ) -> PluginFault:
        """An object of this plugin failed outside a hook: count it, and give the error to raise."""
        return self.guard.fault(plugin, where, why, cause)

    # ---- activating --------------------------------------------------------------------------

    def _import(self, plugin: Plugin) -> pluggy.PluginManager:
        assert plugin.manifest is not None
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        name = plugin.manifest.module or plugin.found.package
        not_yet = [module for module in HEAVY if module not in sys.modules]
        began = time.perf_counter()
        with self._importing(plugin.name, f"import {name}"):
            module = plugin.module or _module(plugin, name)
            try:
                manager.register(module, plugin.name)
                manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise IncompatiblePlugin(_misfit(plugin, manager, error)) from error
        seconds = time.perf_counter() - began
        heavy = [module for module in not_yet if module in sys.modules]
        if heavy and plugin.module is None:
            self.announcements.note(
                f"plugin '{plugin.name}' imports {', '.join(heavy)} when activated "
                f"({seconds:.1f} s), before any of it is used",
                remedy="Its author should import it inside the function that needs it.",
            )
        _check_origin(plugin)
        return manager

    def _check_claims(self, plugin: Plugin, manager: pluggy.PluginManager) -> None:
        """What the manifest says and what the module does must be the same."""
        assert plugin.manifest is not None
        implemented = set(_implemented(plugin, manager))
        claimed = {self._specs(one.kind).hook: str(one) for one in plugin.manifest.provides}
        claimed |= {f"llama_{name}": f"listening to {name}" for name in plugin.manifest.listens}
        registered = manager.get_plugin(plugin.name)
        faults = [
            f"it claims {what}, but implements no {hook}{_unmarked(registered, hook)}"
            for hook, what in claimed.items()
            if hook not in implemented
        ] + [
            f"it implements {hook}, but claims nothing that this would answer"
            for hook in sorted(implemented - set(claimed))
        ]
        if faults:
            raise IncompatiblePlugin(
                f"plugin '{plugin.name}' is not what its manifest says: {'; '.join(faults)}",
                remedy="Its author should correct plugin.toml or the module.",
            )

    def _listen(self, plugin: Plugin, active: _Active) -> None:
        assert plugin.manifest is not None
        for event in EVENTS:
            if event.name in plugin.manifest.listens:
                name = f"llama_{event.name}"
                deliver = self._listener(plugin, name, getattr(active.manager.hook, name))
                active.undo.append(self.events.subscribe(event, deliver, plugin=plugin.name))

    def _listener(self, plugin: Plugin, name: str, hook: Any) -> Callable[[Event], None]:
        def deliver(event: Event) -> None:
            try:
                with self.guard(plugin.name, name):
                    hook(event=event)
            except LlamaError as error:
                self.announcements.note(str(error))

        return deliver

    # ---- failing -----------------------------------------------------------------------------

    def _count_fault(self, error: PluginFault) -> None:
        with self._lock:
            plugin = self.installed.get(error.plugin)
            if plugin is None or plugin.state is State.QUARANTINED:
                return
            now = time.monotonic()
            recent = [at for at in plugin.faults if now - at < FAULT_WINDOW_SECONDS]
            plugin.faults = [*recent, now][-self.config.max_faults :]
            # Without the builtin one nothing is served: it goes on, and each fault is told.
            if plugin.num_faults >= self.config.max_faults and plugin.name != BUILTIN:
                why = f"{plugin.num_faults} fault(s), the last in {error.hook}: {error.why}"
                self._quarantine(plugin, why, error)
                return
        self.events.emit(PluginFailed(plugin=plugin.name, reason=error.why, quarantined=False))

    def _quarantine(self, plugin: Plugin, why: str, cause: LlamaError) -> None:
        with self._lock:
            self.deactivate(plugin.name)
            plugin.state = State.QUARANTINED
            why = why.removeprefix(f"plugin '{plugin.name}' ")
            plugin.reason = PluginQuarantined(
                f"plugin '{plugin.name}' is quarantined: {why}", remedy=cause.remedy
            )
            self._resolved.clear()
        self.announcements.note(str(plugin.reason))
        self.events.emit(PluginFailed(plugin=plugin.name, reason=why, quarantined=True))

    def _report_hang(self, plugin: str, where: str, seconds: float) -> None:
        self.announcements.note(
            f"plugin '{plugin}' has been in {where} for over {seconds:g} s and cannot be "
            "interrupted from here",
            remedy="If it does not return, end the process; to go on without it: "
            f"llama plugins disable {plugin}",
        )
        if where in LISTENERS and plugin in self.installed:
            # The dispatcher waits for it, and with it every other listener: go on without it.
            error = PluginFault(plugin, where, f"it did not return within {seconds:g} s")
            self._quarantine(self[plugin], error.why, error)
            self.events.abandon()

    def _checked_options(self, capability: Capability, given: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise OptionsError(
                f"options of {capability.provides} must be a table, not {given!r}",
                remedy="Give a mapping from option to value, or nothing.",
            )
        if not given and capability.provides.options is None:
            return {}
        try:
            own = copy.deepcopy(dict(given))
        except Exception as error:
            raise OptionsError(
                f"options of {capability.provides} cannot be copied: {explain(error)}",
                remedy="Options are plain data: texts, numbers, lists and tables.",
            ) from error
        options.validate(capability.provides, own, plugin=capability.plugin.found)
        return own


def _check_origin(plugin: Plugin) -> None:
    """The code must come from the package whose manifest was checked, not from a namesake."""
    location, package = plugin.found.location, plugin.found.package
    if plugin.module is not None or location is None:
        return
    top = package.split(".")[0]
    expected = location.parents[package.count(".")] / top
    paths = [Path(each).resolve() for each in getattr(sys.modules.get(top), "__path__", ())]
    if expected.resolve() not in paths:
        raise IncompatiblePlugin(
            f"plugin '{plugin.name}' has its manifest in {location}, but its code was imported "
            f"from {', '.join(map(str, paths)) or 'elsewhere'}",
            remedy="Remove the other copy from the path.",
        )


def _implemented(plugin: Plugin, manager: pluggy.PluginManager) -> list[str]:
    registered = manager.get_plugin(plugin.name)
    return [caller.name for caller in manager.get_hookcallers(registered) or ()]


def _module(plugin: Plugin, name: str) -> object:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that it imports is missing, not the module itself
        raise IncompatiblePlugin(
            f"plugin '{plugin.name}' says module = '{name}', and there is no module '{error.name}'",
            remedy=f"Its author should correct {plugin.found.manifest_path}.",
        ) from error


def _unmarked(registered: Any, hook: str) -> str:
    if callable(getattr(registered, hook, None)):
        return " (the function is there: it lacks the decorator @hookimpl)"
    return ""


def _misfit(plugin: Plugin, manager: pluggy.PluginManager, error: Exception) -> str:
    implemented = _implemented(plugin, manager)
    why = [
        sentence(f"there is no hook {name}", did_you_mean(name, HOOKS))
        for name in implemented
        if name not in HOOKS
    ]
    if not why:
        why = [" ".join(str(error).split())]
        for name in HOOKS:
            if f"'{name}'" in why[0]:
                takes = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
                why.append(f"{name} may take {takes}.")
    return f"plugin '{plugin.name}': {' '.join(why)}"
