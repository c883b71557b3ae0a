"""Backends and providers of programs: the NumPy reference, and what can go wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.builtin.reference import Reference
from llama_core.contracts.backend import Devices, Support
from llama_core.contracts.step import Want
from llama_core.errors import LlamaError
from llama_core.model import batch as batches
from llama_core.testing import tiny
from specimens.harness import specimen


def model(self: Any, folder: Path) -> Any:
    path = folder / "tiny.json"
    path.write_text(json.dumps(dict(tiny.CONFIG)))
    return path, tiny.CONFIG


_MODEL: Any = {"model": model}


class Wrapped:
    """A program of the reference's, with something changed."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.invariance, self.kv, self.vocab_size = "bitwise", inner.kv, inner.vocab_size
        self.samples = inner.samples

    def submit(self, batch: Any) -> Any:
        return self.inner.submit(batch)

    def copy_blocks(self, pairs: Any) -> None:
        self.inner.copy_blocks(pairs)

    def close(self) -> None:
        self.inner.close()


@specimen("program", **_MODEL)
class Opens:
    program: type[Wrapped] = Wrapped

    def accepts(self, path: Path, config: Any) -> Any:
        kind = config.get("model_type")
        return None if kind == "llama" else f"it runs llama only, not {kind}"

    def open(self, path: Path, plan: Any) -> Any:
        if not path.is_file():
            raise LlamaError(f"{path} is no model")
        return self.program(Reference().compile(*tiny.model(), plan))


@specimen("program", "test_opens_what_it_accepts", **_MODEL)
class OpensNothing(Opens):
    def open(self, path: Path, plan: Any) -> Any:
        raise LlamaError("it cannot be opened")


@specimen("program", "test_accepts_says_why_not", **_MODEL)
class AcceptsAll(Opens):
    def accepts(self, path: Path, config: Any) -> Any:
        return None


@specimen("program", "test_open_refuses_junk", **_MODEL)
class OpensAnything(Opens):
    def open(self, path: Path, plan: Any) -> Any:
        return super().open(Path(__file__), plan)


class Undecided(Wrapped):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.invariance = "mostly"


class Done:
    def __init__(self, output: Any) -> None:
        self.output = output

    def result(self) -> Any:
        return self.output


class InDoubles(Wrapped):
    def submit(self, batch: Any) -> Any:
        out = super().submit(batch).result()
        wide = out.logits_RV is not None and out.logits_RV.astype(np.float64)
        return Done(replace(out, logits_RV=wide if out.logits_RV is not None else None))


class GivesAll(Wrapped):
    def submit(self, batch: Any) -> Any:
        if (batch.want_T == Want.TOKEN).any():
            return super().submit(batch)
        return super().submit(replace(batch, want_T=np.full_like(batch.want_T, Want.LOGITS)))


def shifted(out: Any, by: Any) -> Any:
    if out.logits_RV is None:
        return Done(out)
    return Done(replace(out, logits_RV=out.logits_RV + np.float32(by)))


class MindsTheChunk(Wrapped):
    def submit(self, batch: Any) -> Any:
        # One chunk length alone is off, which no other rule here uses.
        out = super().submit(batch).result()
        return shifted(out, 0.001 if len(batch.tokens_T) == 3 and batch.positions_T[0] == 8 else 0)


class MindsItsMates(Wrapped):
    def submit(self, batch: Any) -> Any:
        out = super().submit(batch).result()
        return shifted(out, 0.001 * (len(batch.starts_S1) - 2))


