"""The provider of transformers' models against the library itself, and what it must refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.contracts.step import Plan, Want
from llama_core.errors import ConfigError, LlamaError
from llama_core.testing import drive
from llama_core.testing.drive import Part

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import torch
import transformers
from llama_plugin_torch.library import TransformersProvider
from llama_plugin_torch.past import StateNotByToken
from llama_plugin_torch.trying import LooksAhead

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
SIZES: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # the usual one hides every mistake
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
# One of each kind: rotations, learned positions, none but a slope, windows and caps, experts,
# one key head, a rotation of part of a head, and one that depends on the length.
KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama", {}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 2.0}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "sliding_window": 6}),
    "falcon": ("falcon", {"multi_query": True}),
    "gpt_neox": ("gpt_neox", {}),
    "dynamic": (
        "llama",
        {
            "max_position_embeddings": 12,
            "rope_parameters": {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 1e4},
        },
    ),
}
SAME = 1e-4


def library_model(folder: Path, kind: str, auto: str = "AutoModelForCausalLM", **extra: Any) -> Any:
    """A random model of the library's own, saved."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **extra})
    model = getattr(transformers, auto).from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """The library's model, and our program of it."""
    kind, extra = KINDS[request.param]
    model = library_model(tmp_path, kind, **extra)
    return model, TransformersProvider().open(tmp_path, PLAN)


@pytest.fixture
def llama(tmp_path: Path) -> tuple[Any, Any]:
    return library_model(tmp_path, "llama"), TransformersProvider().open(tmp_path, PLAN)


def generate(model: Any, prompt: Sequence[int], num: int) -> list[int]:
    """Greedily, by the library."""
    with torch.no_grad():
        found = model.generate(
            torch.tensor([list(prompt)]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=num,
            do_sample=False,
        )
    return found[0, len(prompt) :].tolist()


def logits(model: Any, tokens: Sequence[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([list(tokens)])).logits[0].numpy()


def greedy(program: Any, prompts: Sequence[Sequence[int]], num: int, chunk: int) -> list[list[int]]:
    """All prompts together, each cut into chunks, so that steps mix prompts and single rows."""
    texts = [list(prompt) for prompt in prompts]
    done = [0] * len(texts)
    while any(len(text) - len(p) < num for text, p in zip(texts, prompts, strict=True)):
        parts = [
            Part(text[at : at + chunk], at, owner)
            for owner, (text, at) in enumerate(zip(texts, done, strict=True))
            if len(text) - len(prompts[owner]) < num
        ]
        for part, rows in zip(parts, drive.run(program, *parts), strict=True):
            done[part.owner] += len(part.tokens)
            if done[part.owner] == len(texts[part.owner]):
                texts[part.owner].append(int(rows[-1].argmax()))
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def test_generates_what_the_library_generates(llama: tuple[Any, Any]) -> None:
    """Three prompts at once, cut and mixed, give the tokens that `generate` gives for each."""
    model, program = llama
    prompts = [drive.tokens(64, num, num) for num in (3, 9, 6)]
    expected = [generate(model, prompt, 14) for prompt in prompts]
    for chunk in (1, 4, 16):
        assert greedy(program, prompts, 14, chunk) == expected


def test_logits_are_the_librarys(both: tuple[Any, Any]) -> None:
    """A prompt at once, and single rows of sequences of different length together."""
    model, program = both
    prompts = [drive.tokens(64, 20, seed) for seed in range(3)]
    lengths = (17, 9, 10)
    for owner, (prompt, num) in enumerate(zip(prompts, lengths, strict=True)):
        found = drive.run(program, Part(prompt[:num], 0, owner))[0]
        np.testing.assert_allclose(found, logits(model, prompt[:num]), atol=SAME)
    parts = [
        Part(p[n : n + 1], n, i) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))
    ]
    for part, row in zip(parts, drive.run(program, *parts), strict=True):
        text = prompts[part.owner][: part.start]
        with torch.no_grad():
            past = model(torch.tensor([text]), use_cache=True).past_key_values
            expected = model(torch.tensor([list(part.tokens)]), past_key_values=past).logits[0]
        np.testing.assert_allclose(row, expected.numpy(), atol=SAME)


