"""How much memory a model needs, how much there is, and what plan follows from both.

Needed are the weights as they lie and the KV blocks; what a backend takes besides is its own to
say, so the sum is the least that is needed. What is there is asked of the system: on Linux that
includes the limits of the control groups this process is in.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llama_core.announce import Announcements
from llama_core.contracts.backend import Device
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.step import Plan
from llama_core.engine.request import Limits
from llama_core.errors import LlamaError
from llama_core.model.architectures import text_config
from llama_core.model.encodings import EncodingError, parse_encoding
from llama_core.model.graph import Graph
from llama_core.model.weights import Weights, bytes_in

KV_WIDTH = {"f32": 4, "f16": 2, "bf16": 2, "q8": 1}
LEAST_CONTEXT = 256  # a context that was not asked for is not made shorter than this
SMALLER = ("gguf:q8_0", "gguf:q6_k", "gguf:q5_k", "gguf:q4_k", "gguf:q3_k", "gguf:q2_k")


class TooLarge(LlamaError):
    """A model needs more memory than there is; nothing of it was loaded."""

    code = "memory_short"


def available_bytes(root: Path = Path("/")) -> int | None:
    """What may still be taken of this machine's memory, or None where the system does not say."""
    free = _meminfo(root / "proc" / "meminfo")
    if free is None:
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return None
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *_control_groups(root)])


def _meminfo(file: Path) -> int | None:
    try:
        for line in file.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _control_groups(root: Path) -> list[int]:
    """What each group above this process leaves, of version 2 and of version 1."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            home, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            home = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = home / path.strip("/")
        for group in (folder, *folder.parents):
            if (room := _left(group, *files)) is not None:
                left.append(room)
            if group == home:
                break
    return left


def _left(group: Path, limit: str, used: str) -> int | None:
    """A group's limit less what it uses; the file cache that can be given back is not counted."""
    try:
        most, now = int((group / limit).read_text()), int((group / used).read_text())
        told = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = int(told.get("total_inactive_file", told.get("inactive_file", "0")))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    return max(0, most - max(0, now - cache))


def room_of(device: Device) -> int | None:
    """What a device can hold; None where nobody says."""
    if device.kind == "cpu":
        return available_bytes()
    return device.memory_bytes or None


def kv_bytes_per_token(graph: Graph, kv_dtype: str) -> int:
    """What one token takes in all layers, each of its heads with a scale under q8."""
    scale = 4 if kv_dtype == "q8" else 0
    return sum(
        len(heads.layers) * 2 * heads.num_heads * (heads.head_dim * KV_WIDTH[kv_dtype] + scale)
        for heads in graph.kv_groups
    )


def kv_bytes_for(graph: Graph, length: int, plan: Plan) -> int:
    """KV memory that holds one sequence of this length; every group has equally many blocks."""
    blocks = [1]
    for heads in graph.kv_groups:
        whole = -(-length // plan.block_size)
        if heads.window is not None:
            whole = min(whole, (heads.window + plan.max_tokens) // plan.block_size + 2)
        blocks.append(whole)
    return max(blocks) * plan.block_size * kv_bytes_per_token(graph, plan.kv_dtype)


def likely_kv_bytes(files: ModelFiles, limits: Limits, plan: Plan, device: Device | None) -> int:
    """KV memory for one sequence of a model without a graph, from what its config says, if it does.

    As if every query head had a key of its own: more than is needed where they share. It is given
    no more than half of what the weights leave, since a provider may hold those in wider numbers.
    """
    found = text_config(files.config)
    layers = found.get("num_hidden_layers", found.get("n_layer"))
    width = found.get("hidden_size", found.get("n_embd"))
    if not isinstance(layers, int) or not isinstance(width, int):
        return plan.kv_bytes
    wanted = limits.max_length * layers * 2 * width * KV_WIDTH[plan.kv_dtype]
    room = None if device is None else room_of(device)
    if room is not None:
        wanted = min(wanted, (room - files.weights.num_bytes) // 2)
    return max(plan.kv_bytes, wanted)


def check_weights(weights: Weights, device: Device) -> None:
    """Refuse a model without a graph whose weights alone do not fit."""
    room, need = room_of(device), weights.num_bytes
    if room is not None and need > room:
        raise TooLarge(
            f"the model needs {size(need)} for its weights, and {device.name} has {size(room)}",
            remedy=_smaller(weights, room),
        )


def fit(
    graph: Graph,
    weights: Weights,
    device: Device,
    plan: Plan,
    limits: Limits,
    *,
    num_devices: int = 1,
    decide_kv: bool,
    decide_length: bool,
    announcements: Announcements,
) -> tuple[Plan, Limits]:
    """The plan and the limits, with KV memory for the context where that is left to us.

    Raises before anything is loaded where the weights and the KV memory do not fit. A context that
    nobody asked for becomes shorter, aloud.
    """
    room, need = room_of(device), weights.num_bytes
    if device.kind != "cpu":
        need //= num_devices
    if decide_kv:
        one = kv_bytes_for(graph, limits.max_length, plan)
        wanted = max(one, min(plan.kv_bytes, one * limits.max_sequences))
        plan = replace(plan, kv_bytes=wanted if room is None or need + wanted <= room else one)
    if room is None or need + plan.kv_bytes <= room:
        return plan, limits
    shorter = _longest(graph, plan, limits.max_length, room - need)
    if decide_kv and decide_length and shorter >= LEAST_CONTEXT:
        announcements.fallback(
            f"the context is {shorter} tokens instead of {limits.max_length}, since {device.name} "
            "has memory for no more",
            remedy="Ask for a context that fits, or use a smaller encoding.",
        )
        plan = replace(plan, kv_bytes=kv_bytes_for(graph, shorter, plan))
        return plan, replace(limits, max_length=shorter)
    would = f"A context of {shorter} tokens would fit." if shorter >= LEAST_CONTEXT else None
    raise TooLarge(
        f"the model needs {size(need + plan.kv_bytes)} ({size(need)} of weights and "
        f"{size(plan.kv_bytes)} of KV memory), and {device.name} has {size(room)}",
        remedy=would or _smaller(weights, room - plan.kv_bytes),
    )


def _longest(graph: Graph, plan: Plan, most: int, room: int) -> int:
    """The longest context whose KV memory fits."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if kv_bytes_for(graph, middle, plan) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _smaller(weights: Weights, room: int) -> str:
    """The least lossy of the well-known encodings in which the weights would fit."""
    for name in SMALLER:
        encoding, total = parse_encoding(name), 0
        for tensor in weights.names():
            shape, now = weights.about(tensor)
            least = weights.bytes_of(tensor)
            if len(shape) == 2 and now != encoding:
                with suppress(EncodingError):  # rows that are no whole blocks stay as they are
                    least = min(least, bytes_in(encoding, shape))
            total += least
        if total <= room:
            return f"In the encoding {name} its weights would take {size(total)} and fit."
    return "No known encoding makes it fit: it takes a machine with more memory, or several."


def size(num_bytes: int) -> str:
    """Bytes as people say them."""
    for unit, width in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= width:
            return f"{num_bytes / width:.1f} {unit}"
    return f"{num_bytes} bytes"
