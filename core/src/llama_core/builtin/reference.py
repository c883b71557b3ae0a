"""The NumPy reference: the living definition of every op, and what every backend is tested against.

Plain before fast. A sequence gets the same bits whatever shares its batch and however its prompt
is cut, since every product is of one row and every sum's order is fixed by shape and position.
In float64 it proves rewrites: two graphs that mean the same agree to rounding.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.backend import Support
from llama_core.errors import OptionsError
from llama_core.model import ops
from llama_core.model.graph import Node
from llama_core.model.op_backend import OpBackend

DTYPES: dict[str, type[np.floating[Any]]] = {"f32": np.float32, "f64": np.float64}


class Reference(OpBackend):
    """Every op that is registered, in NumPy."""

    name = "reference"
    invariance: Literal["bitwise", "none"] = "bitwise"

    def __init__(self, dtype: str = "f32", announcements: Announcements | None = None) -> None:
        super().__init__(announcements)
        if dtype not in DTYPES:
            raise OptionsError(
                f"the reference does not compute in {dtype!r}", remedy="Choose f32 or f64."
            )
        self.dtype = DTYPES[dtype]

    def supports(self, node: Node) -> Support:
        return Support() if node.op in ops.OPS else Support(f"there is no op '{node.op}'")
