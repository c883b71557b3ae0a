"""Continue a text, shown as it comes.

python examples/generation.py MODEL "Once upon a time" --temperature 0.8 --seed 1
"""

from __future__ import annotations

import argparse
import sys

from llama_gpu import LlamaError, LlamaGPU


def main() -> None:
    parser = argparse.ArgumentParser(description="Continue a text, shown as it comes.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("prompt", nargs="?", default="Once upon a time")
    parser.add_argument("--max-tokens", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest")
    parser.add_argument("--top-p", type=float, help="sample from the likeliest that make up p")
    parser.add_argument("--seed", type=int, help="makes a sampled text repeatable")
    args = parser.parse_args()

    with LlamaGPU(args.model) as llama:
        info = llama.get_backend_info()
        print(f"[{info['model']} on {info['backend']}: {info['reason']}]", file=sys.stderr)
        print(args.prompt, end="", flush=True)
        for piece in llama.stream_infer(
            args.prompt,
            max_tokens=args.max_tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            seed=args.seed,
        ):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    try:
        main()
    except LlamaError as error:
        sys.exit(f"error: {error}")
