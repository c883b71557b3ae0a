"""The arithmetic of the reference: plain, in NumPy, one row at a time.

Every function gives a row the same bits whatever rows stand beside it. That rules out the product
of a whole batch (NumPy's `X[:1] @ W` differs from `(X @ W)[:1]`) and, for functions such as exp,
one call over all rows, since the last few elements of a vector loop may take another path. The
module knows arrays only: no graph, no weights by name, no memory of past tokens.

Legend: T rows, K inputs, N outputs, H query heads, G key heads, D head size, P past and present.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32, or float64 where a rewrite is proven

ACT = re.compile(r"none|static|q[78]:[1-9][0-9]*")


def in_blocks(act: str) -> tuple[int, int]:
    """Of `q8:<block>` and `q7:<block>`: the columns of a block, and the largest code."""
    bits, block = act.removeprefix("q").split(":")
    return int(block), 2 ** (int(bits) - 1) - 1


def rowwise(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function, called for each row by itself."""

    def each(x: Array) -> Array:
        out = np.empty_like(x)
        for row in range(len(x)):
            out[row] = function(x[row])
        return out

    return each


def matvec(x_TK: Array, w_NK: Array) -> Array:
    """x · wᵀ as T products of one row each: NumPy runs this stack as T separate vector products."""
    return np.matmul(x_TK[:, None, :], w_NK.T)[:, 0, :]


def quantize_rows(x_TK: Array, block: int, most: int = 127) -> tuple[Array, Array]:
    """Codes -most..most and one scale per block of a row; the last block may be shorter.

    Always in float32, and in exactly these operations, since kernels are compared bit by bit:
    inverse = most / max|x|, code = round-half-to-even(x · inverse), scale = max|x| / most. A block
    of zeros has scale 0. A block whose largest number is too small for the inverse to be finite
    counts as zeros.
    """
    x_TK = x_TK.astype(np.float32)
    starts = np.arange(0, x_TK.shape[1], block)
    most_TB = np.maximum.reduceat(np.abs(x_TK), starts, axis=1)
    tiny = most_TB < np.float32(1e-36)
    with np.errstate(over="ignore", divide="ignore"):
        inverse_TB = np.where(tiny, np.float32(0), np.float32(most) / most_TB).astype(np.float32)
    scale_TB = np.where(tiny, np.float32(0), most_TB / np.float32(most)).astype(np.float32)
    lengths = np.diff(np.append(starts, x_TK.shape[1]))
    codes_TK = np.rint(x_TK * np.repeat(inverse_TB, lengths, axis=1))
    return codes_TK, scale_TB


def in_precision(x_TK: Array, act: str, scale: Array | None = None) -> Array:
    """The activations as `act` lets them through: rounded to its codes and back."""
    if act == "none":
        return x_TK
    if act == "static":
        assert scale is not None, "static activations come with their scale"
        step = np.float32(scale.reshape(-1)[0])
        codes = np.clip(np.rint(x_TK.astype(np.float32) / step), -127, 127)
        return (codes * step).astype(x_TK.dtype)
    block, most = in_blocks(act)
    codes_TK, scale_TB = quantize_rows(x_TK, block, most)
    lengths = np.diff(np.append(np.arange(0, x_TK.shape[1], block), x_TK.shape[1]))
    return codes_TK.astype(x_TK.dtype) * np.repeat(scale_TB, lengths, axis=1)


def linear(
    x_TK: Array,
    w_NK: Array,
    bias_N: Array | None = None,
    act: str = "none",
    input_scale: Array | None = None,
) -> Array:
    y_TN = matvec(in_precision(x_TK, act, input_scale), w_NK)
    return y_TN if bias_N is None else y_TN + bias_N


def rms_norm(x_TK: Array, weight_D: Array, eps: float, offset: float) -> Array:
    """Over the whole row, or over each head where the weight is one head wide."""
    x = x_TK.reshape(-1, len(weight_D))
    scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps))
    return (x / scale * (weight_D + x.dtype.type(offset))).reshape(x_TK.shape)


def layer_norm(x_TK: Array, weight_K: Array, bias_K: Array | None, eps: float) -> Array:
    centred = x_TK - np.mean(x_TK, axis=-1, keepdims=True)
    scale = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + x_TK.dtype.type(eps))
    y = centred / scale * weight_K
    return y if bias_K is None else y + bias_K


def rope(x_TK: Array, cos_TF: Array, sin_TF: Array, head_dim: int) -> Array:
    """Turn the first 2F numbers of each head: number i pairs with number i + F."""
    x_THD = x_TK.reshape(len(x_TK), x_TK.shape[1] // head_dim, head_dim)
    half = cos_TF.shape[-1]
    a, b = x_THD[..., :half], x_THD[..., half : 2 * half]
    cos, sin = cos_TF[:, None, :].astype(x_TK.dtype), sin_TF[:, None, :].astype(x_TK.dtype)
    turned = [a * cos - b * sin, b * cos + a * sin, x_THD[..., 2 * half :]]
    return np.concatenate(turned, axis=-1).reshape(x_TK.shape)


def attend(
    q_HD: Array, k_PGD: Array, v_PGD: Array, scale: float, softcap: float | None = None
) -> Array:
    """What one row reads from the positions it sees; query head h looks at key head h // (H/G)."""
    num_heads, head_dim = q_HD.shape
    q_GRD = q_HD.reshape(k_PGD.shape[1], -1, head_dim)
    scores_GRP = np.matmul(q_GRD, k_PGD.transpose(1, 2, 0)) * q_HD.dtype.type(scale)
    if softcap is not None:
        scores_GRP = np.tanh(scores_GRP / softcap) * softcap
    weights_GRP = softmax(scores_GRP)
    return np.matmul(weights_GRP, v_PGD.transpose(1, 0, 2)).reshape(num_heads, -1)


def softmax(x: Array) -> Array:
    raised = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return raised / np.sum(raised, axis=-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with the exponent kept from overflowing."""
    raised = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + raised), raised / (1 + raised))


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks, to float64 rounding."""
    from math import erf as exact

    return np.array([exact(value) for value in x.ravel().tolist()], x.dtype).reshape(x.shape)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + erf(x / np.sqrt(2).astype(x.dtype)))


def gelu_tanh(x: Array) -> Array:
    inner = np.sqrt(2 / np.pi).astype(x.dtype) * (x + x.dtype.type(0.044715) * x * x * x)
    return x * 0.5 * (1 + np.tanh(inner))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": rowwise(silu),
    "gelu": rowwise(gelu),
    "gelu_tanh": rowwise(gelu_tanh),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": rowwise(sigmoid),
    "tanh": rowwise(np.tanh),
}


def softcap(x: Array, cap: float) -> Array:
    """Squeeze into -cap..cap."""
    return rowwise(lambda row: np.tanh(row / cap) * cap)(x)


def route(scores_E: Array, top_k: int, normalize: bool) -> tuple[list[int], Array]:
    """One row's experts, best first and the lower number first on a tie, and their shares."""
    shares_E = softmax(scores_E)
    chosen = [int(e) for e in np.argsort(-shares_E, kind="stable")[:top_k]]
    shares = shares_E[chosen]
    return chosen, shares / shares.sum() if normalize else shares


def lora(x_K: Array, a_RK: Array, b_NR: Array) -> Array:
    """One row through an adapter."""
    return matvec(matvec(x_K[None], a_RK), b_NR)[0]
