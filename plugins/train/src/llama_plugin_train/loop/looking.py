"""Looking at a model on the way: its loss on held-out text, and what it writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch

from llama_core.model.chat import ChatTemplate
from llama_plugin_train.data import Stream
from llama_plugin_train.loop.assembly import Parts
from llama_plugin_train.loop.feed import Batch, on_device
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.loop.sections import EvaluationSection
from llama_plugin_train.objective.linear_cross_entropy import Loss
from llama_plugin_train.tokens import Encoder


@contextmanager
def to_be_shown(parts: Parts, average: bool) -> Iterator[None]:
    """The model as it is exported: with the average's weights, where they are wanted."""
    if parts.average is None or not average:
        yield
        return
    with parts.average.swapped():
        yield


@torch.no_grad()
def evaluate(parts: Parts, ranks: Ranks, batches: int) -> tuple[float, float]:
    """Mean nats a learnt token of the held-out rows, and how many tokens that were."""
    assert parts.held_out is not None
    nll = torch.zeros((), dtype=torch.float64, device=parts.machine.device)
    weight = 0.0
    for batch in _batches(parts, parts.held_out, ranks, batches):
        loss = parts.learner(*batch.tensors)
        assert isinstance(loss, Loss)
        nll += loss.nll_sum
        weight += batch.weight
    total, weight_sum = nll.item(), weight
    if parts.spread.data_ranks > 1:
        total, weight_sum = ranks.sum(total), ranks.sum(weight)
    return total / weight_sum if weight_sum else math.nan, weight_sum


def _batches(parts: Parts, stream: Stream, ranks: Ranks, most: int) -> Iterator[Batch]:
    """As many on every rank, for a pass may need all of them; the last may be of no weight."""
    rows = -(-stream.num_rows // stream.num_ranks)
    count = -(-rows // stream.batch_size)
    count = min(count, most) if most else count
    given = 0
    for found in islice(stream.once(), count):
        batch = on_device(found, parts.machine.device)
        given += 1
        yield batch
    if given < count:  # the others have one row more
        spare = on_device(stream.rows([0]), parts.machine.device)
        spare.weights_BT.zero_()
        for _ in range(count - given):
            yield Batch(*spare.tensors, weight=0.0, row=0)


@torch.no_grad()
def sample(parts: Parts, told: EvaluationSection, prompt: str, seed: int) -> str:
    """What the model writes after a prompt; the same words from the same weights and seed."""
    encoder, longest = parts.encoder, parts.shape.max_positions
    dice = torch.Generator().manual_seed(seed)
    tokens = encoder.tokenizer.encode(_asked(encoder, told, prompt), add_special=False)
    tokens = tokens or [encoder.document_end]
    ends = end_tokens(encoder)
    written: list[int] = []
    for _ in range(told.sample_tokens):
        seen = torch.tensor([(tokens + written)[-longest:]], device=parts.machine.device)
        logits_V = parts.learner(seen)[0].float().cpu()
        if told.temperature:
            chances_V = (logits_V / told.temperature).softmax(0)
            token = int(torch.multinomial(chances_V, 1, generator=dice))
        else:
            token = int(logits_V.argmax())
        if token in ends:
            break
        written.append(token)
    return encoder.tokenizer.decode(written)


def end_tokens(encoder: Encoder) -> list[int]:
    """The tokens at which a text or a turn ends."""
    found = [encoder.tokenizer.named.get("eos_token"), encoder.document_end]
    return list(dict.fromkeys(one for one in found if one is not None))


def _asked(encoder: Encoder, told: EvaluationSection, prompt: str) -> str:
    if not told.as_chat or encoder.template_source is None:
        return prompt
    template = ChatTemplate(encoder.template_source, encoder.tokenizer.special_tokens)
    return template.render([{"role": "user", "content": prompt}], add_generation_prompt=True)
