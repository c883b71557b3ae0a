"""Where a token stands: rotation of heads, sinusoids, and slopes for the distance (ALiBi).

Learned positions are a table like any other and need nothing from here. Positions count from the
start of a document, so a row of several documents has the same numbers several times.

Legend: B rows, T tokens, N heads, D head size, M hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_angles(positions_BT: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, T, 1, D/2], in float32."""
    pairs = torch.arange(0, head_size, 2, dtype=torch.float32, device=positions_BT.device)
    angles_BTD = positions_BT[..., None].float() * (theta ** (-pairs / head_size))
    return angles_BTD.cos().unsqueeze(2), angles_BTD.sin().unsqueeze(2)


def rotate(x_BTND: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head by its token's angles; number i is paired with i + D/2, as Llama's are."""
    a, b = x_BTND.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x_BTND.dtype)


def sinusoids(positions_BT: Tensor, hidden_size: int) -> Tensor:
    """Sines in the even numbers, cosines in the odd, wavelengths 2π to 10000·2π [B, T, M]."""
    pairs = torch.arange(0, hidden_size, 2, dtype=torch.float32, device=positions_BT.device)
    angles = positions_BT[..., None].float() * (10000.0 ** (-pairs / hidden_size))
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def alibi_slopes(num_heads: int) -> list[float]:
    """How steeply each head's attention falls with distance: 2^(-8i/n) for n a power of two.

    For other numbers of heads: those of the power below, then every second one of the power above.
    """
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / below) for i in range(below)]
    between = [2.0 ** (-4.0 * (i + 1) / below) for i in range(0, 2 * below, 2)]
    return slopes + between[: num_heads - below]


def alibi_bias(queries_BT: Tensor, keys_BS: Tensor, num_heads: int) -> Tensor:
    """What is added to the scores [B, N, T, S]: minus slope times distance."""
    slopes = torch.tensor(alibi_slopes(num_heads), device=queries_BT.device)
    distance_BTS = (queries_BT[:, :, None] - keys_BS[:, None, :]).abs()
    return -slopes[:, None, None] * distance_BTS[:, None].float()
