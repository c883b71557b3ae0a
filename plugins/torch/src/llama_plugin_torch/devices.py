"""Which devices torch has here, and the one that a plan names. Knows nothing of models."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llama_core.contracts.backend import Device, Devices
from llama_core.contracts.step import Plan
from llama_core.errors import ConfigError, did_you_mean, sentence

if TYPE_CHECKING:
    import torch

ANY = ("cuda", "mps", "xpu")  # short for the first of its kind


def found() -> Devices:
    """Every device, the processor first; none where torch itself cannot be imported."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        return Devices(reason=f"torch cannot be imported: {error}")
    return Devices((_processor(), *_cuda(), *_mps(), *_xpu()))


def _processor() -> Device:
    memory = 0
    if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(getattr(os, "sysconf_names", ())):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device("cpu", "cpu", platform.processor() or platform.machine() or "CPU", memory)


def _cuda() -> Iterator[Device]:
    """NVIDIA's and, in a build for it, AMD's: torch calls both `cuda`."""
    import torch

    if not torch.cuda.is_available():
        return
    kind = "rocm" if torch.version.hip else "cuda"
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Device(f"cuda:{index}", kind, about.name, about.total_memory)


def _mps() -> Iterator[Device]:
    import torch

    if torch.backends.mps.is_available():
        yield Device("mps:0", "metal", "Apple GPU", torch.mps.recommended_max_memory())


def _xpu() -> Iterator[Device]:
    import torch

    if not torch.xpu.is_available():
        return
    for index in range(torch.xpu.device_count()):
        about = torch.xpu.get_device_properties(index)
        yield Device(f"xpu:{index}", "xpu", about.name, about.total_memory)


def of(plan: Plan) -> torch.device:
    """The one device on which this rank's program runs."""
    import torch

    named = plan.devices
    if len(named) == plan.world_size:
        named = named[plan.rank : plan.rank + 1]
    if len(named) != 1:
        raise ConfigError(
            f"the plan names {len(named)} devices for one program ({', '.join(named)})",
            remedy="A program of torch runs on one device; split the model over ranks instead.",
        )
    here = found()
    if not here:
        raise ConfigError(str(here.reason), remedy="Install torch again.")
    name = f"{named[0]}:0" if named[0] in ANY else named[0]
    ids = [device.id for device in here]
    if name not in ids:
        raise ConfigError(
            f"torch has no device {name!r} here",
            remedy=sentence(did_you_mean(name, ids), f"there are {', '.join(ids)}"),
        )
    return torch.device(name)
