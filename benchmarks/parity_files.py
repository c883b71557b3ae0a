"""Rows of GGUF's file types: a trained model in each, ours against llama.cpp's own logits.

Files in 32 and 16 bits are written by core and, from the same folder, by the `gguf` package;
llama.cpp quantizes them further itself. It takes activations in 8 bits wherever weights are in
fewer than 16, in blocks as long as the weights' own; so does the reference, by `act`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from parity_backends import built, greedy, logits, make, named, opened
from parity_encodings import DIVERGENCE, TINY, divergence, unseen
from report import Row, environment

if TYPE_CHECKING:
    from llama_core.contracts.format import ModelFiles
    from llama_core.model.graph import Graph
    from llama_core.model.weights import Weights

# The type of a file as llama.cpp names it, and the blocks in which it takes activations for it.
QUANTIZED: Mapping[str, str] = {
    "Q4_0": "q8:32", "Q4_1": "q8:32", "Q5_0": "q8:32", "Q5_1": "q8:32", "Q8_0": "q8:32",
    "Q2_K": "q8:256", "Q3_K_M": "q8:256", "Q4_K_M": "q8:256", "Q5_K_M": "q8:256", "Q6_K": "q8:256",
}  # fmt: skip
# By itself it is 1.4e-4 and 5e-3 from float64, as each row notes: ten times and more what ours is.
BOUNDS = {"F32": 1e-3, "F16": 3e-2}
MARGIN = 0.1  # logits; nearer than that the best two may change places
AGREEMENT = 0.99
STEPS = 64
TEXTS = (
    "Count from 3 to 9:",
    "Ann has 4 apples. Ben gives her 3 more. Now",
    "The opposite of hot is",
    "7 + 8 =",
    "Leo sees a black owl in the",
    "After Monday comes",
    "Caf\u00e9 \u4e2d\u6587 \U0001f642 \n\n  two  spaces\tand 123 tabs",
    "The word green is spelled",
)


@cache
def binding() -> Path | str:
    """The Python of the environment with llama.cpp's binding, or why there is none."""
    return environment("parity-llama-cpp", "llama-cpp-python")


def binding_version() -> str | None:
    python = binding()
    if isinstance(python, str):
        return None
    code = "from importlib.metadata import version; print(version('llama-cpp-python'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.strip()


