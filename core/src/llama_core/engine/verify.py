"""What the rows of one sequence mean for its answer: tokens chosen, drafts verified, states pooled.

Each function takes one answer and its own rows and gives the update that goes out. They know no
neighbour, no schedule and no program. Legend: N rows of the sequence, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.postprocessor import Piece
from llama_core.engine.answer import Answer
from llama_core.engine.faults import SamplingFault
from llama_core.engine.request import Logprob, Update
from llama_core.engine.sampling import logprob


def verify(answer: Answer, logits_NV: NDArray[np.float32], drafts: Sequence[int]) -> Update:
    """Choose in order until a draft turns out wrong.

    A draft is right when it is the very token that would have been chosen without it, from the
    same logits with the same random number; so drafting changes nothing but the speed.
    """
    params, chain = answer.request.params, answer.chain
    tokens: list[int] = []
    pieces: list[Piece] = []
    logprobs: list[Logprob] = []
    for i, logits_V in enumerate(logits_NV):
        token, left_V = chain.choose(logits_V)
        if params.logprobs is not None:
            source_V = left_V if params.processed_logprobs else logits_V
            logprobs.append(logprob(source_V, token, params.logprobs))
        chain.accept(token)
        tokens.append(token)
        pieces += answer.push(token)
        if answer.finish or i == len(drafts) or token != drafts[i]:
            break
        answer.stream.num_computed += 1
    return answer.update(tokens, pieces, logprobs)


def take(answer: Answer, chosen: Sequence[int], drafts: Sequence[int], vocab_size: int) -> Update:
    """The same where the program chose the tokens itself."""
    tokens: list[int] = []
    pieces: list[Piece] = []
    for i, token in enumerate(chosen):
        if token == -1:
            raise SamplingFault("the program gave NaN for the logits it was to sample from")
        if not 0 <= token < vocab_size:
            raise SamplingFault(
                f"the program sampled token {token} of a vocabulary of {vocab_size}"
            )
        tokens.append(token)
        pieces += answer.push(token)
        if answer.finish or i == len(drafts) or token != drafts[i]:
            break
        answer.stream.num_computed += 1
    return answer.update(tokens, pieces)


def score_prompt(answer: Answer, logits_NV: NDArray[np.float32]) -> None:
    """Row by row, how likely the model found the next token of the prompt."""
    scored, sequence = answer.prompt_logprobs, answer.stream
    if scored is None:
        return
    top = answer.request.params.prompt_logprobs or 0
    for logits_V in logits_NV:
        if len(scored) == sequence.num_prompt:
            return
        scored.append(logprob(logits_V, sequence.tokens[len(scored)], top))


def pool(answer: Answer, hidden_ND: NDArray[np.float32], complete: bool) -> Update | None:
    """Sum hidden states row by row, so that chunking cannot change a bit."""
    if not np.isfinite(hidden_ND).all():
        raise SamplingFault("the program gave a hidden state that is not finite")
    for row_D in hidden_ND.astype(np.float64):
        answer.pooled_D = row_D if answer.pooled_D is None else answer.pooled_D + row_D
    answer.num_pooled += len(hidden_ND)
    if not complete:
        return None
    assert answer.pooled_D is not None
    answer.finish = "stop"
    update = answer.update((), ())
    update.hidden = (answer.pooled_D / answer.num_pooled).astype(np.float32)
    return update


def not_finite(logits_V: NDArray[np.float32]) -> SamplingFault:
    """What is wrong with logits whose highest is no number."""
    bad = int(np.isnan(logits_V).sum())
    if bad:
        return SamplingFault(f"the program gave NaN for {bad} of {len(logits_V)} logits")
    return SamplingFault(f"the program gave {logits_V.max()} as the highest logit")
