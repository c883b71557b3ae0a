"""How numbers lie in bytes. This module only lists the public names and loads the families."""

from llama_core.model.encodings.affine import Affine
from llama_core.model.encodings.base import (
    Encoding,
    EncodingError,
    known_encodings,
    parse_encoding,
)
from llama_core.model.encodings.bitsandbytes import Bnb4, BnbInt8
from llama_core.model.encodings.codebook import Codebook, Table
from llama_core.model.encodings.compressed import Compressed
from llama_core.model.encodings.gguf import Gguf
from llama_core.model.encodings.gptq import Awq, Gptq
from llama_core.model.encodings.grouped import AffineLayout, Grouped
from llama_core.model.encodings.plain import BF16, F16, F32, Plain
from llama_core.model.encodings.scaled import ScaledFloat, ScaledInt

__all__ = [
    "BF16",
    "F16",
    "F32",
    "Affine",
    "AffineLayout",
    "Awq",
    "Bnb4",
    "BnbInt8",
    "Codebook",
    "Compressed",
    "Encoding",
    "EncodingError",
    "Gguf",
    "Gptq",
    "Grouped",
    "Plain",
    "ScaledFloat",
    "ScaledInt",
    "Table",
    "known_encodings",
    "parse_encoding",
]
