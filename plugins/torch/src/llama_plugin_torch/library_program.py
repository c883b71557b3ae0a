"""A model of transformers behind the program contract, run unchanged.

One forward pass takes sequences that look alike: those with one row each and pasts of similar
length, or those with equally many rows from the same position on. What the model can do is found
out by trying when it is opened: what it remembers, whether it looks at later tokens (then it gets
whole sequences and remembers nothing), and whether it may be padded.

Legend in `llama_core.contracts.step`; B sequences of one pass, N rows of each, P their past.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from llama_core.announce import Announcements
from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.model import batch as batches
from llama_core.model import programs
from llama_core.model.batch import BatchError
from llama_plugin_torch import trying
from llama_plugin_torch.answers import Answer, Sampled
from llama_plugin_torch.memory import GroupShape, Memory
from llama_plugin_torch.past import Places, block_cache


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One sequence's part of a step."""

    rows: range  # of the step
    past: int
    table: Sequence[int]


class LibraryProgram:
    """What the engine steps. The library promises no bits: `invariance` is `none`."""

    invariance: Literal["bitwise", "none"] = "none"
    samples = frozenset({"greedy"})

    def __init__(
        self,
        model: Any,
        plan: Plan,
        device: torch.device,
        dtype: torch.dtype,
        announcements: Announcements,
    ) -> None:
        self.plan = plan
        self.device = device
        self._model: Any = model
        self._announcements = announcements
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._nature = trying.nature(model, device)
        if not self._nature.remembers:
            self.whole: Literal[True] = True  # the engine cuts no text of it
        self.vocab_size = self._nature.vocab_size
        layers = tuple(one for one in self._nature.layers if one is not None)
        groups = [GroupShape(layers, None)] if layers else []
        self._memory = Memory(groups, plan, dtype, device)
        self._sampled = Sampled(device)
        self._closed = False
        self._may_pad = not self._nature.moves and "position_ids" in self._takes
        if layers:
            with torch.inference_mode():
                self._may_pad = trying.check(self._pass, self._nature, self._memory, self._may_pad)
        self._say(announcements)

    def _say(self, announcements: Announcements) -> None:
        """What a user should know of this model's nature."""
        if self._nature.moves:
            announcements.note(
                "this model's rotation depends on how long a sequence has become, as transformers "
                "computes it: a prompt that is cut gives other numbers than one that is not"
            )
        elif self._nature.remembers and not self._may_pad:
            announcements.note(
                "this model of transformers cannot be padded: sequences of different lengths run "
                "one after another"
            )

    @property
    def kv(self) -> KVLayout:
        return self._memory.layout

    def submit(self, batch: Batch) -> Answer:
        programs.check_open(self._closed)
        if batch.embeddings_TD is not None:
            raise BatchError(["it takes tokens only, no vectors in their place"])
        batches.check(batch, self.vocab_size, 0, self.kv, self.plan)
        programs.check_sampling(batch, self.samples if self._nature.has_logits else frozenset())
        sequences = self._sequences(batch)
        with torch.inference_mode():
            tokens_T = self._sampled.put_in(batch.tokens_T, batch.previous_T)
            logits, hidden = self._run(batch, sequences, tokens_T)
            return Answer(batch, logits, hidden, self._sampled, self._announcements)

    def _sequences(self, batch: Batch) -> list[_Sequence]:
        """The parts of the step; BatchError where this model cannot give what is wanted."""
        problems = []
        if not self._nature.has_logits and (batch.want_T == Want.LOGITS).any():
            problems.append("it is a model without logits; ask for hidden states")
        found = []
        for index, (start, stop) in enumerate(pairwise(batch.starts_S1.tolist())):
            if start == stop:
                continue
            past = int(batch.positions_T[start])
            table = batch.blocks_G[0][index] if batch.blocks_G else ()
            found.append(_Sequence(range(start, stop), past, table))
            if past and not self._nature.remembers:
                problems.append(
                    f"sequence {index} goes on at position {past}, and this model, which looks at "
                    "later tokens, needs each sequence whole in one step"
                )
        if problems:
            raise BatchError(problems)
        return found

    def _run(
        self, batch: Batch, sequences: Sequence[_Sequence], tokens_T: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits and hidden states of the rows that want anything, in their order."""
        wanted = np.flatnonzero(batch.want_T != Want.NOTHING)
        order = {row: i for i, row in enumerate(wanted.tolist())}
        wants_hidden = bool((batch.want_T == Want.HIDDEN).any())
        found: list[tuple[list[int], Tensor | None, Tensor | None]] = []
        for alike in self._alike(sequences):
            rows = [list(one.rows) for one in alike]
            keep = [n for n, each in enumerate(zip(*rows, strict=True)) if order.keys() & set(each)]
            logits, hidden = self._pass(tokens_T[torch.tensor(rows)], alike, keep, wants_hidden)
            places = [(b, n) for b in range(len(rows)) for n in keep if rows[b][n] in order]
            if places:
                index = tuple(torch.tensor(each) for each in zip(*places, strict=True))
                at = (index[0], torch.tensor([keep.index(n) for _, n in places]))
                found.append(
                    (
                        [order[rows[b][n]] for b, n in places],
                        None if logits is None else logits[at],
                        None if hidden is None else hidden[index],
                    )
                )
        return _in_order(found, 1), _in_order(found, 2)

    def _alike(self, sequences: Sequence[_Sequence]) -> list[list[_Sequence]]:
        """Sequences that one forward pass can take, padded to less than twice their length."""
        alike: dict[tuple[str, int, int], list[_Sequence]] = {}
        for one in sequences:
            if self._may_pad and len(one.rows) == 1:
                key = ("padded", 1, one.past.bit_length())
            else:
                key = ("equal", len(one.rows), one.past)
            alike.setdefault(key, []).append(one)
        return list(alike.values())

    def _pass(
        self, tokens_BN: Tensor, alike: Sequence[_Sequence], keep: Sequence[int], hidden: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """One forward pass: logits of the rows to keep, hidden states of all."""
        trying.forget(self._nature)
        num = tokens_BN.shape[1]
        longest = max(one.past for one in alike)
        given: dict[str, Any] = {"input_ids": tokens_BN}
        if self._nature.remembers:
            places = self._places(alike, num, longest)
            given |= {
                "past_key_values": block_cache(self._nature.layers, self._memory, places),
                "use_cache": True,
            }
            if "position_ids" in self._takes:
                firsts = torch.tensor([[one.past] for one in alike], device=self.device)
                given["position_ids"] = firsts + torch.arange(num, device=self.device)
            if any(one.past < longest for one in alike):
                pads = torch.tensor([[longest - one.past] for one in alike], device=self.device)
                columns = torch.arange(longest + num, device=self.device)
                given["attention_mask"] = (columns >= pads).long()
        elif "attention_mask" in self._takes:
            given["attention_mask"] = torch.ones_like(tokens_BN)
        if not self._nature.has_logits:
            return None, self._model(**given).last_hidden_state
        cut = "logits_to_keep" in self._takes
        if cut:
            given["logits_to_keep"] = torch.tensor(list(keep), device=self.device).long()
        out = self._model(**given, output_hidden_states=hidden)
        logits = out.logits if cut else out.logits[:, list(keep)]
        return logits, out.hidden_states[-1] if hidden else None

    def _places(self, alike: Sequence[_Sequence], num: int, longest: int) -> Places:
        size = self.kv.block_size
        seen = np.full((len(alike), longest + num), self._memory.zero_place)
        for row, one in enumerate(alike):
            positions = np.arange(one.past + num)
            table = np.asarray(one.table, np.int64)
            seen[row, longest - one.past :] = table[positions // size] * size + positions % size
        seen_BPN = torch.from_numpy(seen).to(self.device)
        return Places(longest, seen_BPN, seen_BPN[:, longest:].flatten())

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        with torch.inference_mode():
            self._memory.copy(pairs)

    def close(self) -> None:
        self._closed = True
        self._model = None
        self._memory.close()


def _in_order(found: Sequence[tuple[Any, ...]], item: int) -> Tensor | None:
    """What the passes gave, by the row's place among those that want anything."""
    parts = [(each[0], each[item]) for each in found if each[item] is not None]
    if not parts:
        return None
    x = torch.cat([part for _, part in parts])
    order = torch.tensor([place for places, _ in parts for place in places])
    out = torch.empty_like(x)
    out[order.to(x.device)] = x
    return out
