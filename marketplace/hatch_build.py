"""Puts the templates of `llama plugins new` into what is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "plugin_templates"


class Templates(BuildHookInterface[Any]):
    """Found in place where the package is installed in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        place = Path(self.root, NAME)
        if not place.is_dir():
            place = Path(self.root).parent / NAME
        inside = NAME if self.target_name == "sdist" else f"llama_marketplace/{NAME}"
        for path in sorted(place.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(place).as_posix()
                build_data["force_include"][str(path)] = f"{inside}/{name}"
