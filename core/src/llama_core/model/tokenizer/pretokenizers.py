"""How byte-level BPE cuts text into words, by the names that GGUF files give the rules.

A table of regular expressions, of the families whose models core runs. Names that share a rule are
listed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llama_core.errors import did_you_mean, sentence
from llama_core.model.tokenizer.vocabulary import TokenizerError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = _SUFFIXES + r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"


def _cased(suffix: str) -> str:
    """Words by their case: capitals then small letters, so that CamelCase falls apart."""
    return f"{_START}{_UPPER}*{_LOWER}+{suffix}|{_START}{_UPPER}+{_LOWER}*{suffix}"


_SLASH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class Rule:
    """Splits, one after another; whether digits stand alone first; whether whole words that are
    tokens skip the merges; the Unicode form that text is brought to."""

    splits: tuple[tuple[str, Literal["isolated", "removed"]], ...]
    single_digits: bool = False
    ignore_merges: bool = False
    normal_form: Literal["", "NFC"] = ""


def _rule(*patterns: str, **settings: bool) -> Rule:
    return Rule(tuple((pattern, "isolated") for pattern in patterns), **settings)  # type: ignore[arg-type]


_LLAMA3 = _rule(_WORDS + r"|\p{N}{1,3}" + _TAIL, ignore_merges=True)
_CL100K = _rule(_WORDS + r"|\p{N}{1,3}" + _TAIL)
_QWEN2 = Rule(((_WORDS + r"|\p{N}" + _TAIL, "isolated"),), normal_form="NFC")
_STARCODER = _rule(_GPT2, single_digits=True)

RULES: dict[str, Rule] = {
    "default": _rule(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    **dict.fromkeys(("gpt-2", "gpt2", "olmo", "phi-2", "mpt", "jais", "trillion"), _rule(_GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "olmo2", "chatglm-bpe"), _CL100K),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan"), _QWEN2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "granite", "command-r", "codeshell", "exaone"), _STARCODER
    ),
    "tekken": _rule(_cased("") + r"|\p{N}" + _SLASH_TAIL, ignore_merges=True),
    **dict.fromkeys(
        ("gpt-4o", "llama4"), _rule(_cased(_SUFFIXES + "?") + r"|\p{N}{1,3}" + _SLASH_TAIL)
    ),
}


def rule(name: str) -> Rule:
    """The rule of a name, or an error with the near misses."""
    if name in RULES:
        return RULES[name]
    near = did_you_mean(name, RULES)
    raise TokenizerError(
        f"no pre-tokenizer is named '{name[:80]}'",
        remedy=sentence(near) or f"Known: {', '.join(sorted(RULES))}.",
    )
