"""Rotary positions: which angle each pair of numbers is turned by at each position.

Backends ask `table` for cosines and sines and need to know nothing of the scalings. A token's
angles depend on its own position alone, so that neither chunking nor the cache can change them:
`dynamic` takes the sequence to be as long as the token's position, which is what decoding one
token at a time does; `longrope` chooses its factors once, by the model's context length.

The angles are products in float32, since that is what the checkpoints were trained with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.errors import did_you_mean

Floats = NDArray[np.float32]

MOST_TURNED = 1 << 14  # numbers of a head; no real one comes near

# What each scaling must be told; `attention_factor` multiplies cosines and sines.
SCALINGS: dict[str, tuple[str, ...]] = {
    "none": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_context"),
    "llama3": ("factor", "original_context", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "original_context", "beta_fast", "beta_slow", "truncate"),
    "longrope": ("factors",),
}


def fault(scaling: Mapping[str, Any], rotary_dim: int) -> str | None:
    """Why a scaling cannot be meant so, or None."""
    if rotary_dim > MOST_TURNED:
        return f"it turns {rotary_dim} numbers of a head, and {MOST_TURNED} are the most"
    kind = scaling.get("kind", "none")
    if kind not in SCALINGS:
        near = did_you_mean(str(kind), SCALINGS)
        return f"rope scaling {kind!r} is unknown; {near or 'known are ' + ', '.join(SCALINGS)}"
    missing = [key for key in SCALINGS[kind] if key not in scaling]
    if missing:
        return f"rope scaling {kind!r} needs {', '.join(missing)}"
    if kind == "longrope" and len(scaling["factors"]) != rotary_dim // 2:
        return f"longrope has {len(scaling['factors'])} factors for {rotary_dim // 2} pairs"
    if kind == "llama3" and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        return f"low_freq_factor {low:g} must be below high_freq_factor {high:g}"
    return None


def fault_in_numbers(
    theta: float, rotary_dim: int, scaling: Mapping[str, Any], context: int
) -> str | None:
    """Why the angles up to this context cannot be computed, or None."""
    if why := fault(scaling, rotary_dim):
        return why
    ends = np.array([0, context - 1])
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            finite = all(np.isfinite(one).all() for one in table(theta, rotary_dim, scaling, ends))
    except (ArithmeticError, TypeError, ValueError) as error:
        return f"with theta {theta} and scaling {dict(scaling)}: {error}"
    return None if finite else f"theta {theta} and scaling {dict(scaling)} give no finite angles"


def frequencies(theta: float, rotary_dim: int, scaling: Mapping[str, Any]) -> Floats:
    """Radians per position of each pair, for every scaling but `dynamic`'s growth."""
    exponents = np.arange(0, rotary_dim, 2, dtype=np.float32) / np.float32(rotary_dim)
    powers = np.float64(theta) ** exponents.astype(np.float64)
    plain = np.float32(1) / powers.astype(np.float32)
    kind = scaling.get("kind", "none")
    if kind == "linear":
        return plain / np.float32(scaling["factor"])
    if kind == "longrope":
        factors = np.array(scaling["factors"], np.float32)
        return np.float32(1) / (factors * powers.astype(np.float32))
    if kind == "llama3":
        return _llama3(plain, scaling)
    if kind == "yarn":
        return _yarn(plain, powers.astype(np.float32), theta, rotary_dim, scaling)
    return plain


def _llama3(plain: Floats, scaling: Mapping[str, Any]) -> Floats:
    """Long waves are slowed by the factor, short ones are kept, those between are mixed."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    waves = 1 / plain * np.float32(2 * math.pi)
    turns = 1 / waves * np.float32(scaling["original_context"])
    mix = (turns - np.float32(low)) / np.float32(high - low)
    slowed = plain / np.float32(scaling["factor"])
    mixed = (1 - mix) * plain / np.float32(scaling["factor"]) + mix * plain
    return np.where(turns < low, slowed, np.where(turns > high, plain, mixed)).astype(np.float32)


def _yarn(
    plain: Floats, powers: Floats, theta: float, rotary_dim: int, scaling: Mapping[str, Any]
) -> Floats:
    """A ramp over the pairs, from those kept to those slowed by the factor."""

    def pair_with(turns: float) -> float:
        wave = scaling["original_context"] / (turns * 2 * math.pi)
        return rotary_dim * math.log(wave) / (2 * math.log(theta))

    low, high = pair_with(scaling["beta_fast"]), pair_with(scaling["beta_slow"])
    if scaling["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = 0.001 if low == high else high - low
    pairs = np.arange(rotary_dim // 2, dtype=np.float32)
    kept = 1 - np.clip((pairs - np.float32(low)) / np.float32(width), 0, 1)
    slowed = np.float32(1) / (np.float32(scaling["factor"]) * powers)
    return (slowed * (1 - kept) + plain * kept).astype(np.float32)


def table(
    theta: float, rotary_dim: int, scaling: Mapping[str, Any], positions_T: NDArray[Any]
) -> tuple[Floats, Floats]:
    """Cosine and sine [T, rotary_dim / 2] for these positions, attention factor included."""
    if scaling.get("kind") == "dynamic":
        rates = _dynamic(theta, rotary_dim, scaling, positions_T)
    else:
        rates = frequencies(theta, rotary_dim, scaling)[None, :]
    angles = (positions_T.astype(np.float32)[:, None] * rates).astype(np.float64)
    factor = np.float32(scaling.get("attention_factor", 1.0))
    return np.cos(angles).astype(np.float32) * factor, np.sin(angles).astype(np.float32) * factor


def _dynamic(
    theta: float, rotary_dim: int, scaling: Mapping[str, Any], positions_T: NDArray[Any]
) -> Floats:
    """Past the original context the base grows with the position."""
    factor, original = scaling["factor"], scaling["original_context"]
    rates = np.empty((len(positions_T), rotary_dim // 2), np.float32)
    for row, position in enumerate(positions_T.tolist()):
        length = max(position + 1, original)
        growth = (factor * length / original) - (factor - 1)
        grown = theta * growth ** (rotary_dim / (rotary_dim - 2))
        rates[row] = frequencies(grown, rotary_dim, {})
    return rates
