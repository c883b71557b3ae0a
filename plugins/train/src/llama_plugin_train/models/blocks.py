"""What every model is stacked from: norms, MLPs, and a block that adds attention and MLP to x.

Norms stand before each branch, so that the sum itself is never normed on its way up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_plugin_train.models.attention import CrossAttention, SelfAttention, View
from llama_plugin_train.models.config import DecoderConfig, ModelConfig
from llama_plugin_train.models.linear import Linear
from llama_plugin_train.models.mixture import Experts, Mixture


def norm(config: ModelConfig) -> nn.Module:
    if config.norm == "layer":
        return nn.LayerNorm(config.hidden_size, config.norm_eps)
    return nn.RMSNorm(config.hidden_size, config.norm_eps)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)); gate and up in one product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.intermediate_size
        self.gate_up_proj = Linear(config.hidden_size, (inner, inner), config.bias)
        self.down_proj = Linear(inner, (config.hidden_size,), config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(functional.silu(gate) * up)


class GELU(nn.Module):
    """down(gelu(up(x))), by the tanh that GPT-2 has."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, (config.intermediate_size,), config.bias)
        self.down_proj = Linear(config.intermediate_size, (config.hidden_size,), config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.gelu(self.up_proj(x), approximate="tanh"))


def mlp(config: ModelConfig) -> nn.Module:
    if isinstance(config, DecoderConfig) and config.num_experts:
        return Mixture(config)
    return SwiGLU(config) if config.mlp == "swiglu" else GELU(config)


class Block(nn.Module):
    """One layer. With `cross` it also looks at another text."""

    def __init__(self, config: ModelConfig, cross: bool = False) -> None:
        super().__init__()
        self.attn_norm, self.attn = norm(config), SelfAttention(config)
        if cross:
            self.cross_norm, self.cross = norm(config), CrossAttention(config)
        self.mlp_norm, self.mlp = norm(config), mlp(config)

    def forward(
        self,
        x_BTM: Tensor,
        view: View,
        memory_BSM: Tensor | None = None,
        memory_view: View | None = None,
    ) -> Tensor:
        x_BTM = x_BTM + self.attn(self.attn_norm(x_BTM), view)
        if memory_BSM is not None:
            x_BTM = x_BTM + self.cross(self.cross_norm(x_BTM), memory_BSM, memory_view)
        return x_BTM + self.mlp(self.mlp_norm(x_BTM))


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig) -> None:
    """Normal weights, biases of zero, norms of one.

    What ends a branch starts smaller by √(2·depth), so that the sum of all branches does not grow
    with the number of them.
    """
    std = config.initial_std
    for name, module in model.named_modules():
        ends = name.endswith(("o_proj", "down_proj"))
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0, std / math.sqrt(2 * config.depth) if ends else std)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
        elif isinstance(module, Experts):
            module.gate_up_EIM.normal_(0, std)
            module.down_EMI.normal_(0, std / math.sqrt(2 * config.depth))
