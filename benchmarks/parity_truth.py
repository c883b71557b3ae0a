"""The truth of parity: small models of transformers, filled at random, saved, and run by it.

Knows torch and transformers, and of ours only how random weights are drawn.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from parity_cases import Case


@dataclass
class Truth:
    """What transformers gave: the tokens it chose and the logits of every row."""

    tokens: list[int]
    prompt: int
    logits_TV: np.ndarray


def transformers_says(config: dict[str, Any], case: Case, seed: int, folder: Path) -> Truth:
    """Build the model, fill it, save it, and run prompt and greedy steps with its cache."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    kind = config["model_type"]
    given = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model(kind, **given)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_config(made, dtype=torch.float32, **eager)
    model.eval()
    stored = getattr(torch, case.stored)
    fill(model, np.random.default_rng(seed), case.negative_gates, stored)
    # A copy is narrowed, since that would round the rope's frequencies as well.
    deepcopy(model).to(stored).save_pretrained(folder, max_shard_size=case.shard)
    generator = np.random.default_rng([seed, 1])
    tokens = generator.integers(0, made.vocab_size, case.prompt).tolist()
    with torch.no_grad():
        out = model(torch.tensor([tokens]), use_cache=True)
        rows = [out.logits[0]]
        for _ in range(case.steps):
            tokens.append(int(rows[-1][-1].argmax()))
            out = model(
                torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True
            )
            rows.append(out.logits[0])
    return Truth(tokens, case.prompt, torch.cat(rows).numpy().copy())


def fill(model: Any, generator: np.random.Generator, negative_gates: bool, stored: Any) -> None:
    """Random weights under which nothing hides, in the model's own names, as the file will hold."""
    import torch

    from llama_core.model.generated import random_array

    offset = 1.0 if model.config.model_type.startswith("gemma") else 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            bare = name.removeprefix("model.")
            array = random_array(bare, tuple(parameter.shape), generator, offset)
            if negative_gates and "embed_tokens" in name:
                array += array.std()  # so that all hidden states have a direction in common
            if negative_gates and "gate_proj" in name:
                array -= 4 / array.shape[1]
            if negative_gates and "down_proj" in name:
                array *= 12  # what such gates let through is small
            parameter.copy_(torch.from_numpy(array).to(stored))
