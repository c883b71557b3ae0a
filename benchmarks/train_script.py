"""The peer of the trainer: a training script as a good author writes it in plain torch.

nanoGPT's shape, or Llama's: torch's own attention, fused AdamW, cross-entropy on whole logits,
fused queries, keys and values. It shares nothing with ours but the tokens. A step may be cut into
several passes; the cut that is fastest here is found before anything is timed.

Legend: B rows, T tokens, M hidden size, N heads, D head size, V words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CUTS = (1, 2, 4)  # passes of a step that are tried


class Attention(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.num_heads, size = c["num_heads"], c["hidden_size"]
        self.qkv = nn.Linear(size, 3 * size, bias=c["gpt"])
        self.out = nn.Linear(size, size, bias=c["gpt"])

    def forward(self, x_BTM: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x_BTM).chunk(3, -1)
        )
        if angles is not None:
            q, k = turned(q, *angles), turned(k, *angles)
        y_BNTD = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y_BNTD.transpose(1, 2).flatten(2))


def turned(x_BNTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    a, b = x_BNTD.chunk(2, -1)
    return torch.cat((a * cos_TD - b * sin_TD, b * cos_TD + a * sin_TD), -1).to(x_BNTD.dtype)


class GELU(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.up = nn.Linear(c["hidden_size"], c["intermediate_size"])
        self.down = nn.Linear(c["intermediate_size"], c["hidden_size"])

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x), approximate="tanh"))


class SwiGLU(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.up = nn.Linear(c["hidden_size"], 2 * c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(functional.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        norm = nn.LayerNorm if c["gpt"] else nn.RMSNorm
        self.norm_1, self.attention = norm(c["hidden_size"], eps=1e-5), Attention(c)
        self.norm_2, self.mlp = norm(c["hidden_size"], eps=1e-5), (GELU if c["gpt"] else SwiGLU)(c)

    def forward(self, x_BTM: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        x_BTM = x_BTM + self.attention(self.norm_1(x_BTM), angles)
        return x_BTM + self.mlp(self.norm_2(x_BTM))


class Model(nn.Module):
    """Tokens and targets to a loss. The head is the embedding."""

    angles: Tensor

    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        size, heads = c["hidden_size"], c["num_heads"]
        self.gpt = c["gpt"]
        self.words = nn.Embedding(c["vocab_size"], size)
        if self.gpt:
            self.places = nn.Embedding(c["max_positions"], size)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_layers"]))
        self.norm = (nn.LayerNorm if self.gpt else nn.RMSNorm)(size, eps=1e-5)
        pairs = 10000.0 ** (-torch.arange(0, size // heads, 2) / (size // heads))
        self.register_buffer("angles", torch.outer(torch.arange(c["max_positions"]), pairs))
        for name, parameter in self.named_parameters():
            ends = name.endswith(("attention.out.weight", "mlp.down.weight"))
            if parameter.ndim == 2:
                nn.init.normal_(parameter, 0, 0.02 / math.sqrt(2 * c["num_layers"] if ends else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x_BTM = self.words(tokens_BT)
        angles = None
        if self.gpt:
            x_BTM = x_BTM + self.places.weight[: tokens_BT.shape[1]]
        else:
            turns = self.angles[: tokens_BT.shape[1]]
            angles = turns.cos(), turns.sin()
        for block in self.blocks:
            x_BTM = block(x_BTM, angles)
        logits_BTV = functional.linear(self.norm(x_BTM), self.words.weight)
        return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def train(job: dict[str, Any], tell: Callable[..., None], *, compiled: bool) -> None:
    """Step until nobody wants more."""
    torch.manual_seed(job["seed"])
    device = torch.device(job["device"])
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    model = Model(job["model"]).to(device)
    called: Any = torch.compile(model) if compiled else model
    wide = [p for p in model.parameters() if p.ndim >= 2]
    narrow = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": wide, "weight_decay": 0.1}, {"params": narrow, "weight_decay": 0.0}],
        lr=job["rate"], betas=(0.9, 0.95), fused=True,
    )  # fmt: skip
    tokens = np.memmap(job["tokens"], np.uint16, "r")
    rows, length = job["rows"], job["length"]

    def batch(number: int) -> tuple[Tensor, Tensor]:
        at = number * rows * length
        part = torch.from_numpy(tokens[at : at + rows * length + 1].astype(np.int64))
        if device.type == "cuda":
            part = part.pin_memory().to(device, non_blocking=True)
        return part[:-1].view(rows, length), part[1:].view(rows, length)

    def passes(number: int, cut: int) -> float:
        tokens_BT, targets_BT = batch(number)
        total = torch.zeros((), device=device)
        for one, other in zip(tokens_BT.chunk(cut), targets_BT.chunk(cut), strict=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = called(one, other) / cut
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return total.item()

    def seconds(cut: int) -> float:
        passes(0, cut)  # the first of a shape allocates, and compiles
        began = time.perf_counter()
        passes(0, cut)
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    cut = min((each for each in CUTS if rows % each == 0), key=seconds)
    for number in range(1 << 62):
        loss = passes(number, cut)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tell(loss, note=f"{cut} passes a step")
