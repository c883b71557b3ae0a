"""What can go wrong, in the words a user reads.

Every error says what failed, the value it met, and the remedy; it knows nothing of how it is
shown. The command line prints `str(error)` on one line, a server sends `to_dict()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class LlamaError(Exception):
    """A mistake or a failure that a user can act on; the base of all errors raised here."""

    code = "error"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        if self.remedy is None:
            return self.message
        end = "" if self.message.endswith(("?", "!")) else "."
        return f"{self.message.rstrip('.')}{end} {self.remedy}"

    def to_dict(self) -> dict[str, str | None]:
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class ConfigError(LlamaError):
    """A setting is unknown, malformed or contradicts another."""

    code = "config_invalid"


class ManifestError(LlamaError):
    """A `plugin.toml` cannot be read or does not say what it must."""

    code = "manifest_invalid"


class OptionsError(LlamaError):
    """Options given to a capability do not fit the schema it declares."""

    code = "options_invalid"


class IncompatiblePlugin(LlamaError):
    """A plugin needs a contract, a core, a platform or a native interface that is not here."""

    code = "plugin_incompatible"


class MissingCapability(LlamaError):
    """No usable plugin provides the capability that was asked for by name."""

    code = "capability_missing"


class CapabilityConflict(LlamaError):
    """Several plugins provide one name and strict mode forbids choosing by rule."""

    code = "capability_conflict"


class PluginDisabled(LlamaError):
    """The plugin is installed, but the policy in force keeps it out."""

    code = "plugin_disabled"


class PluginFault(LlamaError):
    """A plugin raised, exited, returned junk or answered not at all, in the hook named here."""

    code = "plugin_fault"

    def __init__(self, plugin: str, hook: str, why: str, *, remedy: str | None = None) -> None:
        super().__init__(f"plugin '{plugin}' failed in {hook}: {why}", remedy=remedy)
        self.plugin = plugin
        self.hook = hook
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.plugin, self.hook, self.why), self.__dict__

    def to_dict(self) -> dict[str, str | None]:
        return {**super().to_dict(), "plugin": self.plugin, "hook": self.hook}


class PluginQuarantined(LlamaError):
    """The plugin failed before and is kept out until the process ends or it is reset."""

    code = "plugin_quarantined"


class StrictError(LlamaError):
    """A fallback that would have been announced is an error, because `strict` is on."""

    code = "strict"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The near misses of a name as a half sentence, or nothing where there are none."""
    close = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    if not close:
        return ""
    return f"did you mean {' or '.join(repr(name) for name in close)}?"


def pip_install(plugin: str = "NAME", *, flags: str = "", in_checkout: str | None = None) -> str:
    """How a plugin is installed, from an index or from a checkout of the project."""
    here = flags if in_checkout is None else in_checkout
    return (
        f"pip install {flags}llama-plugin-{plugin}, or in a checkout: "
        f"pip install {here}./plugins/{plugin}"
    )


def plain(value: object, limit: int = 80) -> str:
    """Text from outside, fit for one line of a terminal: escaped where need be, and bounded."""
    text = str(value)[: limit + 1]
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= limit else text[:limit] + "…"


def sentence(*parts: str | None) -> str:
    """Join the parts that are there into sentences: each capitalized, one full stop each."""
    done = [part.strip() for part in parts if part and part.strip()]
    return " ".join(
        part[0].upper() + part[1:] + ("" if part[-1] in ".?!" else ".") for part in done
    )
