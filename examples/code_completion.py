"""Complete the beginning of a Python function, and keep what is Python.

A model does not know where its function ends, and a small one may not finish it: the answer is cut
after the last line with which the whole still parses.

    python examples/code_completion.py MODEL --code "def add(a, b):"
"""

from __future__ import annotations

import argparse
import ast
import sys

from llama_gpu import LlamaError, LlamaGPU

STOPS = ["\ndef ", "\nclass ", "\nif __name__", "\n\n\n"]


def longest_that_parses(begun: str, completion: str) -> str | None:
    """As many lines of the completion as make a module with what was begun, if any do."""
    lines = completion.splitlines(keepends=True)
    for count in range(len(lines), 0, -1):
        kept = begun + "".join(lines[:count])
        try:
            ast.parse(kept)
        except (SyntaxError, ValueError):  # ValueError: a null byte
            continue
        return kept
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Complete the beginning of a Python function.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("--code", help="the beginning; standard input by default")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--attempts", type=int, default=4, help="the first is the likeliest")
    args = parser.parse_args()
    begun = sys.stdin.read() if args.code is None else args.code
    with LlamaGPU(args.model) as llama:
        for attempt in range(args.attempts):
            completion = llama.infer(
                begun,
                max_tokens=args.max_tokens,
                temperature=0.6 if attempt else 0.0,
                seed=attempt,
                stop=STOPS,
            )
            if kept := longest_that_parses(begun, completion):
                print(kept.rstrip())
                return
    sys.exit(f"none of {args.attempts} completions was Python; the last began {completion[:60]!r}")


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, UnicodeError) as error:
        sys.exit(f"error: {error}")
