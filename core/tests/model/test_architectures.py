"""Every architecture builds and runs from any small config, and refuses nonsense."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core import contracts
from llama_core.errors import ConfigError, LlamaError, MissingCapability
from llama_core.model.architectures import ARCHITECTURES, create, model_type, text_config
from llama_core.model.architectures.config import TextConfig
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph

from .small import SIZES, logits, model, prompt

ABSENT = object()
WINDOWED = ("gemma2", "gemma3_text", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe")


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    head_dim = 2 * draw(st.integers(2, 9))
    num_experts = draw(st.integers(1, 5))
    return {
        "vocab_size": draw(st.integers(2, 80)),
        "hidden_size": heads * head_dim,
        "intermediate_size": draw(st.integers(1, 50)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "tie_word_embeddings": draw(st.booleans()),
        "attention_bias": draw(st.booleans()),
        "mlp_bias": draw(st.booleans()),
        "sliding_window": draw(st.none() | st.integers(1, 9)),
        "use_sliding_window": draw(st.booleans()),
        "max_window_layers": draw(st.integers(0, 3)),
        "num_local_experts": num_experts,
        "num_experts": num_experts,
        "num_experts_per_tok": draw(st.integers(1, num_experts)),
        "moe_intermediate_size": draw(st.integers(1, 20)),
        "decoder_sparse_step": draw(st.integers(1, 2)),
        "query_pre_attn_scalar": 7,
        "partial_rotary_factor": draw(st.sampled_from([1.0, 2 / head_dim, 4 / head_dim])),
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(derandomize=True, max_examples=8, deadline=None)
@given(config=configs())
def test_any_small_config_builds_and_runs(architecture: str, config: dict[str, Any]) -> None:
    graph = create(architecture).build({"model_type": architecture, **config})
    found = logits(graph, random_weights(graph, 1), prompt(11, vocab_size=config["vocab_size"]))
    assert found.shape == (11, config["vocab_size"])
    assert np.isfinite(found).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_fulfils_the_contract(architecture: str) -> None:
    assert contracts.spec("architecture").unfulfilled(create(architecture)) is None
    given = {**SIZES, "model_type": architecture}
    before = copy.deepcopy(given)
    assert create(architecture).build(given) == create(architecture).build(given)
    assert given == before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nonsense_in_a_config_is_an_error_of_ours(architecture: str) -> None:
    more = {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}}
    config = {**SIZES, **more, "layer_types": ["full_attention"] * 2}
    for key in config:
        for value in (None, "junk", -1, 0, 10**30, 0.5, [], {}, [[]], float("nan")):
            try:
                create(architecture).build({**config, key: value}).validate()
            except LlamaError as error:
                assert str(error)  # noqa: PT017 - whatever it is, it is one of ours
    with pytest.raises(ConfigError) as caught:
        create(architecture).build({})
    for key in ("vocab_size", "hidden_size", "num_hidden_layers"):
        assert key in str(caught.value) or architecture == "gemma3_text"


@pytest.mark.parametrize("architecture", WINDOWED)
def test_a_window_is_seen(architecture: str) -> None:
    graph, _ = model(architecture)
    assert 7 in [group.window for group in graph.kv_groups]


CHECKPOINT = {
    "llama": ("model.layers.1.post_attention_layernorm.weight", "layers.1.mlp_norm.weight"),
    "gemma2": ("model.layers.1.post_attention_layernorm.weight", "layers.1.attn_post_norm.weight"),
    "gemma3_text": (
        "language_model.model.layers.0.pre_feedforward_layernorm.weight",
        "layers.0.mlp_norm.weight",
    ),
    "mixtral": (
        "model.layers.0.block_sparse_moe.experts.3.w2.weight",
        "layers.0.mlp.experts.3.down_proj.weight",
    ),
    "qwen3_moe": ("model.layers.1.mlp.gate.weight", "layers.1.mlp.router.weight"),
    "phi3": ("model.layers.0.self_attn.qkv_proj.weight", "layers.0.attn.qkv_proj.weight"),
    "olmo2": ("model.layers.1.self_attn.k_norm.weight", "layers.1.attn.k_norm.weight"),
}


@pytest.mark.parametrize("architecture", CHECKPOINT)
def test_names_of_a_checkpoint(architecture: str) -> None:
    theirs, canonical = CHECKPOINT[architecture]
    one = create(architecture)
    assert one.rename(theirs) == canonical
    assert canonical in model(architecture)[0].shapes
    assert one.rename("model.norm.weight") == "norm.weight"
    assert one.rename("model.layers.0.self_attn.rotary_emb.inv_freq") is None
    assert one.rename("vision_tower.encoder.weight") is None


@pytest.mark.parametrize(
    ("name", "nearest"), [("lama", "llama"), ("qwen3_next", "qwen3"), ("gemma9", "gemma")]
)
def test_an_unknown_type_names_what_is_near_and_another_way(name: str, nearest: str) -> None:
    with pytest.raises(MissingCapability) as caught:
        create(name)
    assert f"'{nearest}" in str(caught.value)
    assert "program provider" in str(caught.value)


def test_what_is_merely_spelt_least_differently_is_no_advice() -> None:
    with pytest.raises(MissingCapability) as caught:
        create("starcoder9")
    assert "mistral" not in str(caught.value)
    assert "program provider" in str(caught.value)


def test_the_language_part_of_a_larger_config() -> None:
    config = {"model_type": "gemma3", "text_config": {"hidden_size": 8}, "vision_config": {}}
    assert model_type(config) == "gemma3_text"
    assert text_config(config)["hidden_size"] == 8
    with pytest.raises(ConfigError, match="no model_type"):
        model_type({})
    with pytest.raises(ConfigError, match="model_type is 7, and must be a text"):
        model_type({"model_type": 7})


def test_all_that_is_wrong_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        create("llama").build({**SIZES, "hidden_size": -3, "vocab_size": "many"})
    assert "hidden_size" in str(caught.value)
    assert "vocab_size" in str(caught.value)
    with pytest.raises(ConfigError, match="4 query heads cannot share 3"):
        create("llama").build({**SIZES, "num_key_value_heads": 3})
    with pytest.raises(ConfigError, match="names 1 layers of 2"):
        create("gemma2").build({**SIZES, "layer_types": ["full_attention"]})
    with pytest.raises(ConfigError, match="both directions"):
        create("gemma3_text").build({**SIZES, "use_bidirectional_attention": True})
    with pytest.raises(ConfigError, match="too many"):
        create("mixtral").build({**SIZES, "num_hidden_layers": 1000, "num_local_experts": 4000})


# Large enough that every default fits beside it.
ROOMY = {
    **SIZES,
    "hidden_size": 48,
    "num_attention_heads": 8,
    "num_experts": 8,
    "num_local_experts": 8,
}
# Where null says something of its own; everywhere else it is as if the key were not there.
NULL_IS: dict[str, dict[str, Any]] = {
    "num_key_value_heads": {"num_key_value_heads": 8},
    "head_dim": {"head_dim": 48 // 8},
}
NO_NUMBER = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_absent_null_and_the_default_are_one(architecture: str) -> None:
    """Each key that may be left out, in the three ways in which files leave it out."""
    module = import_module(f"llama_core.model.architectures.{architecture}")
    kind = getattr(module, "Config", TextConfig)

    def graph(**changes: Any) -> Graph:
        other = {"num_local_experts"} if architecture == "qwen3_moe" else set()  # of num_experts
        rest = {k: v for k, v in ROOMY.items() if k not in other | changes.keys()}
        told = {k: v for k, v in changes.items() if v is not ABSENT}
        return create(architecture).build({"model_type": architecture, **rest, **told})

    for key, field in kind.model_fields.items():
        if field.is_required():
            with pytest.raises(ConfigError, match=key):
                graph(**{key: None})
            continue
        absent, null = graph(**{key: ABSENT}), graph(**{key: None})
        if architecture != "gemma" or key != "hidden_act":  # which says "gelu" and means its tanh
            assert graph(**{key: field.default}) == absent, key
        if field.default is None or key not in (*NULL_IS, *NO_NUMBER):
            assert null == absent, key
        elif key in NULL_IS:
            assert null == graph(**NULL_IS[key]), key
        else:
            attr = {"sliding_window": "window", "attn_logit_softcapping": "softcap"}.get(key)
            assert attr is None or {n.attrs[attr] for n in null.of("attention")} == {None}, key
            assert attr is not None or (null != absent and not null.of("softcap")), key


def test_gemma3_without_a_window_keeps_the_ropes_of_its_layers() -> None:
    with_window, without = (model("gemma3_text", sliding_window=w)[0] for w in (7, None))
    assert [n.attrs["theta"] for n in without.of("rope")] == [
        n.attrs["theta"] for n in with_window.of("rope")
    ]
    assert {n.attrs["theta"] for n in without.of("rope")} == {1e4}
    assert {n.attrs["window"] for n in without.of("attention")} == {None}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nulls_within_the_words_on_rope_say_nothing(architecture: str) -> None:
    plain, _ = model(architecture)
    empty = {"rope_type": None, "type": None, "factor": None, "partial_rotary_factor": None}
    nested = {"full_attention": {**empty, "rope_theta": None}, "sliding_attention": empty}
    for told in (empty, nested, {"rope_theta": None}, {"rope_type": "default", **nested}):
        assert model(architecture, rope_parameters=told)[0] == plain
    scaled = {"type": "linear", "factor": 2.0}
    odd = {**scaled, "rope_type": None, "original_max_position_embeddings": None}
    assert model(architecture, rope_scaling=odd)[0] == model(architecture, rope_scaling=scaled)[0]


def test_qwen3_moe_reads_both_names_of_its_experts() -> None:
    given = {"num_experts_per_tok": 2, "moe_intermediate_size": 34}
    older, newer = (
        model("qwen3_moe", **given, **named)[0]
        for named in (
            {"num_experts": 6},
            {"num_experts": None, "num_local_experts": 6},
        )
    )
    assert older == newer
    assert {node.attrs["num_experts"] for node in newer.of("moe")} == {6}
