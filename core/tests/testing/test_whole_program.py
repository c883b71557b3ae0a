"""The rules of programs that read a text whole: each is seen to fail on one that breaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.config import Config
from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Output, Plan, Want
from llama_core.errors import LlamaError
from llama_core.hookspecs import hookimpl
from llama_core.plugins import Plugins
from llama_core.testing import WholeProgramContract
from llama_core.testing.suite import rule_methods
from llama_core.testing.whole import WholeProgramRules

VOCAB, WIDTH, MOST = 32, 4, WholeProgramRules.plan.max_tokens
RULES = rule_methods(WholeProgramRules)


class Done:
    def __init__(self, output: Output) -> None:
        self.output = output

    def result(self) -> Output:
        return self.output


class Reads:
    """A state is the token's own vector, shifted by the mean of its text's: plain, and bitwise."""

    whole: Any = True
    invariance = "bitwise"
    vocab_size = VOCAB
    checks = True

    def __init__(self) -> None:
        self.kv = KVLayout((), 4, 12)
        self.vectors_VD = np.random.default_rng(0).normal(size=(VOCAB, WIDTH)).astype(np.float32)
        self.closed = False

    def submit(self, batch: Batch) -> Done:
        self.refuse(batch)
        return Done(self.answer(batch))

    def answer(self, batch: Batch) -> Output:
        spans = list(pairwise(batch.starts_S1.tolist()))
        states = [self.read(batch.tokens_T[a:b], batch.positions_T[a:b]) for a, b in spans]
        return Output(hidden_RD=np.concatenate(states)[batch.want_T == Want.HIDDEN])

    def read(self, tokens_T: Any, positions_T: Any) -> Any:
        own_TD = self.vectors_VD[tokens_T]
        return own_TD + own_TD.mean(0) + positions_T[:, None].astype(np.float32)

    def refuse(self, batch: Batch) -> None:
        starts = batch.starts_S1.tolist()
        bad = self.closed or starts[-1] != len(batch.tokens_T) or len(batch.tokens_T) > MOST
        bad = bad or not ((batch.tokens_T >= 0) & (batch.tokens_T < VOCAB)).all()
        for a, b in pairwise(starts):
            bad = bad or batch.positions_T[a:b].tolist() != list(range(b - a))
        if bad:
            raise LlamaError("the batch is out of range")

    def copy_blocks(self, pairs: Any) -> None:
        """Nothing is ever shared."""

    def close(self) -> None:
        self.closed = True


class SaysMaybe(Reads):
    whole = 1


class InDoubles(Reads):
    def answer(self, batch: Batch) -> Output:
        found = super().answer(batch).hidden_RD
        return Output(hidden_RD=found.astype(np.float64))  # type: ignore[union-attr]


class GivesAll(Reads):
    def answer(self, batch: Batch) -> Output:
        return super().answer(replace(batch, want_T=np.full_like(batch.want_T, Want.HIDDEN)))


class LooksBack(Reads):
    def read(self, tokens_T: Any, positions_T: Any) -> Any:
        own_TD = self.vectors_VD[tokens_T]
        return own_TD.cumsum(0) + positions_T[:, None].astype(np.float32)


class TakesTheRest(Reads):
    def refuse(self, batch: Batch) -> None:
        late = len(batch.starts_S1) == 2 and batch.positions_T[0] > 0
        moved = batch.positions_T - batch.positions_T[0] if late else batch.positions_T
        super().refuse(replace(batch, positions_T=moved))


class Mixes(Reads):
    def read(self, tokens_T: Any, positions_T: Any) -> Any:
        return super().read(tokens_T, positions_T) + np.float32(self.num_texts)

    def answer(self, batch: Batch) -> Output:
        self.num_texts = len(batch.starts_S1) - 1
        return super().answer(batch)


class Remembers(Reads):
    longest = 0

    def answer(self, batch: Batch) -> Output:
        self.longest = max(self.longest, len(batch.tokens_T) - 8)  # no other rule reads nine
        found: Any = super().answer(batch).hidden_RD
        return Output(hidden_RD=found + np.float32(self.longest))


class Overwrites(Reads):
    def answer(self, batch: Batch) -> Output:
        found = super().answer(batch)
        batch.positions_T[...] = 0
        return found


class ChecksNoTokens(Reads):
    def refuse(self, batch: Batch) -> None:
        super().refuse(replace(batch, tokens_T=batch.tokens_T.clip(0, VOCAB - 1)))

    def answer(self, batch: Batch) -> Output:
        return super().answer(replace(batch, tokens_T=batch.tokens_T % VOCAB))


class NeverCloses(Reads):
    def close(self) -> None:
        """It goes on."""


BROKEN = {
    "test_whole_program_says_what_it_is": SaysMaybe,
    "test_wanted_rows_give_hidden_states": InDoubles,
    "test_every_state_knows_the_whole_text": LooksBack,
    "test_a_cut_text_is_refused": TakesTheRest,
    "test_texts_in_one_step_do_not_mix": Mixes,
    "test_nothing_is_left_of_a_text": Remembers,
    "test_batch_of_texts_is_not_changed": Overwrites,
    "test_bad_texts_are_refused": ChecksNoTokens,
    "test_closed_program_takes_no_text": NeverCloses,
}


def failed(kind: type[Reads]) -> dict[str, str]:
    """Which rules a program breaks, and what its author is told."""
    found = {}
    for name, rule in RULES.items():
        try:
            rule(WholeProgramRules(), kind())
        except pytest.fail.Exception as error:
            found[name] = str(error)
    return found


def test_a_good_program_passes() -> None:
    assert failed(Reads) == {}


def test_every_rule_has_a_program_that_breaks_it() -> None:
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize("rule", BROKEN)
def test_exactly_the_broken_rule_fails(rule: str) -> None:
    found = failed(BROKEN[rule])
    assert list(found) == [rule], found
    assert len(found[rule]) > 20, "the message must say what to do"


def test_rows_that_want_nothing_and_members_that_lack_are_seen() -> None:
    told = failed(GivesAll)["test_wanted_rows_give_hidden_states"]
    assert "2 rows of 6 wanted hidden states, and 6 came" in told

    class Lacks(Reads):
        copy_blocks = property()  # type: ignore[assignment]

    assert "lacks 'copy_blocks'" in failed(Lacks)["test_whole_program_says_what_it_is"]


class Opens:
    def accepts(self, path: Path, config: Mapping[str, Any]) -> str | None:
        kind = config.get("model_type")
        return None if kind == "reads" else f"it runs no {kind}"

    def open(self, path: Path, plan: Plan) -> Reads:
        if not path.is_file():
            raise LlamaError(f"{path} is no model")
        return Reads()


@hookimpl
def llama_create_program() -> Opens:
    return Opens()


class TestTheSuite(WholeProgramContract):
    provides = "reads"
    plugin = "reads"
    # What an application registers has no package whose import could be looked at.
    test_listing_imports_nothing = None
    test_activation_imports_nothing_heavy = None
    test_activation_imports_few_modules = None

    @pytest.fixture
    def llama_plugins(self) -> Plugins:
        plugins = Plugins([], Config())
        plugins.register(
            SimpleNamespace(llama_create_program=llama_create_program),
            {
                "name": "reads",
                "summary": "Reads texts whole",
                "provides": [{"kind": "program", "name": "reads", "api": 1}],
            },
        )
        return plugins

    def model(self, folder: Path) -> tuple[Path, Mapping[str, Any]]:
        config = {"model_type": "reads"}
        path = folder / "config.json"
        path.write_text(json.dumps(config))
        return path, config