def rows(backends: Sequence[str]) -> Iterator[Row]:
    """All file types, each on every backend; and the same model from folder and file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = written(folder)
        for name in backends:
            yield from same_model(name, paths["F16.core"])
        made = {folder / f"{kind}.gguf": (paths["F32.core"], kind) for kind in QUANTIZED}
        every, tokens = [*paths.values(), *made], unseen(opened(TINY))
        said = llama_cpp_says(folder, made, every, tokens, TEXTS)
        if isinstance(said, str):
            yield Row(
                "parity.gguf", None, "logit", note=f"not measured: llama.cpp's binding: {said}"
            )
            return
        for label, truth in said.items():
            for name in backends:
                kind = label.partition(".")[0]
                path = folder / f"{label}.gguf"
                act = QUANTIZED.get(kind)
                yield from (
                    plain(label, path, truth, name)
                    if act is None
                    else quantized(kind, path, truth, act, name)
                )


# ---------------------------------------------------------------- files


def written(folder: Path) -> dict[str, Path]:
    """The trained model in 32 and 16 bits, by both writers."""
    from llama_core.builtin.gguf_format import GgufFormat

    files = opened(TINY)
    paths = {}
    for kind in BOUNDS:
        one = replace(files, weights=_in(files.weights, kind))
        paths[f"{kind}.core"] = folder / f"{kind}.core.gguf"
        GgufFormat().save(one, paths[f"{kind}.core"])
        paths[f"{kind}.package"] = folder / f"{kind}.package.gguf"
        by_the_package(one, paths[f"{kind}.package"])
    return paths


def _in(weights: Weights, kind: str) -> Weights:
    from llama_core.model.weights import reencoded

    return reencoded(weights, lambda name, tensor: kind.lower())


def by_the_package(files: ModelFiles, path: Path) -> None:
    """As its own documentation says to, with nothing of core's but the numbers."""
    import gguf

    c, kind = files.config, np.float32 if "F32" in path.name else np.float16
    made = gguf.GGUFWriter(path, "llama")
    made.add_name("tiny")
    made.add_context_length(c["max_position_embeddings"])
    made.add_embedding_length(c["hidden_size"])
    made.add_block_count(c["num_hidden_layers"])
    made.add_feed_forward_length(c["intermediate_size"])
    made.add_head_count(c["num_attention_heads"])
    made.add_head_count_kv(c["num_key_value_heads"])
    made.add_layer_norm_rms_eps(c["rms_norm_eps"])
    made.add_rope_dimension_count(c["hidden_size"] // c["num_attention_heads"])
    made.add_vocab_size(c["vocab_size"])
    state = json.loads((TINY / "tokenizer.json").read_text())
    ids = state["model"]["vocab"] | {one["content"]: one["id"] for one in state["added_tokens"]}
    special = {one["id"] for one in state["added_tokens"]}
    made.add_tokenizer_model("gpt2")
    made.add_tokenizer_pre("smollm")
    made.add_token_list(sorted(ids, key=ids.__getitem__))
    kinds = gguf.TokenType
    made.add_token_types([kinds.CONTROL if i in special else kinds.NORMAL for i in range(len(ids))])
    merges = state["model"]["merges"]
    made.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    made.add_bos_token_id(c["bos_token_id"])
    made.add_eos_token_id(c["eos_token_id"])
    made.add_add_bos_token(True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c["num_hidden_layers"])
    for name in files.weights:
        x = files.weights.array(name)
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if f".{part}." in name:  # each head's halves interleaved, for its way to turn them
                x = x.reshape(c[heads], 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        made.add_tensor(stored, np.ascontiguousarray(x, np.float32 if x.ndim < 2 else kind))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def llama_cpp_says(
    folder: Path,
    quantize: Mapping[Path, tuple[Path, str]],
    run: Sequence[Path],
    tokens: Sequence[int],
    texts: Sequence[str] = (),
) -> dict[str, Any] | str:
    """Its answers by file's stem, or why there are none. Files to quantize are made first."""
    python = binding()
    if isinstance(python, str):
        return python
    job = {
        "quantize": [[str(source), str(path), kind] for path, (source, kind) in quantize.items()],
        "run": [str(path) for path in run],
        "tokens": list(tokens),
        "texts": list(texts),
        "steps": STEPS,
    }
    (folder / "job.json").write_text(json.dumps(job))
    code = "import parity_llama_cpp as p; p.main()"
    ran = subprocess.run(
        [str(python), "-c", code, str(folder / "job.json")], capture_output=True, text=True,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    if ran.returncode:
        return (ran.stderr.strip().splitlines() or ["no message"])[-1]
    return {path.stem: np.load(folder / f"{path.stem}.npz") for path in run}


# ---------------------------------------------------------------- rows


def loaded(path: Path) -> tuple[ModelFiles, Graph, Weights]:
    files = opened(path)
    return files, built(files.config), named(files)


def plain(label: str, path: Path, truth: Any, name: str) -> Iterator[Row]:
    """A file in 32 or 16 bits: logits, tokens of texts, and what is chosen after them."""
    from llama_core.builtin.reference import Reference
    from llama_core.model.tokenizer import open_tokenizer

    files, graph, weights = loaded(path)
    tokens, bound = unseen(files), BOUNDS[label.partition(".")[0]]
    found = logits(make(name), graph, weights, tokens)
    exact = logits(Reference("f64"), graph, weights, tokens)
    worst = apart(found, truth["logits"])
    tokenizer = open_tokenizer(files)
    cut, forks = 0, []
    for number, text in enumerate(TEXTS):
        ids = list(tokenizer.encode(text))
        cut += ids == truth[f"ids{number}"].tolist()
        its = truth[f"greedy{number}"].tolist()
        chosen = greedy(make(name), graph, weights, ids, STEPS)
        if chosen != its:
            same = next(i for i in range(STEPS) if chosen[i] != its[i])
            best = np.sort(logits(make(name), graph, weights, ids + its[:same])[-1])
            forks.append(float(best[-1] - best[-2]))
        else:
            assert tokenizer.decode(chosen) == str(truth[f"text{number}"]), text
    note = f"logits spread {truth['logits'].std():.1f}; from float64 ours is"
    note += f" {apart(found, exact):.2g} off, llama.cpp's {apart(truth['logits'], exact):.2g};"
    note += f" of {len(TEXTS)} texts {cut} are cut alike, and after {len(TEXTS) - len(forks)}"
    note += f" the same {STEPS} greedy tokens follow"
    if forks:
        note += f", the others part where the two best are {max(forks):.2g} apart"
    holds = worst <= bound and cut == len(TEXTS) and max(forks, default=0) <= 10 * bound
    yield Row(
        f"parity.gguf.{label}.{name}", worst, "logit", goal=f"<={bound:g}", holds=holds, note=note
    )


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def quantized(kind: str, path: Path, truth: Any, act: str, name: str) -> Iterator[Row]:
    """A file of llama.cpp's own quantizer: divergence, and agreement on the likeliest token."""
    from llama_core.model.rewrites.act import SetAct

    files, graph, weights = loaded(path)
    tokens = unseen(files)
    exact = logits(make(name), graph, weights, tokens)
    found = logits(make(name), *SetAct(act, skip=())(graph, weights), tokens)
    value = divergence(found, truth["logits"])
    note = f"act {act}; with act none {divergence(exact, truth['logits']):.2g}"
    kinds = sorted({str(files.weights.about(one)[1]) for one in files.weights})
    note += f"; the file holds {', '.join(kinds)}"
    yield Row(
        f"parity.gguf.{kind}.divergence.{name}", value, "nat", goal=f"<={DIVERGENCE:g}",
        holds=value <= DIVERGENCE, note=note,
    )  # fmt: skip
    best = np.sort(truth["logits"], axis=1)
    clear = best[:, -1] - best[:, -2] > MARGIN
    agree = found.argmax(1) == truth["logits"].argmax(1)
    share = float(agree[clear].mean())
    note = f"of the {clear.sum()} of {len(clear)} rows whose two best are {MARGIN} apart"
    yield Row(
        f"parity.gguf.{kind}.top1.{name}", share, "share", goal=f">={AGREEMENT:g}",
        holds=share >= AGREEMENT, note=f"{note}; of all rows {agree.mean():.2%}",
    )  # fmt: skip


def same_model(name: str, file: Path) -> Iterator[Row]:
    """Text in, text out: the folder and the file of it give the same."""
    from llama_core.model.tokenizer import open_tokenizer

    differ = []
    for text in TEXTS:
        said = set()
        for path in (TINY, file):
            files, graph, weights = loaded(path)
            tokenizer = open_tokenizer(files)
            ids = list(tokenizer.encode(text))
            chosen = greedy(make(name), graph, weights, ids, STEPS)
            said.add((tuple(ids), tuple(chosen), tokenizer.decode(chosen)))
        if len(said) > 1:
            differ.append(text)
    note = f"tokens in, {STEPS} greedy tokens and their text, of {len(TEXTS)} prompts"
    yield Row(
        f"parity.folder-and-gguf.{name}", len(differ), "prompts that differ", goal="<=0",
        holds=not differ, note=note,
    )  # fmt: skip
