"""The affine view: codes, scales, zero points, minimums and an input order, out of any layout.

    x[n, order[k]] = scale[n, g] * (code[n, k] - zero[n, g]) + minimum[n, g],  g = k // group

Every affine layout (ours, GGUF's blocks, GPTQ, AWQ, …) unpacks to this and packs from it, so a
kernel that takes the view takes them all. It knows nothing of bytes. `rounded` is the plain
rounding behind every reference `encode`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from llama_core.model.encodings.base import Array, EncodingError, FloatArray

Offset = Literal["none", "min", "zero"]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """N rows of K codes in groups of `group` columns (the last may be shorter), G groups a row.

    With super scales, `scales` and `minimums` are small integers and one super scale covers
    `per_super` groups. Without zeros the zero point is the middle code: 2^(bits-1), or half a code
    at one bit, so that the two codes are opposite; with minimums it is 0.
    """

    bits: int
    group: int
    codes: Array  # uint8 [N, K]
    scales: Array  # [N, G]
    zeros: Array | None = None  # [N, G]
    minimums: Array | None = None  # [N, G]
    per_super: int = 1
    super_scales: Array | None = None  # [N, S]
    super_minimums: Array | None = None  # [N, S]
    order: Array | None = None  # [K]: column k of the codes is input order[k]

    @property
    def middle(self) -> float:
        """The zero point where none is stored."""
        if self.minimums is not None:
            return 0.0
        return 0.5 if self.bits == 1 else float(1 << (self.bits - 1))

    def effective_scales(self) -> FloatArray:
        """Float32 scales [N, G], both levels multiplied."""
        return self._leveled(self.scales, self.super_scales)

    def effective_minimums(self) -> FloatArray | None:
        """Float32 minimums [N, G], both levels multiplied."""
        if self.minimums is None:
            return None
        return self._leveled(self.minimums, self.super_minimums)

    def _leveled(self, small_NG: Array, large_NS: Array | None) -> FloatArray:
        small = small_NG.astype(np.float32)
        if large_NS is None:
            return small
        large = np.repeat(large_NS.astype(np.float32), self.per_super, axis=1)
        with np.errstate(invalid="ignore", over="ignore"):  # a file may hold NaN or inf
            return large[:, : small.shape[1]] * small

    def decode(self) -> FloatArray:
        """The numbers [N, K], inputs in their own order."""
        x_NK = self.codes.astype(np.float32)
        if self.zeros is None:
            x_NK -= np.float32(self.middle)
        else:
            x_NK -= self._wide(self.zeros.astype(np.float32))
        with np.errstate(invalid="ignore", over="ignore"):
            x_NK *= self._wide(self.effective_scales())
            if (minimums := self.effective_minimums()) is not None:
                x_NK += self._wide(minimums)
        if self.order is None:
            return x_NK
        out = np.empty_like(x_NK)
        out[:, self.order] = x_NK
        return out

    def _wide(self, small_NG: FloatArray) -> FloatArray:
        if small_NG.shape[1] == 1:
            return small_NG
        return np.repeat(small_NG, self.group, axis=1)[:, : self.codes.shape[1]]

    def rows(self, start: int, stop: int) -> Affine:
        """Some of the rows."""
        return self._sliced(np.s_[start:stop], np.s_[start:stop], np.s_[start:stop])

    def columns(self, start: int, stop: int) -> Affine:
        """Some of the columns, from the start of a group (and super group) on, in natural order."""
        columns = self.codes.shape[1]
        if (start, stop) == (0, columns):
            return self
        assert self.order is None
        if self.group >= columns:
            return replace(self, group=stop - start, codes=self.codes[:, start:stop])
        first, last = start // self.group, -(-stop // self.group)
        supers = np.s_[:, first // self.per_super : -(-last // self.per_super)]
        return self._sliced(np.s_[:, start:stop], np.s_[:, first:last], supers)

    def _sliced(self, codes: Any, groups: Any, supers: Any) -> Affine:
        def of(a: Array | None, index: Any) -> Array | None:
            return None if a is None else a[index]

        return replace(
            self,
            codes=self.codes[codes],
            scales=self.scales[groups],
            zeros=of(self.zeros, groups),
            minimums=of(self.minimums, groups),
            super_scales=of(self.super_scales, supers),
            super_minimums=of(self.super_minimums, supers),
        )


@dataclass(frozen=True, slots=True)
class Scheme:
    """What `rounded` needs to know of an encoding. `group` 0 is one group a row."""

    bits: int
    group: int
    offset: Offset = "none"
    scale_type: str = "float16"
    per_super: int = 0  # groups under one super scale; 0: scales of one level
    sub_range: tuple[int, int] = (-127, 127)  # what the small scales may be


def rounded(x_NK: FloatArray, scheme: Scheme, order_K: Array | None = None) -> Affine:
    """Round to the nearest code, scales first: codes are chosen by the scales as stored."""
    rows, columns = x_NK.shape
    if not np.isfinite(x_NK).all():
        raise EncodingError("cannot round numbers that are NaN or infinite")
    x_NK = x_NK if order_K is None else x_NK[:, order_K]
    group = scheme.group or max(columns, 1)
    groups = -(-columns // group)
    padded = np.pad(x_NK, ((0, 0), (0, groups * group - columns)), mode="edge") if columns else x_NK
    x_NGg = padded.reshape(rows, groups, group)
    top = (1 << scheme.bits) - 1
    low, high = x_NGg.min(-1), x_NGg.max(-1)
    if scheme.offset != "min" or scheme.per_super:  # zero has to lie within
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    if scheme.offset != "none":
        scales = (high - low) / np.float32(top)
    elif scheme.bits == 1:
        scales = 2 * np.abs(x_NGg).mean(-1)
    elif scheme.bits == 8:
        scales = np.maximum(high, -low) / np.float32(127)
    else:  # the larger side takes the one code more, so a scale may be negative
        scales = np.where(-low > high, low, high) / np.float32(-(1 << (scheme.bits - 1)))
    small, large = _stored(scales, scheme)
    view = Affine(scheme.bits, group, padded, small, super_scales=large)
    view = replace(view, per_super=scheme.per_super or 1)
    if scheme.offset == "min":
        small, large = _stored(low, scheme, sign=-1)
        view = replace(view, minimums=small, super_minimums=large)
    zeros = None
    minimums = view.effective_minimums()
    scales = view.effective_scales()
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scales == 0, 0, 1 / scales).astype(np.float32)
    if scheme.offset == "zero":
        zeros = np.rint(-low * inverse).clip(0, top)
    base = view.middle if zeros is None else zeros[..., None]
    shifted = x_NGg if minimums is None else x_NGg - minimums[..., None]
    with np.errstate(invalid="ignore", over="ignore"):
        if scheme.bits == 1 and scheme.offset == "none":
            codes = (shifted * inverse[..., None] >= 0).astype(np.float32)
        else:
            codes = np.rint(np.nan_to_num(shifted * inverse[..., None]) + base)
    codes_NK = codes.clip(0, top).astype(np.uint8).reshape(rows, groups * group)[:, :columns]
    return replace(
        view,
        codes=codes_NK,
        zeros=None if zeros is None else zeros.astype(np.uint8),
        order=order_K,
    )


def _stored(exact_NG: FloatArray, scheme: Scheme, sign: int = 1) -> tuple[Array, Array | None]:
    """Scales (or minimums, sign -1) as they will be stored: on one level, or small and super."""
    if not scheme.per_super:
        return _narrow(exact_NG, scheme.scale_type), None
    rows, groups = exact_NG.shape
    per = scheme.per_super
    supers = -(-groups // per)
    grid = np.pad(exact_NG, ((0, 0), (0, supers * per - groups))).reshape(rows, supers, per)
    least, most = scheme.sub_range
    if least >= 0:  # one sign for all: minimums are never above zero, scales never below
        large = np.float32(sign) * np.abs(grid).max(-1) / np.float32(most)
    elif -least > most:
        peak = np.take_along_axis(grid, np.abs(grid).argmax(-1)[..., None], -1)[..., 0]
        large = peak / np.float32(least)
    else:
        large = np.abs(grid).max(-1) / np.float32(most)
    large = _narrow(large, scheme.scale_type)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wide = large.astype(np.float32)[..., None]
        small = np.nan_to_num(np.where(wide == 0, 0, grid / wide), posinf=0, neginf=0)
    small = np.rint(small).clip(least, most).reshape(rows, supers * per)[:, :groups]
    return small.astype(np.uint8 if least >= 0 else np.int8), large


def _narrow(scales: FloatArray, dtype: str) -> Array:
    with np.errstate(over="ignore"):
        stored = scales.astype(dtype)
    if not np.isfinite(stored).all():
        raise EncodingError(f"scales are too large for {dtype}", remedy="Use scales of type f32.")
    return stored
