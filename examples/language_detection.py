"""Name the language of each line, by the sample after which the model finds it most likely.

After a few sentences of French a French line is less of a surprise. That needs no training and no
answer in words, only log-probabilities, so a model too small to be asked can do it.

    python examples/language_detection.py MODEL "Where is my red ball?" "Wo ist mein roter Ball?"
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

from llama_core import LlamaError, Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params

SAMPLES = {
    "English": "The little girl went to the park with her dog. It was a sunny day and they played.",
    "French": "La petite fille est allée au parc avec son chien. Il faisait beau et ils ont joué.",
    "German": "Das kleine Mädchen ging mit seinem Hund in den Park. Es war schön, sie spielten.",
    "Italian": "La bambina è andata al parco con il suo cane. Era una bella giornata e giocavano.",
    "Spanish": "La niña fue al parque con su perro. Era un día soleado y ellos jugaron mucho.",
}


def detect(model: Loaded, texts: Sequence[str]) -> list[dict[str, float]]:
    """For each text the probability of each language, all texts and languages in one batch."""
    encode = model.tokenizer.encode
    requests, starts = [], []
    for text in texts:
        for sample in SAMPLES.values():
            request = model.request(f"{sample}\n{text}", Params(max_tokens=1, prompt_logprobs=0))
            requests.append(request)
            starts.append(len(encode(f"{sample}\n")))
    totals = []
    for result, start in zip(model.engine.batch(requests), starts, strict=True):
        if error := result.choices[0].error:
            raise error
        totals.append(sum(one.logprob for one in result.prompt_logprobs[start:] if one))
    found = []
    for first in range(0, len(totals), len(SAMPLES)):
        own = totals[first : first + len(SAMPLES)]
        weights = [math.exp(total - max(own)) for total in own]
        shares = zip(SAMPLES, (one / sum(weights) for one in weights), strict=True)
        found.append(dict(sorted(shares, key=lambda item: -item[1])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Name the language of each text.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("texts", nargs="*", help="lines of standard input by default")
    args = parser.parse_args()
    texts = args.texts or [line.strip() for line in sys.stdin if line.strip()]
    with load(args.model, plugins=Plugins.load()) as model:
        for text, shares in zip(texts, detect(model, texts), strict=True):
            language = next(iter(shares))
            row = {"text": text, "language": language, "shares": shares}
            print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, UnicodeError) as error:
        sys.exit(f"error: {error}")
