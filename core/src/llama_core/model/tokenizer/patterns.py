"""Which regular expressions of a tokenizer.json may run: those whose time does not explode.

The expressions come with a model, the texts from whoever asks it. Where a repeated group repeats
something itself, or has alternatives, a text can be matched in exponentially many ways, and the
native engine tries them all; no pre-tokenizer in use is written so. Time that grows with a power of
the text's length is still possible, as everywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_MAX_LENGTH = 1 << 14
_MANY = 10  # what is repeated more often is repeated without end
_TOKEN = re.compile(r"\\.|\(\?#[^)]*\)|\(\??|\{\d*,?\d*\}|.", re.DOTALL)


def fault(core: Core) -> str | None:
    """What is wrong with the first expression that may not run."""
    for part in (core.normalizer, core.pre_tokenizer, core.decoder):
        if part is None:
            continue
        for pattern in _patterns(json.loads(part.__getstate__())):
            if len(pattern) > _MAX_LENGTH:
                return f"it has a regular expression of {len(pattern)} characters"
            if explodes(pattern):
                return f"the time of its regular expression {pattern[:80]!r} can explode"
    return None


def _patterns(state: Any) -> Iterator[str]:
    if isinstance(state, dict):
        if isinstance(found := state.get("Regex"), str):
            yield found
        for one in state.values():
            yield from _patterns(one)
    elif isinstance(state, list):
        for one in state:
            yield from _patterns(one)


def explodes(pattern: str) -> bool:
    """Whether a group is repeated that repeats something itself, or has alternatives."""
    ambiguous = [False]  # for each open group, whether it can match one text in several ways
    in_class = 0
    closed = False  # whether what was just read is such a group
    for one in _TOKEN.findall(pattern):
        was_closed, closed = closed, False
        if one == "[":
            in_class += 1
        elif in_class:
            in_class -= one == "]"
        elif one.startswith("("):
            ambiguous.append(False)
        elif one == ")" and len(ambiguous) > 1:
            closed = ambiguous.pop()
            ambiguous[-1] |= closed
        elif one in ("|", "?"):
            ambiguous[-1] = True
            closed = was_closed  # a repeat may follow that repeats all before it
        elif (times := _times(one)) is not None:
            least, most = times
            if was_closed and most > _MANY:
                return True
            ambiguous[-1] |= least != most
            closed = was_closed
    return False


def _times(quantifier: str) -> tuple[float, float] | None:
    """How often a quantifier repeats, at least and at most; None where it is none."""
    if quantifier in ("*", "+"):
        return 0, math.inf
    counts = re.fullmatch(r"\{(\d*)(,?)(\d*)\}", quantifier)
    if counts is None or counts[0] in ("{}", "{,}"):
        return None
    least, comma, most = (number[:9] for number in counts.groups())
    if not comma:
        return int(least), int(least)
    return int(least or 0), int(most) if most else math.inf
