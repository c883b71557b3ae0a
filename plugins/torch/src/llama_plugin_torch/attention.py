"""Attention over paged memory: which places each sequence reads, and what its rows make of them.

Which places, and under which mask, is worked out once a step for each layer group: rows of
sequences that give one row each are read together, in bundles of like length; a sequence with
several rows is read by itself. Scores that are capped are computed explicitly, all others by
torch's own scaled dot product.

Legend: T rows, S sequences of a bundle, Q rows of each, P places read of each, H query heads,
G key heads, R query heads per key head, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llama_core.contracts.step import Batch
from llama_plugin_torch.memory import Memory

MOST_SCORES = 1 << 25  # numbers held at once by explicit attention: 128 MiB in float32
SHARES_HEADS = ("cpu", "cuda")  # devices whose scaled dot product takes fewer key than query heads


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Sequences that are read together."""

    rows: slice | Tensor  # of the step: S · Q of them
    places_SP: Tensor
    mask_SQP: Tensor | None  # true where a row sees a place; None where `causal` says it all
    causal: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one layer group does in one step."""

    written_T: Tensor
    bundles: tuple[Bundle, ...]


def reading(
    batch: Batch, group: int, window: int | None, memory: Memory, device: torch.device
) -> Reading:
    """Where a group's rows are written, and what each of them sees."""
    size, positions_T = memory.layout.block_size, batch.positions_T
    written_T = np.empty(len(positions_T), np.int64)
    spans: list[_Span] = []
    for sequence, (start, stop) in enumerate(pairwise(batch.starts_S1.tolist())):
        if start == stop:
            continue
        table = np.asarray(batch.blocks_G[group][sequence], np.int64)
        rows, last = positions_T[start:stop].astype(np.int64), int(positions_T[stop - 1])
        first = 0 if window is None else max(0, int(rows[0]) - window + 1)
        written_T[start:stop] = _places(table, rows, size)
        seen = np.arange(first, last + 1)
        spans.append(_Span(start, stop, rows, seen, _places(table, seen, size)))
    bundles = tuple(_bundles(spans, window, memory.zero_place, device))
    return Reading(torch.from_numpy(written_T).to(device), bundles)


@dataclass(frozen=True, slots=True, eq=False)
class _Span:
    """One sequence: its rows, and the positions and places that they see."""

    start: int
    stop: int
    rows: NDArray[np.int64]
    seen: NDArray[np.int64]
    places: NDArray[np.int64]


