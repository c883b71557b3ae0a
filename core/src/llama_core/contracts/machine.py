"""A machine plugin recognizes where the process runs: a laptop, an instance of some cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What a machine says of itself."""

    name: str  # "AWS g5.2xlarge"
    facts: Mapping[str, str] = field(default_factory=dict)


class Machine(Protocol):
    """Looks once, quickly, and never fails: not knowing is an answer."""

    def describe(self) -> MachineFacts | None:
        """The facts, or None where this is not a machine it knows."""


SPEC: Spec[Machine] = Spec("machine", Machine, "llama_create_machine")
