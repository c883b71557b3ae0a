"""Settings: a flag beats the environment, which beats `llama.toml`, which beats the default.

Knows names, types and where a value came from; what a setting means is its reader's business. The
files are read once, when a command or an application asks; a mistake in them names file and key.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core import overlay
from llama_core.errors import ConfigError, did_you_mean, plain, sentence
from llama_core.tables import read_table

log = logging.getLogger("llama_core")

FILE_NAME = "llama.toml"
PREFIX = "LLAMA_CORE_"
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key in `llama.toml`, its type, what it does."""

    key: str
    type: type
    help: str
    example: str

    @property
    def env(self) -> str:
        """Its environment variable: `plugins.allow` is the one users know as LLAMA_CORE_PLUGINS."""
        name = "plugins" if self.key == "plugins.allow" else self.key.removeprefix("core.")
        return PREFIX + name.replace(".", "_").replace("-", "_").upper()


SETTINGS = (
    Setting("core.strict", bool, "Make every announced fallback an error.", "true"),
    Setting("core.locked", bool, "Load only what the lock file names.", "true"),
    Setting("core.lock-file", str, "The lock file; llama.lock by default.", '"llama.lock"'),
    Setting("core.hook-timeout-seconds", float, "Report who stays longer in a hook.", "10"),
    Setting("core.max-faults", int, "Quarantine a plugin after so many faults.", "3"),
    Setting("core.backend", str, "The backend to use where none is named.", '"cpu"'),
    Setting("plugins.allow", list, "Load only these plugins.", '["cpu"]'),
    Setting("plugins.disable", list, "Never load these plugins.", '["cpu"]'),
    Setting("plugins.prefer", dict, "Which plugin wins a name.", '{ "transform.min-p" = "mine" }'),
)
SETTING = {setting.key: setting for setting in SETTINGS}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list of texts",
    dict: "a table of texts",
}


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force. `origin` says where each one that was set came from."""

    strict: bool = False
    locked: bool = False
    lock_file: Path = Path("llama.lock")
    hook_timeout_seconds: float = 10.0
    max_faults: int = 3
    backend: str | None = None
    allow: tuple[str, ...] | None = None  # None: every installed plugin
    disable: tuple[str, ...] = ()
    prefer: Mapping[str, str] = field(default_factory=dict)
    plugins: bool = True  # False after --no-plugins: the builtins only
    files: tuple[Path, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Settings made by an application are held to the same types."""
        for name in ("strict", "locked", "plugins"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for name in ("allow", "disable"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(one, str) for one in value or ()):
                raise ConfigError(f"{name} must be a tuple of plugin names, not {value!r}")
        for name in ("max_faults", "hook_timeout_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"{name} must be a positive number, not {value!r}")


def user_config_file() -> Path:
    """The user's own `llama.toml`."""
    import platformdirs

    return Path(platformdirs.user_config_dir("llama-core", appauthor=False)) / FILE_NAME


def project_config_file(start: Path | None = None) -> Path | None:
    """The nearest `llama.toml` in this folder or one above it."""
    folder = start.resolve() if start else _here()
    for each in (folder, *folder.parents):
        if os.path.isfile(each / FILE_NAME):  # false, too, where it may not be looked at
            return each / FILE_NAME
    return None


def _here() -> Path:
    """The working folder; `.` where it was removed under our feet."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
    user_file: Path | None = None,
) -> Config:
    """Read all sources. `flags` holds keys as in `llama.toml`, plus `plugins = False`."""
    environ = os.environ if environ is None else environ
    user_file = user_config_file() if user_file is None else user_file
    project_file = project_config_file(start)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    files = []
    for file in (user_file, project_file):
        if file is not None and file.is_file() and file not in files:
            files.append(file)
            _take(
                _flatten(read_table(file, max_bytes=MAX_BYTES, error=ConfigError), str(file)),
                str(file),
                values,
                origin,
            )
    _take(_from_environment(environ), "environment", values, origin)
    flags = dict(flags or {})
    plugins = bool(flags.pop("plugins", True))
    _take(flags, "command line", values, origin)

    locked_beside = project_file.parent if project_file else _here()
    lock_file = Path(values.get("core.lock-file", "llama.lock"))
    allow = values.get("plugins.allow")
    return Config(
        strict=values.get("core.strict", False),
        locked=values.get("core.locked", False),
        lock_file=lock_file if lock_file.is_absolute() else locked_beside / lock_file,
        hook_timeout_seconds=values.get("core.hook-timeout-seconds", 10.0),
        max_faults=values.get("core.max-faults", 3),
        backend=values.get("core.backend"),
        allow=None if allow is None else tuple(allow),
        disable=tuple(values.get("plugins.disable", ())),
        prefer=values.get("plugins.prefer", {}),
        plugins=plugins,
        files=tuple(files),
        origin=origin,
    )


def _flatten(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Sections to dotted keys. Sections of other packages (`[server]`, `[train]`) are theirs."""
    flat: dict[str, Any] = {}
    for section in ("core", "plugins"):
        inner = table.get(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{source}: [{section}] must be a table, not {plain(inner)}")
        flat |= {f"{section}.{key}": value for key, value in inner.items()}
    for key, value in table.items():
        near = {"plugin": "plugins", "cores": "core"}.get(key.lower(), key.lower())
        if not isinstance(value, dict):
            meant = [one for one in SETTING if one.endswith(f".{key}")]
            raise ConfigError(
                f"{source}: '{plain(key)}' stands in no section",
                remedy=f"Write it as {meant[0]}." if meant else "Every setting has a section.",
            )
        if near in ("core", "plugins") and key != near:
            raise ConfigError(f"{source}: there is no section [{key}]; did you mean [{near}]?")
    return flat


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environ.get(setting.env)
        if text is not None and text.strip():
            found[setting.key] = _parse(setting, text.strip())
    known = {setting.env for setting in SETTINGS} | {overlay.VARIABLE}
    for name in environ:
        # Other names with our prefix may be a plugin's; what is nearly one of ours is a slip.
        if name.startswith(PREFIX) and name not in known and (hint := did_you_mean(name, known)):
            log.warning("the environment sets %s, which is not a setting: %s", plain(name), hint)
    return found


def _parse(setting: Setting, text: str) -> Any:
    if setting.type is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in known:
            raise ConfigError(f"{setting.env}='{plain(text)}' is neither 1 nor 0")
        return known[text.lower()]
    if setting.type is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    if setting.type is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if not all(sign and key.strip() and value.strip() for key, sign, value in pairs):
            raise ConfigError(f"{setting.env}='{plain(text)}' is not a list of kind.name=plugin")
        return {key.strip(): value.strip() for key, _, value in pairs}
    try:
        return setting.type(text)
    except ValueError:
        raise ConfigError(f"{setting.env}='{plain(text)}' is not {_WORDS[setting.type]}") from None


def _take(
    new: Mapping[str, Any], source: str, values: dict[str, Any], origin: dict[str, str]
) -> None:
    for key, value in new.items():
        setting = SETTING.get(key)
        if setting is None:
            raise ConfigError(
                f"{source}: there is no setting '{plain(key)}'",
                remedy=sentence(did_you_mean(key, SETTING), f"there are {', '.join(SETTING)}"),
            )
        checked = _check(setting, value, source)
        if key == "plugins.disable":
            # What one source forbids, another does not allow by forbidding something else.
            origin |= {f"{key}.{name}": source for name in checked}
            checked = [*dict.fromkeys([*values.get(key, ()), *checked])]
        values[key] = checked
        origin[key] = source


def _check(setting: Setting, value: Any, source: str) -> Any:
    wanted = (int, float) if setting.type is float else setting.type
    fits = isinstance(value, wanted) and (setting.type is bool or not isinstance(value, bool))
    if fits and setting.type is list:
        fits = all(isinstance(item, str) for item in value)
    if fits and setting.type is dict:
        value = _dotted(value)
        fits = all(isinstance(item, str) for item in value.values())
    if not fits:
        raise ConfigError(
            f"{source}: {setting.key} must be {_WORDS[setting.type]}, not {plain(repr(value))}",
            remedy=f"As in: {setting.key.partition('.')[2]} = {setting.example}",
        )
    if setting.type in (int, float) and not value > 0:  # nor NaN
        raise ConfigError(f"{source}: {setting.key} must be positive, not {plain(value)}")
    return value


def _dotted(table: Mapping[str, Any]) -> dict[str, Any]:
    """`transform.min-p = "x"` is a nested table to TOML; both spellings mean the same."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in _dotted(value).items()}
        else:
            flat[key] = value
    return flat
