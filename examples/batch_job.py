"""Answer every line of a JSONL file, many at a time, and go on where a killed run stopped.

Each line of the input is an object with a `prompt`. The output has one line for each, in the order
they were done, with the number of its line; what is in the output already is not done again.

    python examples/batch_job.py MODEL prompts.jsonl answers.jsonl --max-tokens 50
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress

from llama_core import LlamaError, Plugins
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params
from llama_core.model.tokenizer.vocabulary import TokenizerError

Job = tuple[int, bytes]


def done_before(path: Path) -> set[int]:
    """The lines that an earlier run answered. Half a line at the end was never finished: cut it."""
    if not path.exists():
        return set()
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        done = {json.loads(line)["line"] for line in whole.splitlines()}
    except (ValueError, KeyError, TypeError):
        sys.exit(f"error: {path} is there already, and is no output of this program")
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return done


def prompt_of(line: bytes) -> str:
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise ValueError("the line is no object with a text as its prompt")
    return row["prompt"]


async def answer(model: Loaded, job: Job, max_tokens: int) -> dict[str, Any]:
    """One line of the output. A mistake in a line is its answer; any other failure ends the job."""
    number, line = job
    try:
        request = model.request(prompt_of(line), Params(max_tokens=max_tokens))
        choice = (await model.engine.agenerate(request)).choices[0]
    except (InvalidRequest, TokenizerError, ValueError, RecursionError) as error:
        return {"line": number, "error": str(error)}
    return {"line": number, "text": choice.text, "finish": choice.finish}


async def run(model: Loaded, jobs: Iterator[Job], out: TextIO, args: Any, advance: Any) -> int:
    """As many workers as there may be open requests, each taking the next job; gives how many
    lines were mistaken."""
    mistaken = 0

    async def work() -> None:
        nonlocal mistaken
        for job in jobs:
            row = await answer(model, job, args.max_tokens)
            mistaken += "error" in row
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()  # so that a kill loses no more than the lines under way
            advance()

    await asyncio.gather(*(work() for _ in range(args.at_a_time)))
    return mistaken


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every line of a JSONL file.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--max-tokens", type=int, default=50)
    parser.add_argument("--at-a-time", type=int, default=64)
    args = parser.parse_args()
    if args.at_a_time < 1:
        parser.error(f"--at-a-time is {args.at_a_time}, and at least 1 line is under way")
    done = done_before(args.output)
    with args.input.open("rb") as lines:
        jobs = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    left = [job for job in jobs if job[0] not in done]
    print(f"{len(done)} done before, {len(left)} to do", file=sys.stderr)
    terminal = sys.stderr.isatty()
    with (
        load(args.model, plugins=Plugins.load()) as model,
        args.output.open("a", encoding="utf-8") as out,
        Progress(console=Console(stderr=True), disable=not terminal) as progress,
    ):
        bar = progress.add_task("lines", total=len(jobs), completed=len(done))
        mistaken = asyncio.run(run(model, iter(left), out, args, lambda: progress.advance(bar)))
    if mistaken:
        said = f"{mistaken} of {len(left)} lines are mistaken: why stands in {args.output}"
        print(said, file=sys.stderr)
    if left and mistaken == len(left):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, OSError) as error:
        sys.exit(f"error: {error}")
