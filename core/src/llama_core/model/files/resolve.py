"""From what a user types to a model's files: a path, a hub id, or the name of a model plugin.

It asks the formats that it is given which of them knows the path, and the names that it is given
for those that are no path; which plugins there are is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from llama_core.contracts.format import Format, ModelFiles
from llama_core.contracts.model import ModelSource
from llama_core.errors import LlamaError, did_you_mean, sentence
from llama_core.model.files.faults import ModelFileError
from llama_core.model.files.folder import refuse_pickled

HUB = "hf:"


class UnknownModel(LlamaError):
    """Nothing is known by the name, or lies at the path."""

    code = "model_unknown"


def open_model(
    reference: str | Path,
    formats: Mapping[str, Format],
    *,
    sources: Mapping[str, Callable[[], ModelSource]] | None = None,
    pulled: Callable[[str], Path] | None = None,
    known: Callable[[], Iterable[str]] = tuple,
) -> ModelFiles:
    """The files of a model. `sources` are the model plugins by name, `pulled` finds a hub id among
    what was downloaded, `known` gives the ids there for the near misses of an unknown name."""
    return open_path(resolve(reference, sources=sources, pulled=pulled, known=known), formats)


def resolve(
    reference: str | Path,
    *,
    sources: Mapping[str, Callable[[], ModelSource]] | None = None,
    pulled: Callable[[str], Path] | None = None,
    known: Callable[[], Iterable[str]] = tuple,
) -> Path:
    """Where a model lies. A path that exists wins over a name; `./name` is always a path."""
    text = str(reference)
    sources = sources or {}
    if text.startswith(HUB):
        if pulled is None:
            raise UnknownModel(f"'{text}' names a model of a hub, and no hub is at hand")
        return pulled(text)
    if not text:
        raise UnknownModel("the name is empty", remedy="Give a path, a name, or hf:org/name.")
    path = Path(text).expanduser()
    if path.exists():
        return path
    if text in sources:
        return sources[text]().path()
    is_path = isinstance(reference, Path) or "/" in text or "\\" in text
    hint = _near(text, path, is_path=is_path, names=[*sources, *known()])
    raise UnknownModel(f"no model is named '{text}', and nothing lies there", remedy=sentence(hint))


def _near(text: str, path: Path, *, is_path: bool, names: list[str]) -> str:
    """What may have been meant by what names nothing."""
    like_hub = text.count("/") == 1 and not text.startswith((".", "~", "/"))
    if is_path and like_hub and not path.parent.is_dir():
        if f"{HUB}{text}" in names:
            return f"it was pulled from the hub and is called {HUB}{text}"
        near = did_you_mean(f"{HUB}{text}", names)
        return near or f"for a model of the Hugging Face hub: llama pull {HUB}{text}"
    beside = path.parent
    here = [child.name for child in beside.iterdir()] if beside.is_dir() else []
    if is_path:
        lost = "check the path" if beside.is_dir() else f"{beside} is no folder"
        return did_you_mean(path.name, here) or lost
    same = [name for name in names if name.rpartition("/")[2] == text]
    near = f"did you mean {same[0]!r}?" if same else did_you_mean(text, [*names, *here])
    return near or "give a path, hf:org/name, or an installed model's name"


def open_path(path: Path, formats: Mapping[str, Format]) -> ModelFiles:
    """The files at a path, by the first format that knows them."""
    for reader in formats.values():
        if reader.detects(path):
            return reader.open(path)
    refuse_pickled(path)
    if path.suffix == ".gguf" and path.is_file():
        raise ModelFileError(path, ["it is called .gguf, and its first bytes are no GGUF file's"])
    what = "folder" if path.is_dir() else "file"
    raise UnknownModel(
        f"no format knows the {what} {path}",
        remedy=f"Formats at hand: {', '.join(formats) or 'none'}.",
    )
