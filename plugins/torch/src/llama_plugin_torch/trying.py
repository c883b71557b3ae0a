"""What a model of transformers is like, found out by a few tokens when it is opened.

Not what its class or config says of itself: whether later tokens change earlier rows, what its
cache holds for a token, whether it gives the same when that lies in our blocks, and whether it
gives the same when padded. A model that fails is refused before anyone relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llama_core.errors import LlamaError
from llama_plugin_torch.dtypes import NAMES
from llama_plugin_torch.memory import LayerShape, Memory
from llama_plugin_torch.past import StateNotByToken, layer_shapes

NUM_TOKENS = 5
# How far two ways to the same numbers may lie apart, relative to the largest. A past that is kept
# in 16 or 8 bits costs more than rounding; a past that is mixed up costs a hundred times that.
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
NARROW_PAST = 0.1


class LooksAhead(LlamaError):
    """A model cannot generate, since its rows depend on later tokens."""

    code = "model_looks_ahead"


@dataclass(frozen=True, slots=True, eq=False)
class Nature:
    """What was found."""

    vocab_size: int
    has_logits: bool
    remembers: bool  # or else it needs every sequence whole
    layers: tuple[LayerShape | None, ...]
    moves: bool  # its rotation depends on the longest sequence of a pass
    rotations: tuple[Any, ...]  # modules that remember how long a sequence they have seen
    tokens: tuple[int, ...]  # what it was tried on
    expected: Tensor  # logits or hidden states that the library itself gives for them


@dataclass(frozen=True, slots=True)
class _Try:
    """A sequence in blocks that nobody uses yet."""

    rows: range
    past: int
    table: Sequence[int]


def nature(model: Any, device: torch.device) -> Nature:
    """Run the model on its own, by the library's own cache."""
    if getattr(model, "_is_stateful", False):
        raise StateNotByToken(
            f"{type(model).__name__} keeps a recurrent state",
            remedy="Only keys and values of each token can be shared, cut and rolled back.",
        )
    vocab_size = int(model.config.get_text_config().vocab_size)
    tokens = [(11 * i + 5) % vocab_size for i in range(NUM_TOKENS)]
    cached = "past_key_values" in _parameters(model)
    with torch.inference_mode():
        out = _alone(model, tokens, device, cached)
        other = _alone(model, [*tokens[:-1], (tokens[-1] + 1) % vocab_size], device, cached)
    has_logits = "logits" in out
    found, changed = _rows(out), _rows(other)
    ahead = not _near(found[:-1], changed[:-1], max(4 * torch.finfo(found.dtype).eps, 1e-5))
    if ahead and has_logits:
        raise LooksAhead(f"{type(model).__name__} looks at later tokens and cannot generate")
    past = out.get("past_key_values")
    if past is None and has_logits:
        raise StateNotByToken(f"{type(model).__name__} keeps no past to go on from")
    layers = () if ahead or past is None else tuple(layer_shapes(past))
    rotations = [m for m in model.modules() if hasattr(m, "original_inv_freq")]
    kinds = [kind for module in rotations for kind in _kinds(module)]
    return Nature(
        vocab_size=found.shape[-1] if has_logits else vocab_size,
        has_logits=has_logits,
        remembers=any(one is not None for one in layers),
        layers=layers,
        moves=any("dynamic" in kind or "longrope" in kind for _, kind in kinds),
        rotations=tuple(rotations),
        tokens=tuple(tokens),
        expected=found,
    )


def check(run: Callable[..., Any], nature: Nature, memory: Memory, may_pad: bool) -> bool:
    """Whether it may be padded; an error where its past does not survive lying in blocks."""
    size = memory.layout.block_size
    num = -(-NUM_TOKENS // size)
    tables = [range(i * num, (i + 1) * num) for i in range(2)]
    if memory.layout.num_blocks < 2 * num:
        return False
    ids = torch.tensor([nature.tokens], device=nature.expected.device)
    dtype = nature.expected.dtype
    exact = memory.kind == NAMES[dtype]
    bound = ROUNDING[dtype] if exact else NARROW_PAST

    def one(table: Sequence[int], start: int, stop: int) -> Tensor:
        return _one(run(ids[:, start:stop], [_Try(range(stop - start), start, table)],
                        range(stop - start), not nature.has_logits))  # fmt: skip

    whole = torch.cat([one(tables[0], 0, 3)[0], one(tables[0], 3, NUM_TOKENS)[0]])
    if not _near(whole, nature.expected, bound):
        raise StateNotByToken(
            "the model gives other numbers when its past is held in blocks than by itself",
            remedy="It cannot be run by this provider; please report which model it is.",
        )
    if not may_pad:
        return False
    one(tables[1], 0, 2)
    mixed = [_Try(range(1), 4, tables[0]), _Try(range(1), 2, tables[1])]
    try:
        found = _one(run(ids[0, [4, 2]][:, None], mixed, range(1), not nature.has_logits))
    except (RuntimeError, ValueError, TypeError, IndexError):  # a model that takes no padding
        return False
    return _near(found[:, 0], nature.expected[[4, 2]], bound)


def forget(nature: Nature) -> None:
    """Undo what a longer sequence of somebody else's has left in the rotations."""
    for module in nature.rotations:
        for prefix, kind in _kinds(module):
            if "dynamic" in kind:
                original = getattr(module, f"{prefix}original_inv_freq")
                current = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(
                    f"{prefix}inv_freq", original.to(current.device), persistent=False
                )
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _kinds(module: Any) -> Iterator[tuple[str, str]]:
    """The kinds of rotation of a module, each with the prefix of its attributes."""
    kinds = getattr(module, "rope_type", "default")
    if isinstance(kinds, dict):
        yield from ((f"{layer_type}_", str(kind)) for layer_type, kind in kinds.items())
    else:
        yield "", str(kinds)


def _parameters(model: Any) -> frozenset[str]:
    import inspect

    return frozenset(inspect.signature(model.forward).parameters)


def _alone(model: Any, tokens: Sequence[int], device: torch.device, cached: bool) -> Any:
    ids = torch.tensor([list(tokens)], device=device)
    given: dict[str, Any] = {"use_cache": True} if cached else {}
    return model(input_ids=ids, return_dict=True, **given)


def _rows(out: Any) -> Tensor:
    """Logits, or else hidden states, of the one sequence."""
    found: Tensor = out["logits"] if "logits" in out else out["last_hidden_state"]
    return found[0]


def _one(found: tuple[Tensor | None, Tensor | None]) -> Tensor:
    logits, hidden = found
    x = hidden if logits is None else logits
    assert x is not None, "a pass gives logits or hidden states"
    return x


def _near(x: Tensor, y: Tensor, bound: float) -> bool:
    x, y = x.float(), y.float()
    return bool((x - y).abs().max() <= bound * y.abs().max().clamp(min=1e-6))
