"""The kinds of capability, one file each. `spec(kind)` finds a kind's Spec without the others.

The contracts stay provisional until models, engine and a native backend have been built on them.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from llama_core.contracts.spec import Spec
from llama_core.errors import LlamaError, did_you_mean, sentence

KINDS = (
    "backend",
    "program",
    "quantizer",
    "transform",
    "sampler",
    "parallelism",
    "launcher",
    "router",
    "preprocessor",
    "postprocessor",
    "format",
    "architecture",
    "rewrite",
    "drafter",
    "model",
    "storage",
    "machine",
    "command",
    "route",
)


@cache
def spec(kind: str) -> Spec[Any]:
    """The Spec of a kind, importing only that kind's file."""
    if kind not in KINDS:
        raise LlamaError(
            f"there is no kind of capability called {kind!r}",
            remedy=sentence(did_you_mean(kind, KINDS), f"the kinds are {', '.join(KINDS)}"),
        )
    found = import_module(f"llama_core.contracts.{kind}").SPEC
    assert isinstance(found, Spec)
    return found