def test_a_shared_prefix_is_read_not_run(llama: tuple[Any, Any]) -> None:
    """A sequence whose table begins with another's blocks goes on from them."""
    model, program = llama
    prompt, other = drive.tokens(64, 8), drive.tokens(64, 3, 5)
    drive.run(program, Part(prompt, 0, 0))
    shared = drive.table(program.kv, 0)[:2] + drive.table(program.kv, 1)[2:]
    batch = replace(drive.batch(program.kv, Part(other, 8, 1)), blocks_G=((shared,),))
    found = drive.step(program, batch).logits_RV
    np.testing.assert_allclose(found, logits(model, prompt + other)[8:], atol=SAME)


def test_a_sequence_comes_back_in_other_blocks(llama: tuple[Any, Any]) -> None:
    """After preemption its tokens are run again elsewhere, while its old blocks are another's."""
    model, program = llama
    prompt = drive.tokens(64, 12)
    drive.run(program, Part(prompt[:9], 0, 0))
    drive.run(program, Part(drive.tokens(64, 12, 3), 0, 0))
    found = drive.run(program, Part(prompt, 0, 2))[0]
    np.testing.assert_allclose(found, logits(model, prompt), atol=SAME)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8"])
def test_the_past_can_be_narrow(tmp_path: Path, kind: str) -> None:
    model = library_model(tmp_path, "llama")
    program = TransformersProvider().open(tmp_path, replace(PLAN, kv_dtype=kind))
    prompt = drive.tokens(64, 12)
    drive.run(program, Part(prompt[:9]))
    found, expected = drive.run(program, Part(prompt[9:], 9))[0], logits(model, prompt)[9:]
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_hidden_states_are_the_librarys(llama: tuple[Any, Any]) -> None:
    model, program = llama
    prompt = drive.tokens(64, 7)
    found = drive.step(program, drive.batch(program.kv, Part(prompt, want=Want.HIDDEN)))
    with torch.no_grad():
        expected = model.model(torch.tensor([prompt])).last_hidden_state[0].numpy()
    assert found.logits_RV is None
    np.testing.assert_allclose(found.hidden_RD, expected, atol=SAME)


def hidden(program: Any, *prompts: Sequence[int], start: int = 0) -> Any:
    parts = [Part(prompt, start, i, Want.HIDDEN) for i, prompt in enumerate(prompts)]
    return drive.step(program, drive.batch(program.kv, *parts)).hidden_RD


def test_embeds_by_a_model_that_reads_both_ways(tmp_path: Path) -> None:
    """It remembers nothing, and needs each sequence whole; logits it has none."""
    model = library_model(tmp_path, "bert", "AutoModel")
    program = TransformersProvider().open(tmp_path, PLAN)
    assert program.kv.groups == ()
    prompts = [drive.tokens(64, num, num) for num in (5, 3, 5)]
    with torch.no_grad():
        expected = [model(torch.tensor([p])).last_hidden_state[0].numpy() for p in prompts]
    np.testing.assert_allclose(hidden(program, *prompts), np.concatenate(expected), atol=SAME)
    with pytest.raises(LlamaError, match="whole in one step"):
        hidden(program, prompts[0], start=2)
    with pytest.raises(LlamaError, match="without logits"):
        drive.run(program, Part(prompts[0]))


def test_embeds_by_a_causal_model_without_a_head(tmp_path: Path) -> None:
    """It remembers, so its sequences may come in parts."""
    model = library_model(tmp_path, "llama", "AutoModel")
    program = TransformersProvider().open(tmp_path, PLAN)
    prompt = drive.tokens(64, 9)
    found = np.concatenate([hidden(program, prompt[:4]), hidden(program, prompt[4:], start=4)])
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found, expected, atol=SAME)


