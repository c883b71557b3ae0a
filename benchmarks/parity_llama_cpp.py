"""What llama.cpp says of GGUF files, by its Python binding, in an environment of its own.

    python -c "import parity_llama_cpp as p; p.main()" job.json

The job names files to quantize, files to run and tokens to run them on. Keys and values stay in
32 bits, so that what differs is weights and activations. Answers lie beside the job.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np


def quantize(source: str, target: str, kind: str) -> None:
    """One file, by llama.cpp's own quantizer; `kind` as its command names it."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = 2
    status = llama_cpp.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(parameters)
    )
    if status:
        raise SystemExit(f"llama.cpp could not quantize {source} to {kind}: {status}")


def answers(path: str, job: dict[str, Any]) -> dict[str, Any]:
    """Logits of the job's tokens, what its texts are cut into, and greedy tokens after them."""
    by_file = dict.fromkeys(("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"), -1.0)
    model = llama_cpp.Llama(
        path, n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, flash_attn=False,
        verbose=False, **by_file,
    )  # fmt: skip
    model.reset()
    model.eval(job["tokens"])
    found: dict[str, Any] = {"logits": np.array(model.scores[: len(job["tokens"])], np.float32)}
    for number, text in enumerate(job["texts"]):
        ids = model.tokenize(text.encode(), add_bos=True, special=False)
        found[f"ids{number}"] = np.array(ids)
        model.reset()
        model.eval(ids)
        chosen: list[int] = []
        for _ in range(job["steps"]):
            chosen.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            model.eval(chosen[-1:])
        found[f"greedy{number}"] = np.array(chosen)
        found[f"text{number}"] = np.array(model.detokenize(chosen).decode())
    model.close()
    return found


def main() -> None:
    job_path = Path(sys.argv[1])
    job = json.loads(job_path.read_text())
    for source, target, kind in job["quantize"]:
        quantize(source, target, kind)
    for path in job["run"]:
        np.savez(job_path.parent / f"{Path(path).stem}.npz", **answers(path, job))
