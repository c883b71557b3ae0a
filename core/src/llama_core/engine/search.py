"""Answers that are looked for rather than drawn: beam search and best of several.

Both are plain callers of a `Face`: a beam is continued as a request with a begun answer, and the
prefix cache makes that cheap. They know nothing of the scheduler, and work with a worker as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from llama_core.engine.faces import Choice, Face
from llama_core.engine.faults import DeadlineExceeded, InvalidRequest
from llama_core.engine.request import Link, Request


@dataclass(frozen=True, slots=True)
class Beam:
    """One answer found, and how likely the model finds it."""

    tokens: tuple[int, ...] = ()
    logprob: float = 0.0
    finished: bool = False

    def score(self, length_penalty: float) -> float:
        return self.logprob / max(1, len(self.tokens)) ** length_penalty


def beam_search(
    face: Face,
    request: Request,
    width: int,
    *,
    ends: frozenset[int] = frozenset(),
    length_penalty: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
) -> list[Beam]:
    """The `width` best answers, best first, by log-probability over length to the penalty.

    The request's transforms apply, its sampler does not. An answer ends with one of `ends` (part
    of its tokens) or after `max_tokens`. It stops once no open beam can beat the finished ones.
    """
    params = request.params
    if not 1 <= width <= 16:
        raise InvalidRequest(f"width must be from 1 to 16, not {width}", param="width")
    if params.max_tokens is None or params.n != 1 or request.answer:
        raise InvalidRequest("a beam search needs max_tokens, n = 1 and no begun answer")
    params = replace(
        params,
        max_tokens=1,
        sampler=Link("greedy"),
        logprobs=width + len(ends),
        processed_logprobs=True,
        ignore_eos=True,
        stop=(),
        postprocessors=(),
    )
    live, finished = [Beam()], list[Beam]()
    ends_at = None if request.deadline_seconds is None else clock() + request.deadline_seconds
    for step in range(request.params.max_tokens or 0):
        left = None if ends_at is None else ends_at - clock()
        if left is not None and left <= 0:
            raise DeadlineExceeded(f"the deadline of {request.deadline_seconds} s has passed")
        one = replace(request, params=params, deadline_seconds=left)
        asked = [
            replace(one, id=f"{request.id}/{step}.{i}", answer=beam.tokens)
            for i, beam in enumerate(live)
        ]
        grown: list[Beam] = []
        for beam, result in zip(live, face.batch(asked), strict=True):
            choice = result.choices[0]
            if choice.error is not None:
                raise choice.error
            for token, logprob in choice.logprobs[0].top:
                if logprob > float("-inf"):
                    tokens = (*beam.tokens, token)
                    grown.append(Beam(tokens, beam.logprob + logprob, token in ends))
        grown.sort(key=lambda beam: (-beam.logprob, beam.tokens))
        finished += [beam for beam in grown[:width] if beam.finished]
        finished.sort(key=lambda beam: -beam.score(length_penalty))
        del finished[width:]
        live = [beam for beam in grown if not beam.finished][:width]
        if not live:
            break
        if len(finished) == width and not _may_improve(
            live[0], finished[-1], request, length_penalty
        ):
            live = []
            break
    everything = finished + live
    return sorted(everything, key=lambda beam: (-beam.score(length_penalty), beam.tokens))[:width]


def _may_improve(best: Beam, worst: Beam, request: Request, length_penalty: float) -> bool:
    """Whether the best open beam could still beat the worst finished one.

    Log-probabilities only fall, so its hope is to lose nothing more and to be as long as it pays.
    """
    longest = request.params.max_tokens if length_penalty > 0 else len(best.tokens) + 1
    return best.logprob / (longest or 1) ** length_penalty > worst.score(length_penalty)


def best_of(face: Face, request: Request, count: int) -> list[Choice]:
    """Draw `count` answers and give the request's n likeliest per token, best first."""
    n = request.params.n
    if count < n:
        raise InvalidRequest(f"best_of must be at least n = {n}, not {count}", param="best_of")
    params = replace(request.params, n=count, logprobs=request.params.logprobs or 0)
    try:
        choices = face.generate(replace(request, params=params)).choices
    except InvalidRequest as error:
        if error.param != "n":
            raise
        said = f"best_of = {count} is out of bounds: {error.message}"
        raise InvalidRequest(said, param="best_of") from error
    choices.sort(key=lambda choice: -choice.logprob / max(1, len(choice.tokens)))
    return choices[:n]