def _places(table: NDArray[np.int64], positions: NDArray[np.int64], size: int) -> Any:
    return table[positions // size] * size + positions % size


def _bundles(
    spans: Sequence[_Span], window: int | None, zero_place: int, device: torch.device
) -> Iterator[Bundle]:
    alike: dict[int, list[_Span]] = {}  # by length to within a factor of two: padding stays below
    for span in spans:
        if len(span.rows) == 1:
            alike.setdefault(len(span.places).bit_length(), []).append(span)
        else:
            yield _alone(span, window, device)
    for bundle in alike.values():
        longest = max(len(span.places) for span in bundle)
        places_SP = np.full((len(bundle), longest), zero_place)
        for row, span in enumerate(bundle):
            places_SP[row, : len(span.places)] = span.places
        starts = np.array([span.start for span in bundle])
        step = starts[-1] - starts[0] + 1 == len(starts)  # side by side, in order
        padded = any(len(span.places) < longest for span in bundle)
        yield Bundle(
            slice(int(starts[0]), int(starts[-1]) + 1)
            if step
            else torch.from_numpy(starts).to(device),
            torch.from_numpy(places_SP).to(device),
            torch.from_numpy(places_SP != zero_place)[:, None, :].to(device) if padded else None,
        )


def _alone(span: _Span, window: int | None, device: torch.device) -> Bundle:
    """A sequence with several rows. A row's window never reaches past what was read for it."""
    whole = len(span.rows) == len(span.seen) and (window is None or len(span.rows) <= window)
    mask = None
    if not whole:
        away = span.rows[:, None] - span.seen[None, :]
        sees = (away >= 0) if window is None else (away >= 0) & (away < window)
        mask = torch.from_numpy(sees)[None].to(device)
    places = torch.from_numpy(span.places)[None].to(device)
    return Bundle(slice(span.start, span.stop), places, mask, causal=whole)


def attend(
    q_TK: Tensor,
    k_TK: Tensor,
    v_TK: Tensor,
    attrs: Mapping[str, Any],
    memory: Memory,
    work: Reading,
) -> Tensor:
    """Remember the rows, then let each read what it sees."""
    layer, size = attrs["layer"], attrs["head_dim"]
    key_heads = attrs["num_kv_heads"]
    memory.write(
        layer,
        work.written_T,
        k_TK.unflatten(1, (key_heads, size)),
        v_TK.unflatten(1, (key_heads, size)),
    )
    q_THD = q_TK.unflatten(1, (attrs["num_heads"], size))
    out_THD = torch.empty_like(q_THD)
    for bundle in work.bundles:
        k_SPGD, v_SPGD = memory.read(layer, bundle.places_SP)
        q_SQHD = q_THD[bundle.rows].unflatten(0, (len(bundle.places_SP), -1))
        read = _capped if attrs["softcap"] is not None else _plain
        given = (q_SQHD, k_SPGD.transpose(1, 2), v_SPGD.transpose(1, 2), bundle, attrs)
        out_THD[bundle.rows] = read(*given).flatten(0, 1)
    return out_THD.flatten(1)


def _plain(
    q_SQHD: Tensor, k_SGPD: Tensor, v_SGPD: Tensor, bundle: Bundle, attrs: Mapping[str, Any]
) -> Tensor:
    """By torch's own scaled dot product."""
    heads, key_heads = q_SQHD.shape[2], k_SGPD.shape[1]
    mask = None if bundle.mask_SQP is None else bundle.mask_SQP[:, None]
    scale = float(attrs["scale"])
    if q_SQHD.shape[1] == 1:  # the heads that share a key head are rows that see the same places
        q_SGRD = q_SQHD[:, 0].unflatten(1, (key_heads, heads // key_heads))
        out = functional.scaled_dot_product_attention(
            q_SGRD, k_SGPD, v_SGPD, attn_mask=mask, scale=scale
        )
        return out.flatten(1, 2)[:, None]
    shares = heads != key_heads
    if shares and q_SQHD.device.type not in SHARES_HEADS:
        k_SGPD, v_SGPD = (x.repeat_interleave(heads // key_heads, 1) for x in (k_SGPD, v_SGPD))
        shares = False
    return functional.scaled_dot_product_attention(
        q_SQHD.transpose(1, 2),
        k_SGPD,
        v_SGPD,
        attn_mask=mask,
        is_causal=bundle.causal,
        scale=scale,
        enable_gqa=shares,
    ).transpose(1, 2)


def _capped(
    q_SQHD: Tensor, k_SGPD: Tensor, v_SGPD: Tensor, bundle: Bundle, attrs: Mapping[str, Any]
) -> Tensor:
    """Step by step, with the scores squeezed into -cap..cap; a part of the rows at a time."""
    num_rows, heads = q_SQHD.shape[1:3]
    key_heads, places = k_SGPD.shape[1:3]
    cap, scale = float(attrs["softcap"]), float(attrs["scale"])
    keys, values = k_SGPD.float()[:, :, None], v_SGPD.float()[:, :, None]
    mask = bundle.mask_SQP
    if bundle.causal:
        mask = torch.ones(num_rows, places, dtype=torch.bool, device=keys.device).tril()[None]
    out = []
    rows_at_once = max(1, MOST_SCORES // (len(q_SQHD) * heads * places))
    for start in range(0, num_rows, rows_at_once):
        part = slice(start, start + rows_at_once)
        q_SGRQD = q_SQHD[:, part].float().transpose(1, 2)
        q_SGRQD = q_SGRQD.unflatten(1, (key_heads, heads // key_heads))
        scores = torch.tanh(q_SGRQD @ keys.transpose(-1, -2) * (scale / cap)) * cap
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, part], -torch.inf)
        out.append((torch.softmax(scores, -1) @ values).flatten(1, 2).transpose(1, 2))
    return torch.cat(out, 1).to(q_SQHD.dtype)
