"""Find the texts that mean most nearly what a query means, by the model's hidden states.

A text's vector is the mean of the hidden states of its tokens; two texts are as near as the cosine
of the angle between their vectors, after what all the texts have in common was taken away.

    python examples/embeddings.py MODEL "a hungry kitten" --file texts.txt
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core import LlamaError, Plugins
from llama_core.engine.load import Loaded, load

TEXTS = [
    "The cat wanted its milk.",
    "The puppy chased a ball in the garden.",
    "It rained all day and the children stayed inside.",
    "Mom baked a big cake for the party.",
    "The little cat was looking for some food.",
]


def embed(model: Loaded, texts: Sequence[str]) -> NDArray[np.float32]:
    """One vector of length 1 a text, all texts in one batch."""
    requests = [replace(model.request(text), pooling="mean") for text in texts]
    vectors = []
    for result in model.engine.batch(requests):
        if error := result.choices[0].error:
            raise error
        vectors.append(result.choices[0].hidden)
    return unit(np.stack(vectors))


def unit(x_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(x_ND, axis=-1, keepdims=True)
    return x_ND / np.maximum(lengths, 1e-12)


def nearest(model: Loaded, query: str, texts: Sequence[str]) -> list[tuple[float, str]]:
    """The texts by similarity, the nearest first."""
    vectors_ND = embed(model, [*texts, query])
    centred_ND = unit(vectors_ND - vectors_ND.mean(axis=0))
    similarities = centred_ND[:-1] @ centred_ND[-1]
    return sorted(zip(similarities.tolist(), texts, strict=True), reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the texts nearest to a query.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("query")
    parser.add_argument("--file", type=Path, help="one text a line; a few are built in")
    args = parser.parse_args()
    texts = TEXTS if args.file is None else args.file.read_text("utf-8-sig").splitlines()
    texts = [text for text in texts if text.strip()]
    with load(args.model, plugins=Plugins.load()) as model:
        for similarity, text in nearest(model, args.query, texts):
            print(json.dumps({"similarity": round(similarity, 4), "text": text}))


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, OSError, UnicodeError) as error:
        sys.exit(f"error: {error}")
