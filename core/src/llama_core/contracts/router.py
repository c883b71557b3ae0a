"""A router picks the replica that serves a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class Replica:
    """What is known of one running engine."""

    name: str
    num_running: int
    num_waiting: int
    kv_usage: float  # 0 to 1
    healthy: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request before it is placed."""

    tenant: str
    num_prompt_tokens: int
    prefix_hash: bytes | None  # of its first blocks: equal prefixes are cheaper together


class Router(Protocol):
    """Chooses; it neither queues nor retries."""

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> int | None:
        """The index of a healthy replica, or None where none should take it."""


SPEC: Spec[Router] = Spec("router", Router, "llama_create_router")
