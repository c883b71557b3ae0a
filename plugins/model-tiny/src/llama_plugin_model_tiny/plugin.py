"""The plugin's hook, and where the model's files lie: beside this module, as the wheel has them."""

from __future__ import annotations

from pathlib import Path

from llama_core import hookimpl
from llama_core.errors import LlamaError

FOLDER = Path(__file__).resolve().parent / "model"
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


class ModelIncomplete(LlamaError):
    """The wheel, or the checkout, lacks files of the model."""

    code = "model_incomplete"


class Tiny:
    """The bundled model."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def path(self) -> Path:
        missing = [name for name in NEEDED if not (self.folder / name).is_file()]
        if missing:
            raise ModelIncomplete(
                f"the model 'tiny' is not whole: {self.folder} has no {', '.join(missing)}",
                remedy="Install the plugin anew, or train the model as its recipe/README.md says.",
            )
        return self.folder


@hookimpl
def llama_open_model(name: str) -> Tiny | None:
    return Tiny() if name == "tiny" else None
