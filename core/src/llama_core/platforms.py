"""This machine in the words of manifests."""

from __future__ import annotations

import platform
import sys

_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def here() -> tuple[str, str]:
    """Operating system and architecture, as `needs` has them."""
    machine = platform.machine().lower()
    return _SYSTEMS.get(sys.platform, sys.platform), _MACHINES.get(machine, machine)
