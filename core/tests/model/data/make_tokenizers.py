"""Makes small tokenizers as families publish them, and what transformers says to some texts.

Run once, with `transformers` and `sentencepiece` installed, after make_sentencepiece.py; its
outputs are checked in, so that tests need neither the libraries nor the network.
"""

import json
import random
import shutil
from pathlib import Path

from make_sentencepiece import TEXTS, WORDS
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre
from transformers import AutoTokenizer, LlamaTokenizer

HERE = Path(__file__).parent
# As published in the tokenizer.json of Llama 3, Qwen 2.5, SmolLM and Mistral Nemo.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern):
    bytes_ = pre.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"), bytes_])


FAMILIES = {
    "bpe_llama3": (split(LLAMA3), None, True, True),
    "bpe_qwen2": (split(QWEN2), normalizers.NFC(), False, False),
    "bpe_smollm": (
        pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]),
        None,
        False,
        False,
    ),
    "bpe_tekken": (split(TEKKEN), None, True, True),
}


def main() -> None:
    random.seed(0)
    lines = [" ".join(random.choices(WORDS, k=12)) for _ in range(400)]
    said = {}
    for name, (cut, normalizer, ignore_merges, add_bos) in FAMILIES.items():
        core = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        core.pre_tokenizer, core.decoder = cut, decoders.ByteLevel()
        if normalizer is not None:
            core.normalizer = normalizer
        alphabet = pre.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, show_progress=False
        )
        core.train_from_iterator(lines, trainer)
        core.add_special_tokens(["<|begin|>", "<|end|>", "<|eot_id|>"])
        core.add_tokens([AddedToken("<tool>", normalized=False)])
        if add_bos:
            core.post_processor = processors.Sequence(
                [
                    processors.ByteLevel(trim_offsets=False),
                    processors.TemplateProcessing(
                        single="<|begin|> $A",
                        pair="<|begin|> $A <|begin|>:1 $B:1",
                        special_tokens=[("<|begin|>", core.token_to_id("<|begin|>"))],
                    ),
                ]
            )
        else:
            core.post_processor = processors.ByteLevel(trim_offsets=False)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
        config |= {"bos_token": "<|begin|>"} if add_bos else {}
        save(name, core.to_str(), config)
    llama = HERE / "llama2"
    llama.mkdir(exist_ok=True)
    shutil.copy(HERE / "spm_bpe.model", llama / "tokenizer.model")
    made = LlamaTokenizer.from_pretrained(llama)
    shutil.rmtree(llama)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
              "unk_token": "<unk>", "legacy": False}  # fmt: skip
    save("llama2", made.backend_tokenizer.to_str(), config)
    for name in [*FAMILIES, "llama2"]:
        loaded = AutoTokenizer.from_pretrained(HERE / name)
        texts = [*TEXTS, "<|begin|>hi<tool> there<|eot_id|>", "I'LL don't 12345 HTTPServer/x\n\n x"]
        said[name] = [
            [text, ids := loaded.encode(text), loaded.decode(ids, skip_special_tokens=True)]
            for text in texts
        ]
    (HERE / "transformers_says.json").write_text(json.dumps(said, ensure_ascii=False, indent=0))


def save(name: str, text: str, config: dict[str, object]) -> None:
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