@pytest.mark.parametrize(
    ("kind", "extra", "error"),
    [
        ("mamba", {}, StateNotByToken),
        ("openai-gpt", {"n_embd": 32, "n_layer": 2, "n_head": 4}, StateNotByToken),
        ("bert", {}, LooksAhead),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_run_right_is_not_opened(
    tmp_path: Path, kind: str, extra: Mapping[str, Any], error: type[LlamaError]
) -> None:
    library_model(tmp_path, kind, **extra)
    with pytest.raises(error):
        TransformersProvider().open(tmp_path, PLAN)


def edited(folder: Path, **changes: Any) -> dict[str, Any]:
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(config))
    return config


def test_code_from_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    """Neither for an unknown type, nor where the type is known and the config points to code."""
    model = library_model(tmp_path, "llama")
    witness = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(witness)!r}, 'w').close()")
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config = edited(tmp_path, auto_map=auto_map)
    prompt = drive.tokens(64, 5)
    program = TransformersProvider().open(tmp_path, PLAN)
    np.testing.assert_allclose(
        drive.run(program, Part(prompt))[0], logits(model, prompt), atol=SAME
    )
    reason = TransformersProvider().accepts(tmp_path, {**config, "model_type": "evil"})
    assert reason is not None
    assert "never run" in reason
    edited(tmp_path, model_type="evil")
    with pytest.raises(LlamaError, match="never run"):
        TransformersProvider().open(tmp_path, PLAN)
    assert not witness.exists()


def test_attention_from_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    """A config may name a repository of kernels; ours is chosen by us."""
    library_model(tmp_path, "llama")
    keys = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
    edited(tmp_path, **dict.fromkeys(keys, "someone/kernels"))
    program = TransformersProvider().open(tmp_path, PLAN)
    assert program._model.config._attn_implementation == "sdpa"


def test_an_adapter_is_not_followed_to_its_model(tmp_path: Path) -> None:
    library_model(tmp_path, "llama")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(LlamaError, match="holds an adapter"):
        TransformersProvider().open(tmp_path, PLAN)


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    model = library_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(LlamaError, match="save_pretrained"):
        TransformersProvider().open(tmp_path, PLAN)


def test_missing_tensors_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    library_model(tmp_path, "llama")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LlamaError, match=r"layers\.1\.mlp\.up_proj"):
        TransformersProvider().open(tmp_path, PLAN)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "lama", "architectures": ["X"]}, "'llama'"),
        ({}, "no model_type"),
        ({"model_type": ["llama"]}, "must be a text"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder and a decoder"),
        ({"model_type": "llama", "architectures": ["LlamaForTokenClassification"]}, "neither"),
        ({"model_type": "vit", "architectures": None}, "no causal"),
        ({"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": {}}, "text"),
    ],
)
def test_says_why_it_does_not_accept(config: Mapping[str, Any], reason: str) -> None:
    assert reason in str(TransformersProvider().accepts(Path(), config))


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_config_is_refused(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "config.json").write_bytes(junk)
    with pytest.raises(LlamaError, match="config"):
        TransformersProvider().open(tmp_path, PLAN)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rewrites": ("fuse",)}, "rewrites fuse"),
        ({"adapter_slots": 2}, "adapter"),
        ({"act": "q8:32"}, "q8:32"),
        ({"world_size": 2}, "rank"),
    ],
)
def test_what_needs_a_graph_is_refused(
    tmp_path: Path, changes: Mapping[str, Any], named: str
) -> None:
    library_model(tmp_path, "llama")
    with pytest.raises(ConfigError, match=named):
        TransformersProvider().open(tmp_path, replace(PLAN, **changes))


def test_vectors_in_place_of_tokens_are_refused(llama: tuple[Any, Any]) -> None:
    program = llama[1]
    batch = drive.batch(program.kv, Part([1, 2]))
    with pytest.raises(LlamaError, match="tokens only"):
        program.submit(replace(batch, embeddings_TD=np.zeros((2, 32), np.float32)))
