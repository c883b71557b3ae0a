"""Makes the SentencePiece models beside it and what SentencePiece itself says to some texts.

Run once, in an environment with `sentencepiece`; the outputs are checked in, so that the tests need
neither the library nor the network.
"""

import json
import os
import random
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
TEXTS = [
    "Hello world",
    " leading and  double   spaces ",
    "tabs\tand\nnewlines\r\n",
    "numbers 12345 and 3.14",
    "Grüße aus Köln, naïve façade",
    "日本語のテキスト",
    "emoji 🎉👩‍👩‍👧 done",
    "",
    " ",
    "<s>not special</s>",
    "the cat<USER>sat on<USER>the mat",
    "\u0000\u0001 control",
    "ﬁne ½ Ⅷ ａｂｃ",
]
WORDS = [
    *[
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "on",
        "under",
        "over",
        "mat",
        "house",
        "hello",
        "world",
        "and",
        "then",
        "number",
        "many",
    ],
    *[
        "leading",
        "double",
        "space",
        "time",
        "quick",
        "brown",
        "fox",
        "jumps",
        "lazy",
        "Grüße",
        "Köln",
        "façade",
        "naïve",
    ],
    *["12", "345", "3.14", "done", "control", "text"],
]


def main() -> None:
    random.seed(0)
    os.chdir(HERE)  # the models keep the names they are given
    corpus = Path("corpus.txt")
    lines = (" ".join(random.choices(WORDS, k=12)) for _ in range(400))
    corpus.write_text("\n".join(lines))
    kinds = {
        "spm_bpe": {"model_type": "bpe", "normalization_rule_name": "identity",
                    "remove_extra_whitespaces": False, "byte_fallback": True},
        "spm_gemma": {"model_type": "bpe", "normalization_rule_name": "identity",
                      "remove_extra_whitespaces": False, "byte_fallback": True,
                      "add_dummy_prefix": False},
        "spm_unigram": {"model_type": "unigram", "byte_fallback": True},
        "spm_plain": {"model_type": "unigram", "byte_fallback": False},
    }  # fmt: skip
    said = {}
    for name, settings in kinds.items():
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=name,
            vocab_size=420 if settings.get("byte_fallback") else 120,
            character_coverage=0.9995,
            user_defined_symbols=["<USER>"],
            minloglevel=2,
            hard_vocab_limit=False,
            **settings,
        )
        (HERE / f"{name}.vocab").unlink()
        made = sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model"))
        said[name] = [[text, made.encode(text), made.decode(made.encode(text))] for text in TEXTS]
    corpus.unlink()
    (HERE / "sentencepiece_says.json").write_text(json.dumps(said, ensure_ascii=False, indent=0))


if __name__ == "__main__":
    main()
