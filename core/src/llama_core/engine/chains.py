"""The usual parameters as a chain of links, in the one order that everything here uses.

Penalties and bans first, then temperature, then what cuts the tail, then the sampler. It knows the
standard capabilities by name only; a chain of one's own is written as links directly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from llama_core.engine.request import Link

# They never make another token the likeliest, so before a greedy choice they do nothing.
_FIRST_STAYS_FIRST = ("temperature", "top-k", "top-p", "min-p", "top-n-sigma")


def standard(
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
    top_n_sigma: float | None = None,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    no_repeat_ngram: int = 0,
    min_tokens: int = 0,
    logit_bias: Mapping[str, float] | None = None,
    bad_words: Sequence[Sequence[int]] = (),
    transforms: Sequence[Link] = (),
    sampler: Link | None = None,
) -> tuple[tuple[Link, ...], Link]:
    """Transforms and sampler; what is at its neutral value is left out. Temperature 0 is greedy.

    `transforms` come behind all others, in their order; `sampler` ends the chain instead of the one
    that the temperature chooses.
    """
    links: list[tuple[bool, Link]] = [
        (repetition_penalty != 1, Link("repetition", {"penalty": repetition_penalty})),
        (presence_penalty != 0, Link("presence", {"penalty": presence_penalty})),
        (frequency_penalty != 0, Link("frequency", {"penalty": frequency_penalty})),
        (bool(logit_bias), Link("logit-bias", {"bias": dict(logit_bias or {})})),
        (no_repeat_ngram != 0, Link("no-repeat-ngram", {"n": no_repeat_ngram})),
        (min_tokens != 0, Link("min-length", {"tokens": min_tokens})),
        (bool(bad_words), Link("bad-words", {"words": [list(word) for word in bad_words]})),
    ]
    if temperature != 0:
        links += [
            (temperature != 1, Link("temperature", {"temperature": temperature})),
            (top_n_sigma is not None, Link("top-n-sigma", {"n": top_n_sigma})),
            (top_k != 0, Link("top-k", {"k": top_k})),
            (typical_p != 1, Link("typical", {"p": typical_p})),
            (top_p != 1, Link("top-p", {"p": top_p})),
            (min_p != 0, Link("min-p", {"p": min_p})),
        ]
    sampler = sampler or (Link("greedy") if temperature == 0 else Link("sample"))
    return (*(link for used, link in links if used), *transforms), sampler


def contradiction(
    said: Collection[str],
    temperature: float,
    transforms: Sequence[Link],
    sampler: Link | None,
    *,
    is_argmax: bool = False,
) -> str | None:
    """Why what was said cannot all be meant, or None.

    `said` are the numbers that were given, in the spelling that the answer is to have; `is_argmax`
    is whether the sampler takes the likeliest token.
    """
    if sampler is not None and temperature == 0 and "temperature" in said:
        return (
            f"temperature 0 takes the likeliest token, and sampler '{sampler.name}' is to choose "
            "one: leave out one of the two"
        )
    greedy = temperature == 0 if sampler is None else is_argmax
    if not greedy:
        return None
    idle = [name for name in said if name.replace("_", "-") in _FIRST_STAYS_FIRST]
    if sampler is None and "temperature" in idle:
        idle.remove("temperature")  # it is what makes the choice greedy
    idle += [f"transform '{each.name}'" for each in transforms if each.name in _FIRST_STAYS_FIRST]
    if not idle:
        return None
    if sampler is None:
        return f"{idle[0]} does nothing at temperature 0: give another temperature"
    return f"{idle[0]} does nothing: sampler '{sampler.name}' takes the likeliest token"
