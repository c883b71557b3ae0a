"""Many requests at once on one program: schedule, submit, sample, postprocess.

It knows requests and the program; threads, sockets and HTTP are for others. One caller at a time:
`faces.py` gives the sync, async and batch faces that any number of threads may use.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llama_core.contracts.drafter import Drafter
from llama_core.contracts.program import Program
from llama_core.contracts.step import Output
from llama_core.contracts.transform import philox
from llama_core.engine.answer import Answer, Tokenizer
from llama_core.engine.batch import HIDDEN, LOGITS, TOKEN, Flight, Rows, assemble, inspect, singles
from llama_core.engine.blocks import BlockManager, root_hash
from llama_core.engine.drafting import Drafting
from llama_core.engine.faults import (
    DeadlineExceeded,
    EngineClosed,
    InvalidRequest,
    QueueFull,
    in_a_step,
)
from llama_core.engine.intake import Intake, check_whole
from llama_core.engine.request import Finish, Limits, Request, Update, check
from llama_core.engine.sampling import Create
from llama_core.engine.scheduler import Schedule, Scheduler
from llama_core.engine.sequence import Sequence as Stream
from llama_core.engine.sequence import Status
from llama_core.engine.trace import Untraced
from llama_core.engine.verify import not_finite, pool, score_prompt, take, verify
from llama_core.errors import ConfigError, LlamaError
from llama_core.isolation import let_pass
from llama_core.plugins import Plugins

log = logging.getLogger("llama_core")
MOST_IN_FLIGHT = 2  # a token is needed by the step after its own, so a third has nothing to do


@dataclass(slots=True)
class Counters:
    """Totals since the start; what is running or waiting now is the scheduler's to say."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    prefix_queries: int = 0  # tokens looked up in the prefix cache
    prefix_hits: int = 0
    program_faults: int = 0
    finished: dict[str, int] = field(default_factory=dict)


