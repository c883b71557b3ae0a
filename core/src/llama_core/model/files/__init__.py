"""Models' files. This module only lists the public names."""

from llama_core.model.files.faults import FileChanged, ModelFileError
from llama_core.model.files.resolve import UnknownModel, open_model, open_path, resolve

__all__ = [
    "FileChanged",
    "ModelFileError",
    "UnknownModel",
    "open_model",
    "open_path",
    "resolve",
]
