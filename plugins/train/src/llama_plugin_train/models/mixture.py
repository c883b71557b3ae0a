"""A mixture of experts: each token goes to the few MLPs that a router likes best for it.

The chosen experts' scores are made to sum to one, as Mixtral does. `balance` is how unevenly the
last batch was routed: 1 where every expert got its share, more where some were left idle; a
training loop adds a little of it to the loss.

Legend: R tokens of all rows, E experts, K chosen of them, M hidden size, I inner size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_plugin_train.models.config import DecoderConfig
from llama_plugin_train.models.linear import Linear


class Experts(nn.Module):
    """All experts' matrices, stacked; `widths` are the parts of one expert's first."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        experts, hidden, inner = config.num_experts, config.hidden_size, config.intermediate_size
        self.widths = (inner, inner)
        self.gate_up_EIM = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_EMI = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x_RM: Tensor, chosen_RK: Tensor, shares_RK: Tensor) -> Tensor:
        order = chosen_RK.flatten().argsort(stable=True)
        counts = chosen_RK.flatten().bincount(minlength=len(self.gate_up_EIM)).tolist()
        rows = order // chosen_RK.shape[1]
        out_RM = torch.zeros_like(x_RM)
        for expert, mine in enumerate(rows.split(counts)):
            if not len(mine):
                continue
            gate, up = functional.linear(x_RM[mine], self.gate_up_EIM[expert]).chunk(2, -1)
            y = functional.linear(functional.silu(gate) * up, self.down_EMI[expert])
            start = sum(counts[:expert])
            share = shares_RK.flatten()[order[start : start + len(mine)]]
            out_RM = out_RM.index_add(0, mine, y * share[:, None].to(y.dtype))
        return out_RM


class Mixture(nn.Module):
    """The router and its experts."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_chosen = config.experts_per_token
        self.router = Linear(config.hidden_size, (config.num_experts,), False)
        self.experts = Experts(config)
        self.balance: Tensor | None = None

    def forward(self, x_BTM: Tensor) -> Tensor:
        x_RM = x_BTM.flatten(0, 1)
        likes_RE = self.router(x_RM).float().softmax(-1)
        shares_RK, chosen_RK = likes_RE.topk(self.num_chosen, -1)
        shares_RK = shares_RK / shares_RK.sum(-1, keepdim=True)
        self.balance = _balance(likes_RE, chosen_RK)
        return self.experts(x_RM, chosen_RK, shares_RK).view_as(x_BTM)


def _balance(likes_RE: Tensor, chosen_RK: Tensor) -> Tensor:
    """Experts times the product of how much each was liked and how often chosen, as Switch's."""
    experts = likes_RE.shape[1]
    often_E = functional.one_hot(chosen_RK, experts).float().mean((0, 1))
    return experts * (often_E * likes_RE.mean(0)).sum()
