"""Continue every line of a file, all in one batch, and say how fast that was.

For jobs that are worth resuming see batch_job.py.

    python examples/batch.py MODEL prompts.txt > answers.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from llama_gpu import LlamaError, LlamaGPU


def main() -> None:
    parser = argparse.ArgumentParser(description="Continue every line of a file.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("file", type=Path, help="one prompt a line")
    parser.add_argument("--max-tokens", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=256, help="how many are open at a time")
    args = parser.parse_args()
    prompts = [
        line.strip() for line in args.file.read_text("utf-8-sig").splitlines() if line.strip()
    ]
    with LlamaGPU(args.model) as llama:
        began = time.monotonic()
        texts = llama.batch_infer(prompts, args.batch_size, max_tokens=args.max_tokens)
        seconds = time.monotonic() - began
        kv = llama.get_memory_usage()["kv"]
    for prompt, text in zip(prompts, texts, strict=True):
        print(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False))
    cached = kv["cached_bytes"] / 2**20
    print(
        f"{len(prompts)} prompts in {seconds:.1f} s; {cached:.1f} MiB remembered", file=sys.stderr
    )


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, OSError, UnicodeError) as error:
        sys.exit(f"error: {error}")
