"""A launcher starts the ranks of a job, on this machine or on many, and watches over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class Job:
    """One program run as several ranks.

    Each rank finds RANK and WORLD_SIZE in its environment. A rank that fails ends the others; a
    restart is one of all ranks.
    """

    argv: tuple[str, ...]
    num_ranks: int
    env: Mapping[str, str] = field(default_factory=dict)
    max_restarts: int = 0


class RunningJob(Protocol):
    """A job under way."""

    def wait(self, timeout_seconds: float | None = None) -> tuple[int, ...] | None:
        """The exit code of each rank, or None when the time ran out first."""

    def stop(self, grace_seconds: float) -> None:
        """Ask every rank to end; after the grace, end it. Twice is allowed; `wait` then gives
        codes other than zero."""


class Launcher(Protocol):
    """Knows how processes come to be on the machines it serves."""

    def launch(self, job: Job) -> RunningJob:
        """Start all ranks of the job, or none; a program that is not there is a `LlamaError`."""


SPEC: Spec[Launcher] = Spec("launcher", Launcher, "llama_create_launcher")
