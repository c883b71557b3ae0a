"""The part of the model card that is measured: written by the packaging, never by hand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

BEGIN, END = "<!-- measured: written by recipe.package -->", "<!-- end of what is measured -->"


def with_measured(page: str, text: str) -> str:
    """A page with this text between the marks."""
    marks = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(marks.findall(page)) != 1:
        raise ValueError(f"the model card needs one part between {BEGIN} and {END}")
    return marks.sub(lambda _: f"{BEGIN}\n\n{text.strip()}\n\n{END}", page)


def measured(config: dict[str, Any], weights_bytes: int, rows: Sequence[Any], scores: Any) -> str:
    """Size, run, curve and scores, in Markdown."""
    lines = ["| | |", "|---|---|"]
    lines += [
        f"| {name} | {value} |" for name, value in _facts(config, weights_bytes, rows, scores)
    ]
    lines += ["", "![The loss of the run](recipe/run/loss.svg)", ""]
    lines += ["| skill | right | share | 95% interval |", "|---|---|---|---|"]
    lines += [
        f"| {one['name']} | {one['right']} of {one['asked']} | {one['share']:.1%} "
        f"| {one['low']:.1%} to {one['high']:.1%} |"
        for one in scores["skills"]
    ]
    return "\n".join(lines)


def _facts(
    config: dict[str, Any], weights_bytes: int, rows: Sequence[Any], scores: Any
) -> Iterator[tuple[str, str]]:
    started, last = _last(rows, "started"), _last(rows, "step")
    yield "size", f"{started['parameters']:,} numbers, {weights_bytes / 1e6:.1f} MB"
    yield (
        "shape",
        f"{config['num_hidden_layers']} layers of width {config['hidden_size']}, "
        f"{config['num_attention_heads']} heads on {config['num_key_value_heads']} of keys and "
        f"values, {config['vocab_size']:,} tokens, a context of "
        f"{config['max_position_embeddings']}",
    )
    speed = statistics.median(row["tokens_per_second"] for row in rows if row["event"] == "step")
    yield (
        "run",
        f"{last['step']:,} steps, {last['tokens'] / 1e6:.1f} million tokens, "
        f"{speed:,.0f} a second (median) on `{started['device']}` in {started['dtype']}",
    )
    evaluation = _last(rows, "evaluation")
    yield (
        "loss at the end",
        f"{last['loss']:.3f} nats a token; on what was held out "
        f"{evaluation['loss']:.3f} (step {evaluation['step']:,})",
    )
    text = scores["held_out"]
    yield (
        "perplexity of held-out stories",
        f"{text['perplexity']:.3f} ± {text['perplexity_error']:.3f}, over "
        f"{text['scored_tokens']:,} tokens in windows of {text['window']}",
    )


def _last(rows: Sequence[Any], event: str) -> Any:
    found = [row for row in rows if row["event"] == event]
    if not found:
        raise ValueError(f"the run's metrics have no '{event}'")
    return found[-1]
