"""Changing `llama.toml` from the command line, keeping what its owner wrote, comments and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_core.config import FILE_NAME, Config, user_config_file
from llama_core.durable import replace_file
from llama_core.errors import ConfigError


def switch_plugin(config: Config, name: str, *, on: bool, project: Path | None) -> Path:
    """Write that a plugin is on or off; gives the file. Settings that overrule it are an error."""
    import tomlkit

    file = project / FILE_NAME if project else user_config_file()
    _check_not_overruled(config, name, on=on, file=file)
    document = tomlkit.parse(file.read_text("utf-8")) if file.is_file() else tomlkit.document()
    section = document.setdefault("plugins", tomlkit.table())
    disabled = [each for each in section.get("disable", []) if each != name]
    if not on:
        disabled.append(name)
    if disabled or "disable" in section:
        section["disable"] = disabled
    if on and "allow" in section and name not in section["allow"]:
        section["allow"].append(name)
    _replace(file, tomlkit.dumps(document))
    return file


def _check_not_overruled(config: Config, name: str, *, on: bool, file: Path) -> None:
    allowed = config.allow is None or name in config.allow
    for key, where, blocks in (
        ("plugins.disable", f"plugins.disable.{name}", on and name in config.disable),
        ("plugins.allow", "plugins.allow", on and not allowed),
    ):
        origin: Any = config.origin.get(where)
        if blocks and origin not in (None, str(file)):
            place = "the environment" if origin == "environment" else origin
            raise ConfigError(
                f"'{name}' is kept out by {key} in {place}, which {file} does not overrule",
                remedy="Change it there"
                + ("." if origin == "environment" else ", or try --project."),
            )


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file.resolve(), [text.encode()])  # a link stays one
