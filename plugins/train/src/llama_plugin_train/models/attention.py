"""Attention: who sees whom, and the products that follow from it.

`View` is worked out once a batch and serves every block: causal or not, documents apart, distances
penalized. A row of one document needs no mask, and then the kernel skips the half above the
diagonal. Where documents share a row, FlexAttention needs none either and computes no block that
lies between two of them, but it trains on GPUs alone. Queries, keys and values come from one
product; several query heads may share a key head.

Legend: B rows, T tokens, S tokens seen, N query heads, G key heads, D head size, M hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from llama_plugin_train.models import positions
from llama_plugin_train.models.config import ModelConfig
from llama_plugin_train.models.linear import Linear

Kernel = Literal["sdpa", "flex"]


@dataclass(frozen=True, slots=True)
class View:
    """What each token may see, and how far it is turned."""

    causal: bool
    bias: Tensor | None = None  # added to the scores, [B or 1, N or 1, T, S]; includes causality
    angles: tuple[Tensor, Tensor] | None = None
    blocks: BlockMask | None = None  # what FlexAttention leaves out; includes causality


def self_view(
    config: ModelConfig,
    positions_BT: Tensor,
    segments_BT: Tensor | None,
    *,
    causal: bool,
    dtype: torch.dtype,
    kernel: Kernel = "sdpa",
) -> View:
    """The view of rows on themselves. Tokens of different segments do not see each other."""
    angles = None
    if config.positions == "rope":
        angles = positions.rope_angles(positions_BT, config.head_width, config.rope_theta)
    if kernel == "flex" and segments_BT is not None and config.positions != "alibi":
        return View(causal, None, angles, _blocks(segments_BT, causal))
    bias = _bias(config, positions_BT, positions_BT, segments_BT, segments_BT)
    if bias is not None and causal:
        order = torch.arange(positions_BT.shape[1], device=positions_BT.device)
        bias = bias.masked_fill(order[:, None] < order[None, :], float("-inf"))
    return View(causal, None if bias is None else bias.to(dtype), angles)


def cross_view(written_BT: Tensor, segments_BS: Tensor | None, dtype: torch.dtype) -> View:
    """The view of what is written on what was read: all of it but the padding, segment 0."""
    if segments_BS is None:
        return View(False)
    text_BS = (segments_BS != 0).to(torch.int32)
    return View(False, _closed(torch.ones_like(written_BT), text_BS).to(dtype))


def _bias(
    config: ModelConfig,
    queries_BT: Tensor,
    keys_BS: Tensor,
    segments_BT: Tensor | None,
    segments_BS: Tensor | None,
) -> Tensor | None:
    far = None
    if config.positions == "alibi":
        far = positions.alibi_bias(queries_BT, keys_BS, config.num_heads)
    if segments_BT is None or segments_BS is None:
        return far
    closed = _closed(segments_BT, segments_BS)
    return closed if far is None else far + closed


def _closed(queries_BT: Tensor, keys_BS: Tensor) -> Tensor:
    apart_BTS = queries_BT[:, :, None] != keys_BS[:, None, :]
    # A query that sees nothing (padding beside a text that has none) would be 0/0; it sees all.
    apart_BTS = apart_BTS & ~apart_BTS.all(-1, keepdim=True)
    bias = torch.zeros(apart_BTS.shape, device=apart_BTS.device)
    return bias.masked_fill(apart_BTS, float("-inf"))[:, None]


def _blocks(segments_BT: Tensor, causal: bool) -> BlockMask:
    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = segments_BT[row, query] == segments_BT[row, key]
        return same & (query >= key) if causal else same

    rows, length = segments_BT.shape
    return create_block_mask(seen, rows, None, length, length, device=segments_BT.device.type)


class SelfAttention(nn.Module):
    """Of a text on itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.num_heads, config.kv_heads
        self.head_size = config.head_width
        widths = (self.heads * self.head_size, *[self.kv_heads * self.head_size] * 2)
        self.qkv_proj = Linear(config.hidden_size, widths, config.bias)
        self.o_proj = Linear(widths[0], (config.hidden_size,), config.bias)

    def forward(self, x_BTM: Tensor, view: View) -> Tensor:
        turned = self.heads + self.kv_heads
        qkv = self.qkv_proj(x_BTM).unflatten(-1, (turned + self.kv_heads, self.head_size))
        # Split, not sliced: a slice's gradient is as wide as all of it, and mostly zeros.
        qk, v = qkv.split((turned, self.kv_heads), 2)
        if view.angles is not None:
            qk = positions.rotate(qk, *view.angles)
        q, k = qk.split((self.heads, self.kv_heads), 2)
        return self.o_proj(attend(q, k, v, view))


class CrossAttention(nn.Module):
    """Of one text on another. Positions are in the texts themselves, so nothing is turned."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.num_heads, config.kv_heads
        self.head_size = config.head_width
        width, kv_width = self.heads * self.head_size, self.kv_heads * self.head_size
        self.q_proj = Linear(config.hidden_size, (width,), config.bias)
        self.kv_proj = Linear(config.hidden_size, (kv_width, kv_width), config.bias)
        self.o_proj = Linear(width, (config.hidden_size,), config.bias)

    def forward(self, x_BTM: Tensor, memory_BSM: Tensor, view: View) -> Tensor:
        q = self.q_proj(x_BTM).unflatten(-1, (self.heads, self.head_size))
        kv = self.kv_proj(memory_BSM).unflatten(-1, (2 * self.kv_heads, self.head_size))
        k, v = kv.split(self.kv_heads, 2)
        return self.o_proj(attend(q, k, v, view))


def attend(q_BTND: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, view: View) -> Tensor:
    """softmax(q·k / √D + bias) · v, heads side by side again [B, T, N·D]."""
    qkv = (q_BTND.transpose(1, 2), k_BSGD.transpose(1, 2), v_BSGD.transpose(1, 2))
    grouped = q_BTND.shape[2] != k_BSGD.shape[2]
    out_BNTD: Tensor
    if view.blocks is not None:
        alike = [each.to(v_BSGD.dtype) for each in qkv]  # rotation may have made them wider
        out_BNTD = _flex(q_BTND.is_cuda)(*alike, block_mask=view.blocks, enable_gqa=grouped)
    else:
        causal = view.causal and view.bias is None
        out_BNTD = functional.scaled_dot_product_attention(
            *qkv, attn_mask=view.bias, is_causal=causal, enable_gqa=grouped
        )
    return out_BNTD.transpose(1, 2).flatten(2)


@cache
def _flex(on_gpu: bool) -> Any:
    """Uncompiled it multiplies whole matrices: good for comparing, and for nothing else."""
    return torch.compile(flex_attention) if on_gpu else flex_attention
