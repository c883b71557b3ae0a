import json
from pathlib import Path

import numpy as np

from llama_core.contracts.step import Plan
from llama_core.model.generated import random_array
from llama_core.model.weights import DenseWeights, RenamedWeights
from llama_core.testing import ArchitectureContract, drive

CONFIG = {
    "model_type": "starcoder2",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "sliding_window": 5,
    "rope_theta": 1000.0,
    "norm_epsilon": 0.01,
}
NORMS = ("input_layernorm", "post_attention_layernorm")
LINEARS = (*(f"self_attn.{part}_proj" for part in "qkvo"), "mlp.c_fc", "mlp.c_proj")
TENSORS = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{part}.{role}"
        for layer in (0, 1)
        for part in (*NORMS, *LINEARS)
        for role in ("weight", "bias")
    ),
    *("model.norm.weight", "model.norm.bias"),
]
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9]


def checkpoint(graph, rename):
    """The same random tensors every time, under the names of a checkpoint."""
    dice = np.random.default_rng(0)
    return {name: random_array(name, graph.shapes[rename(name)], dice) for name in TENSORS}


class TestStarcoder2(ArchitectureContract):
    provides = "starcoder2"
    config = CONFIG
    tensors = TENSORS

    def test_logits_are_those_of_transformers(self, make, llama_plugins):
        """`compare.py` has written them down."""
        said = json.loads(Path(__file__).with_name("transformers_says.json").read_text())
        one = make()
        graph = one.build(CONFIG)
        weights = RenamedWeights(DenseWeights(checkpoint(graph, one.rename)), one.rename)
        reference = llama_plugins.create("backend", "reference")
        program = reference.compile(graph, weights, Plan(kv_bytes=1 << 20))
        [found] = drive.run(program, drive.Part(said["tokens"]))
        expected = np.array(said["logits"], np.float32)
        assert expected.std() > 1, "the logits say nothing"
        assert np.abs(found - expected).max() < 1e-4
