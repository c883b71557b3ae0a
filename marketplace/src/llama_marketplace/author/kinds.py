"""The templates there are, and where they lie: in the wheel, or in the checkout beside us.

`kinds.toml` says of each what it makes. Knows nothing of rendering.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError

SHARED = "project"  # the folder of what every project has
_PACKAGED = Path(__file__).parents[1] / "plugin_templates"
_CHECKOUT = Path(__file__).parents[4] / "plugin_templates"


@dataclass(frozen=True, slots=True)
class Kind:
    """One template."""

    name: str
    about: str  # what `--help` says of it
    provides: str  # the kind of capability
    summary: str  # what the rendered plugin says of itself, unless the author says otherwise
    facts: Mapping[str, Any]  # what only this template needs to know


def folder() -> Path:
    """Where the templates are."""
    for place in (_PACKAGED, _CHECKOUT):
        if (place / "kinds.toml").is_file():
            return place
    raise LlamaError(
        f"the templates are not in {_PACKAGED}",
        remedy="Install llama-marketplace anew.",
    )


def kinds(place: Path | None = None) -> dict[str, Kind]:
    """Every template by name."""
    text = ((place or folder()) / "kinds.toml").read_text("utf-8")
    return {name: Kind(name=name, **facts) for name, facts in tomllib.loads(text).items()}
