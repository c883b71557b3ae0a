"""Describe the columns of a CSV file: Python computes, the model only puts it into words.

A language model is no calculator, so every number is computed first and given to it, and what it
writes is checked: a number that was not given to it is reported.

    python examples/data_analysis.py MODEL sales.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import sys
from pathlib import Path

from llama_gpu import LlamaError, LlamaGPU

PROMPT = """Here is what is known about {name}:
{facts}

In short, {name}"""


def columns(path: Path) -> dict[str, list[float]]:
    """The columns that hold nothing but numbers."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0] if rows else ():
        try:
            found[name] = [float(row[name]) for row in rows]
        except (TypeError, ValueError):
            continue
    return found


def facts(values: list[float]) -> dict[str, float]:
    """What can be said of a column."""
    known = {
        "count": len(values),
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
    }
    if len(values) > 1:
        known["change from first to last"] = values[-1] - values[0]
    return {name: round(value, 2) for name, value in known.items()}


def invented(text: str, known: dict[str, float]) -> list[str]:
    """The numbers of a text that were not computed."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    return [one for one in numbers if float(one) not in known.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Describe the columns of a CSV file.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    known = {name: facts(values) for name, values in columns(args.file).items()}
    if not known:
        sys.exit(f"error: {args.file} has no column of numbers")
    listed = {n: "\n".join(f"- {k}: {v:g}" for k, v in one.items()) for n, one in known.items()}
    prompts = [PROMPT.format(name=name, facts=listed[name]) for name in known]
    with LlamaGPU(args.model) as llama:
        texts = llama.batch_infer(prompts, stop=["\n", ". "])
    for (name, numbers), text in zip(known.items(), texts, strict=True):
        said = f"{name} {text.strip()}"
        row = {"column": name, **numbers, "said": said, "invented": invented(text, numbers)}
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, OSError, UnicodeError, csv.Error) as error:
        sys.exit(f"error: {error}")
