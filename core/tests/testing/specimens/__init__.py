"""Deliberately good and deliberately broken plugins; importing this collects them all."""

from __future__ import annotations

from specimens import (
    cluster,
    files,
    hosting,
    models,
    programs,
    ranks,
    requests,
    sampling,
    shared,
)

__all__ = [
    "cluster",
    "files",
    "hosting",
    "models",
    "programs",
    "ranks",
    "requests",
    "sampling",
    "shared",
]
