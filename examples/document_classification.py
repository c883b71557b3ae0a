"""Say what a document is about, by how likely the model finds each label after it.

The model is not asked to answer but to score: a label counts for what the document adds to its
likelihood, so that a label which is common anyway has no advantage.

    python examples/document_classification.py MODEL --text "The dog barked at the cat." \
        --labels animals food weather
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

from llama_core import LlamaError, Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Request

QUESTION = "\n\nThis was a story about"
LABELS = ["animals", "food", "family", "friends", "weather", "toys"]


def scored(model: Loaded, before: str, after: str) -> tuple[Request, int]:
    """A request that gives the likelihood of its own tokens, and where those of `after` begin."""
    request = model.request(before + after, Params(max_tokens=1, prompt_logprobs=0))
    prefix = model.tokenizer.encode(before)
    same = (a == b for a, b in zip(prefix, request.prompt, strict=False))
    return request, next((n for n, equal in enumerate(same) if not equal), len(prefix))


def log_likelihoods(model: Loaded, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The log-probability of each pair's second text after its first, all in one batch."""
    requests, starts = zip(*(scored(model, *pair) for pair in pairs), strict=True)
    found = []
    for result, start in zip(model.engine.batch(requests), starts, strict=True):
        if error := result.choices[0].error:
            raise error
        found.append(sum(one.logprob for one in result.prompt_logprobs[start:] if one))
    return found


def classify(model: Loaded, text: str, labels: Sequence[str]) -> dict[str, float]:
    """Each label's share, the likeliest first."""
    pairs = [(text + QUESTION, f" {label}") for label in labels]
    pairs += [(QUESTION.strip(), f" {label}") for label in labels]  # as likely without the text
    found = log_likelihoods(model, pairs)
    gains = [a - b for a, b in zip(found, found[len(labels) :], strict=False)]
    weights = [math.exp(gain - max(gains)) for gain in gains]
    shares = {label: one / sum(weights) for label, one in zip(labels, weights, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Say what a document is about.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("--text", help="the document; standard input by default")
    parser.add_argument("--labels", nargs="+", default=LABELS)
    args = parser.parse_args()
    text = sys.stdin.read() if args.text is None else args.text
    with load(args.model, plugins=Plugins.load()) as model:
        shares = classify(model, text.strip(), args.labels)
    print(json.dumps({"label": next(iter(shares)), "shares": shares}))


if __name__ == "__main__":
    try:
        main()
    except LlamaError as error:
        sys.exit(f"error: {error}")
