"""A project out of a template: every file of `project/` and of the kind's folder, by Jinja.

Where both have a file of one name, the kind's is taken. `.jinja` at the end of a name means that
the text is rendered; `__module__` in a path is the name of the package; `_*.md` is only there to
be included. A new folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_marketplace.author import kinds


def render(kind: str, facts: Mapping[str, Any], into: Path) -> list[str]:
    """Write the project; the names of its files, sorted."""
    files = texts(kinds.folder(), kind, facts)
    _refuse_to_overwrite(into)
    beside = into if into.exists() else into.parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=beside) as place:
            made = Path(place) / "project"
            for name, text in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_text(text, "utf-8", newline="\n")
            _move(made, into)
    except OSError as error:
        raise LlamaError(f"cannot write {into}: {error.strerror}") from error
    return sorted(files)


def _move(made: Path, into: Path) -> None:
    if not into.exists():
        os.replace(made, into)
        return
    for each in made.iterdir():  # the folder may be where the user's shell is: it stays
        os.replace(each, into / each.name)


def texts(templates: Path, kind: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """The files of a project by their path in it."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - what is made is source text, not HTML
    )
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    found: dict[str, str] = {}
    for part in (kinds.SHARED, kind):
        for path in sorted((templates / part).rglob("*")):
            if not path.is_file() or path.suffix == ".pyc" or path.match("_*.md"):
                continue
            name = path.relative_to(templates / part).as_posix()
            name = name.replace("__module__", str(facts["module"]))
            if name.endswith(".jinja"):
                source = path.relative_to(templates).as_posix()
                found[name[: -len(".jinja")]] = environment.get_template(source).render(facts)
            else:
                found[name] = path.read_text("utf-8")
    return found


def _refuse_to_overwrite(into: Path) -> None:
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise LlamaError(f"{into} is there, and is no folder", remedy="Give another --folder.")
    if into.is_dir() and any(into.iterdir()):
        raise LlamaError(
            f"{into} is not empty, and nothing is overwritten",
            remedy="Give another --folder, or remove it first.",
        )