class KeepsTheOld(Wrapped):
    """Will not write where it has written before, later in the sequence."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.last: dict[Any, int] = {}

    def submit(self, batch: Any) -> Any:
        out = super().submit(batch).result()
        if len(batch.starts_S1) != 2:
            return Done(out)
        key, first = tuple(batch.blocks_G[0][0]), int(batch.positions_T[0])
        known = self.last.get(key, 0)
        self.last[key] = int(batch.positions_T[-1]) + 1
        return shifted(out, 0.001 if 0 < first < known and known == 11 else 0)


class CopiesNothing(Wrapped):
    def copy_blocks(self, pairs: Any) -> None:
        self.inner.copy_blocks([(group, new, new) for group, _, new in pairs])


class Later:
    def __init__(self, run: Any) -> None:
        self.run = run

    def result(self) -> Any:
        return self.run().result()


class RunsWhenRead(Wrapped):
    """Copies blocks at once, and computes the step before only when its result is read."""

    def submit(self, batch: Any) -> Any:
        frozen = replace(batch, blocks_G=tuple(tuple(map(tuple, g)) for g in batch.blocks_G))
        return Later(lambda: self.inner.submit(frozen))


class ReadsTablesLate(Wrapped):
    """Computes when the result is read, or blocks are copied, by the tables as they are then."""

    late: Any = None

    def submit(self, batch: Any) -> Any:
        self.late = batch
        return Later(self.compute)

    def compute(self) -> Any:
        if self.late is not None:
            batch, self.late = self.late, None
            self.done = self.inner.submit(batch)
        return self.done

    def copy_blocks(self, pairs: Any) -> None:
        self.compute()
        super().copy_blocks(pairs)


class Overwrites(Wrapped):
    def submit(self, batch: Any) -> Any:
        out = super().submit(batch).result()
        batch.tokens_T[...] = 0
        return Done(out)


class ChecksNothing(Wrapped):
    def submit(self, batch: Any) -> Any:
        try:
            return super().submit(batch)
        except batches.BatchError as error:
            raise IndexError(str(error)) from error


class SamplesTheWorst(Wrapped):
    def submit(self, batch: Any) -> Any:
        out = super().submit(batch).result()
        worst = out.tokens_R is not None and np.zeros_like(out.tokens_R)
        return Done(replace(out, tokens_R=worst if out.tokens_R is not None else None))


class ClosesOnce(Wrapped):
    closed = False

    def close(self) -> None:
        self.closed = True

    def submit(self, batch: Any) -> Any:
        return super().submit(batch)


for _rule, _program in (
    ("test_program_says_what_it_is", Undecided),
    ("test_rows_give_logits", InDoubles),
    ("test_only_wanted_rows_give", GivesAll),
    ("test_chunks_give_what_the_whole_gives", MindsTheChunk),
    ("test_batch_mates_do_not_matter", MindsItsMates),
    ("test_rollback_forgets", KeepsTheOld),
    ("test_copied_blocks_are_equal", CopiesNothing),
    ("test_copied_blocks_are_equal", RunsWhenRead),
    ("test_tables_may_change_after_submit", ReadsTablesLate),
    ("test_batch_is_not_changed", Overwrites),
    ("test_bad_batches_are_refused", ChecksNothing),
    ("test_sampled_tokens_are_the_likeliest", SamplesTheWorst),
    ("test_close_twice", ClosesOnce),
):
    specimen("program", _rule, type(_program.__name__, (Opens,), {"program": _program}), **_MODEL)


specimen("backend", make=Reference)


@specimen("backend")
class Absent(Reference):
    def devices(self) -> Devices:
        return Devices(reason="there is no such card here")


@specimen("backend")
class Loose(Reference):
    """Not bitwise, and says so."""

    invariance = "none"


@specimen("backend", "test_devices_or_a_reason")
class NoReason(Reference):
    def devices(self) -> Devices:
        return Devices()


@specimen("backend", "test_supports_says_why_not")
class JustNo(Reference):
    def supports(self, node: Any) -> Any:
        return Support(super().supports(node).reason and "")


@specimen("backend", "test_compiles_a_plain_model")
class CompilesNothing(Reference):
    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        names = ", ".join(node.name for node in graph.nodes)
        raise LlamaError(f"cannot run {names} with {', '.join(graph.shapes)}")

    def supports(self, node: Any) -> Any:
        return Support("nothing at all")


@specimen("backend", "test_compile_lists_what_it_cannot_run")
class NamesOne(Reference):
    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        for node in graph.nodes:
            if not self.supports(node):
                raise LlamaError(f"cannot run {node.name}")
        return super().compile(graph, weights, plan)


@specimen("backend", "test_compile_refuses_missing_weights")
class FindsOutLater(Reference):
    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        if len(weights) < len(graph.shapes):
            raise KeyError("weight")
        return super().compile(graph, weights, plan)


@specimen("backend", "test_matches_the_reference")
class Wrong(Reference):
    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        def change(node: Any) -> Any:
            return node.with_attrs(theta=5000.0) if node.op == "rope" else node

        return super().compile(replace(graph, nodes=tuple(map(change, graph.nodes))), weights, plan)


@specimen("backend", "test_weights_are_not_changed")
class PacksInPlace(Reference):
    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        program = super().compile(graph, weights, plan)
        if type(self) is PacksInPlace:
            next(iter(weights.values())).parts["data"][0, 0] += 1e-7
        return program