class Engine:
    """The requests on one program."""

    def __init__(
        self,
        program: Program,
        limits: Limits | None = None,
        *,
        plugins: Plugins | None = None,
        create: Create | None = None,
        tokenizer: Tokenizer | None = None,
        eos: frozenset[int] = frozenset(),
        drafter: Drafter | None = None,
        most_drafts: int = 4,
        adapter_slots: int = 0,
        in_flight: int = 1,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = Limits() if limits is None else limits
        self.program = program
        samples: frozenset[str] = getattr(program, "samples", frozenset())
        self.intake = Intake(plugins, create, tokenizer, eos, samples)
        self.drafting = Drafting(drafter, most_drafts, program.vocab_size)
        self.adapter_slots = adapter_slots
        self.seed = secrets.randbits(64) if seed is None else seed
        self.clock = clock
        self.counters = Counters()
        self.trace = Untraced()  # a Trace while somebody profiles
        if in_flight < 1:
            raise ConfigError(f"in_flight must be at least 1, not {in_flight}")
        # A draft stands on the token before it, which has to be known: such steps go one by one.
        self.in_flight = 1 if drafter else min(in_flight, MOST_IN_FLIGHT)
        self.whole: bool = getattr(program, "whole", False)
        kv = program.kv
        self.blocks = BlockManager(
            [group.window for group in kv.groups], kv.num_blocks, kv.block_size, limits.max_rows
        )
        self.limits = replace(limits, max_length=self._longest(limits.max_length))
        self.scheduler = Scheduler(
            self.blocks, limits.max_rows, limits.max_sequences, limits.patience, self.whole
        )
        self._flying: deque[Flight] = deque()  # oldest first
        self._answers: dict[int, Answer] = {}  # by id of the sequence
        self._open: dict[str, list[Answer]] = {}  # by id of the request
        self._reports: list[Update] = []  # what happened between steps
        self._serial = 0
        self._arrivals = 0
        self._closed = False

    # ------------------------------------------------------------------ requests

    def add(self, request: Request) -> None:
        """Take a request, or raise why not; nothing of a refused one remains."""
        if self._closed:
            raise EngineClosed("the engine is closed")
        if request.id in self._open:
            raise InvalidRequest(f"a request with the id {request.id!r} is open", param="id")
        if self.scheduler.num_waiting >= self.limits.max_queued:
            raise QueueFull(
                f"{self.limits.max_queued} requests are waiting, and no more may",
                retry_after_seconds=1.0,
            )
        limit = check(request, self.limits, self.program.vocab_size, self.adapter_slots)
        self.intake.check(request)
        if self.whole:
            check_whole(request, self.limits.max_rows)
        self._arrivals += 1
        seed = request.params.seed
        if seed is None:
            low, high, _, _ = philox((self._arrivals & 0xFFFFFFFF, 0, 2, 0), self.seed)
            seed = low | high << 32
        seconds = request.deadline_seconds
        stream = Stream(
            self._next_id(),
            [*request.prompt, *request.answer],
            root=root_hash(request.tenant, request.adapter),
            tenant=request.tenant,
            slots=request.params.n,
            deadline=None if seconds is None else self.clock() + seconds,
        )
        stream.num_prompt = len(request.prompt)
        answer = self._answer(request, 0, stream, limit, seed)
        stream.reuse = not (self.whole or answer.wants_every_row)
        self._answers[stream.id] = answer
        self._open[request.id] = [answer]
        self.scheduler.add(stream, request.priority)
        self.counters.prompt_tokens += len(request.prompt)

    def cancel(self, request_id: str) -> bool:
        """End a request: no step planned from now on has it. False where none is open."""
        return self._end(request_id, "cancelled", None)

    @property
    def has_work(self) -> bool:
        return bool(self._reports or self._flying) or not self.scheduler.idle

    @property
    def num_open(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """End what is open and close the program; doing so twice is allowed."""
        if not self._closed:
            self._closed = True
            for request_id in list(self._open):
                self._end(request_id, "error", EngineClosed("the engine was closed"))
            while self._flying:
                try:
                    self._flying.popleft().pending.result()
                except BaseException as error:  # noqa: BLE001  a program is a plugin's
                    let_pass(error)
                    log.warning("a step that was under way as the engine closed: %s", error)
            self.program.close()

    # ---------------------------------------------------------------------- step

    def step(self) -> list[Update]:
        """One turn of the wheel: what happened, and to whom."""
        while self._may_launch() and self._launch():
            pass
        if self._flying:
            self._land(self._flying.popleft())
        updates, self._reports = self._reports, []
        self.trace.end_step()
        return updates

    def _may_launch(self) -> bool:
        """Whether the next step can be planned: what is chosen here has to be known before."""
        flying = self._flying
        return not flying or (len(flying) < self.in_flight and flying[-1].rows.stay_there)

    def _launch(self) -> bool:
        """Plan a step and give it to the program; False where there is none."""
        self.trace.phase("schedule")
        for answer, error in self.drafting.propose(self.scheduler.running, self._answers):
            self._end(answer.request.id, "error", error)
        plan = self.scheduler.schedule(self.clock())
        self._note(plan)
        if not plan.sequences:
            return False
        try:
            self.trace.phase("assemble")
            if plan.copies:
                self.program.copy_blocks([(c.group, c.source, c.target) for c in plan.copies])
                plan.copies.clear()
            batch, rows = assemble(plan, self._answers, len(self.blocks.pools))
            self.trace.phase("submit", sequences=len(plan.sequences), rows=len(batch.tokens_T))
            pending = self.program.submit(batch)
        except BaseException as error:  # noqa: BLE001  a program is a plugin's
            if self._flying and isinstance(error, LlamaError) and not plan.copies:
                # It may stand on a token that could not be chosen: planned anew once that is known.
                for sequence in plan.sequences:
                    sequence.num_scheduled = 0
            else:
                self._fail(plan, error)
            return False
        for sequence, (kind, _, end) in zip(plan.sequences, rows.wants, strict=True):
            sequence.num_scheduled = 0
            sequence.num_computed = end
            if kind == TOKEN and self.in_flight > 1:
                sequence.run_ahead(self._answers[sequence.id].limit)
        self._flying.append(Flight(plan, rows, pending))
        return True

    def _land(self, flight: Flight) -> None:
        """Wait for a step, and give every sequence what its rows gave."""
        self.trace.phase("submit")  # goes on, or is waited for
        try:
            if self.in_flight > 1:
                self.trace.phase("wait")
            output = flight.pending.result()
            self.trace.phase("sample")
            inspect(output, flight.rows, self.program.vocab_size)
        except BaseException as error:  # noqa: BLE001  a program is a plugin's
            self._fail(flight.plan, error)
        else:
            self._advance(flight.plan, output, flight.rows)

    def _advance(self, plan: Schedule, output: Output, rows: Rows) -> None:
        block_size = self.blocks.block_size
        single, finite = singles(output, rows, self.program.vocab_size)
        self.trace.phase("postprocess")
        at = [0, 0, 0, 0]  # the next row of each kind
        for sequence, (kind, count, end) in zip(plan.sequences, rows.wants, strict=True):
            drafts, sequence.drafts = sequence.drafts, ()
            start = at[kind]
            at[kind] = start + count
            answer = self._answers.get(sequence.id)
            if answer is None:  # it ended meanwhile
                continue
            if end // block_size > sequence.num_registered and sequence.status is Status.RUNNING:
                self.blocks.commit(sequence, end)
            if not count:
                continue
            try:
                if answer.plain and count == 1 == sequence.slots and finite[kind][start]:
                    token = single[kind][start]
                    self._report(answer, answer.update((token,), answer.push(token)))
                else:
                    self._give(
                        answer, output, kind, slice(start, start + count), drafts, finite[LOGITS]
                    )
            except LlamaError as error:
                self._end(answer.request.id, "error", error)

    def _give(
        self,
        answer: Answer,
        output: Output,
        kind: int,
        span: slice,
        drafts: tuple[int, ...],
        finite: list[bool],
    ) -> None:
        """The general case of a sequence's rows: whatever the answer can ask for."""
        sequence = answer.stream
        complete = sequence.num_uncomputed == 0
        if kind == HIDDEN:
            assert output.hidden_RD is not None
            pooled = pool(answer, output.hidden_RD[span], complete)
            if pooled is not None:
                self._report(answer, pooled)
            return
        length = len(sequence.tokens)
        if kind == LOGITS:
            assert output.logits_RV is not None
            logits_NV = output.logits_RV[span]
            if not all(finite[span]):
                raise not_finite(logits_NV[finite[span].index(False)])
            score_prompt(answer, logits_NV[:-1] if complete else logits_NV)
            if not complete:
                return
            logits_NV = logits_NV[-1 - len(drafts) :]
            for sibling in [answer, *self._fork(answer)]:
                self._report(sibling, verify(sibling, logits_NV, drafts))
        else:
            assert output.tokens_R is not None
            chosen = output.tokens_R[span].tolist()
            self._report(answer, take(answer, chosen, drafts, self.program.vocab_size))
        if drafts:
            self.drafting.verified(sequence, len(drafts), len(sequence.tokens) - length - 1)

    # -------------------------------------------------------------- accounting

    def _answer(
        self, request: Request, choice: int, stream: Stream, limit: int, seed: int
    ) -> Answer:
        answer = self.intake.answer(request, choice, stream, limit, seed)
        self.trace.watch(answer.chain)
        answer.resume()
        return answer

    def _next_id(self) -> int:
        self._serial += 1
        return self._serial

    def _longest(self, asked: int) -> int:
        """The context length asked for, or what the program holds where that is less."""
        longest = min(asked, self.program.kv.context_length or asked)
        while longest and not self.blocks.fits(longest):
            longest -= 1
        if longest < 2:
            raise ConfigError(
                f"the program's memory of {self.program.kv.num_blocks} blocks of "
                f"{self.program.kv.block_size} tokens does not hold a sequence of 2 tokens",
                remedy="Give it more KV memory",
            )
        return longest

    def _fork(self, answer: Answer) -> list[Answer]:
        """The other choices of a request whose prompt has just been computed."""
        stream, request = answer.stream, answer.request
        siblings = []
        for choice in range(1, stream.slots):
            child = stream.fork(self._next_id())
            sibling = self._answer(request, choice, child, answer.limit, answer.seed)
            self.scheduler.fork(stream, child)
            self._answers[child.id] = sibling
            self._open[request.id].append(sibling)
            siblings.append(sibling)
        return siblings

    def _note(self, plan: Schedule) -> None:
        for sequence, hits in plan.started:
            answer = self._answers[sequence.id]
            if sequence.reuse:
                self.counters.prefix_queries += len(sequence.tokens)
                self.counters.prefix_hits += hits
            if len(answer.output) == len(answer.request.answer):
                answer.num_cached = hits
        for sequence in plan.expired:
            request = self._answers[sequence.id].request if sequence.id in self._answers else None
            if request is not None:
                self._end(
                    request.id,
                    "deadline",
                    DeadlineExceeded(f"the deadline of {request.deadline_seconds} s has passed"),
                )

    def _report(self, answer: Answer, update: Update) -> None:
        self.counters.output_tokens += len(update.tokens)
        if answer.prompt_logprobs is not None and not answer.scored:
            answer.scored = True
            update.prompt_logprobs = answer.prompt_logprobs
        self._reports.append(update)
        if answer.finish is not None:
            self._drop(answer, answer.finish)
            answers = self._open[answer.request.id]
            if all(a.finish is not None for a in answers):
                del self._open[answer.request.id]
                update.last = True

    def _end(self, request_id: str, finish: Finish, error: LlamaError | None) -> bool:
        """End every choice of a request that is still open."""
        answers = self._open.pop(request_id, None)
        if answers is None:
            return False
        for answer in answers:
            if answer.stream.id in self._answers:
                answer.finish = finish
                self._drop(answer, finish)
                update = Update(request_id, answer.choice, finish=finish, error=error)
                update.usage = answer.usage()
                self._reports.append(update)
        self._reports[-1].last = True
        return True

    def _drop(self, answer: Answer, finish: Finish) -> None:
        self.scheduler.remove(answer.stream)
        del self._answers[answer.stream.id]
        self.drafting.release(answer.stream)
        self.counters.finished[finish] = self.counters.finished.get(finish, 0) + 1

    def _fail(self, plan: Schedule, error: BaseException) -> None:
        """The program failed: the requests of this step end, the others go on."""
        let_pass(error)
        self.counters.program_faults += 1
        fault = in_a_step(error)
        for sequence in plan.sequences:
            if sequence.id in self._answers:
                self._end(self._answers[sequence.id].request.id, "error", fault)
