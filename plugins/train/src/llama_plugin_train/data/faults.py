"""What can be wrong with data, in words that name the file."""

from __future__ import annotations

from llama_core.errors import LlamaError


class DataError(LlamaError):
    """A source of data cannot be read, or is not what it was."""

    code = "data_invalid"
