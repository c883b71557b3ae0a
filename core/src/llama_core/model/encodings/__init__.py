"""How numbers lie in bytes. This module only lists the public names and loads the families."""

from llama_core.model.encodings.base import (
    Encoding,
    EncodingError,
    known_encodings,
    parse_encoding,
)
from llama_core.model.encodings.plain import BF16, F16, F32, Plain

__all__ = [
    "BF16",
    "F16",
    "F32",
    "Encoding",
    "EncodingError",
    "Plain",
    "known_encodings",
    "parse_encoding",
]
