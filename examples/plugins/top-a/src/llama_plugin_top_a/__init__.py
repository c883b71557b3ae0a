"""Top-a: drop tokens less likely than a times the square of the likeliest one's probability."""

import numpy as np

from llama_core import hookimpl


class TopA:
    def __init__(self, a: float = 0.2) -> None:
        self.log_a = np.log(a) if a else -np.inf

    def __call__(self, logits_NV, context):
        best_N1 = logits_NV.max(-1, keepdims=True).astype(np.float64)
        log_sum_N1 = np.log(np.exp(logits_NV - best_N1).sum(-1, keepdims=True))
        # log p >= log a + 2 log p_best, where log p = logit - best - log_sum
        keep = logits_NV - best_N1 >= self.log_a - log_sum_N1
        return np.where(keep, logits_NV, np.float32(-np.inf))


@hookimpl
def llama_create_transform(name, options):
    return TopA(**options)
