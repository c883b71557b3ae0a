"""The run: steps, and what is due between them. Everything it needs is made ready elsewhere.

Each step learns from some batches and moves the weights once. Between two steps, and only there,
commands take effect, and reports, evaluations, samples and checkpoints are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.loop import changes, events
from llama_plugin_train.loop.assembly import assemble
from llama_plugin_train.loop.commands import Commands
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.exporting import export
from llama_plugin_train.loop.faults import Faults
from llama_plugin_train.loop.guard import step_unless
from llama_plugin_train.loop.keeping import Keeping, checkpoints
from llama_plugin_train.loop.looking import evaluate, sample, to_be_shown
from llama_plugin_train.loop.meter import Meter
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.loop.reporting import (
    evaluation,
    in_a_while,
    preparing,
    report,
    started,
)
from llama_plugin_train.loop.state import Dials, State
from llama_plugin_train.runs import RunDirectory

_LISTEN_SECONDS = (
    1.0  # a paused run looks up this often, so that no rank waits for another too long
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    reason: str  # finished, early, stopped, emergency
    step: int
    loss: float | None
    model: Path | None


class Trainer:
    """One run in this process. `run` is its folder: on the first rank opened, on others a path."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory | Path,
        *,
        on_event: Callable[[events.Event], None] = lambda event: None,
        commands: Commands | None = None,
        ranks: Ranks | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self.config, self.ranks = config, ranks or Ranks()
        self.folder = run.path if isinstance(run, RunDirectory) else run
        self._log = run if isinstance(run, RunDirectory) else None
        self._on_event = on_event
        self._plugins = plugins or Plugins.load()
        self._said = self._plugins.announcements
        self._loss: float | None = None
        self._reason: str | None = None
        self._paused = False
        self._told = commands or Commands()

    # -----------------------------------------------------------------------------------------
    # The run
    # -----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train from the newest checkpoint, or the beginning, to the end."""
        began = time.perf_counter()
        self._open()
        try:
            while (reason := self._between()) is None:
                self._step()
                self._after()
            model = self._close(reason)
        except BaseException as error:
            self._emit_end("failed", began, None, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.parts.feed.close()
            self.keeping.settle(wait=True)
        self._emit_end(reason, began, model)
        return Outcome(reason, self.state.step, self._loss, model)

    def _step(self) -> None:
        """Learn from some batches and move the weights once."""
        s, p, meter = self.state, self.parts, self.state.meter
        meter.lap()
        batches = p.feed.take(s.dials.accumulation)
        weight = sum(batch.weight for batch in batches)
        weight = self.ranks.sum(weight) if p.spread.data_ranks > 1 else weight
        p.optimizer.set_rate(s.dials.learning_rate * self._schedule(s.step))
        meter.lap("data")
        nll = torch.zeros((), device=p.machine.device)
        for number, batch in enumerate(batches, 1):
            with p.spread.syncing(number == len(batches)):
                loss = p.spread.called(*batch.tensors, weight / p.spread.data_ranks)
                meter.lap("forward")
                (loss.total * p.guard.scale if p.guard.scaled else loss.total).backward()
                nll += loss.nll_sum
                meter.lap("backward")
        norm = p.spread.norm()
        length = norm / p.guard.scale if p.guard.scaled else norm
        divisor, bad = p.guard.admit(norm, s.dials.clip)
        step_unless(p.optimizer, bad, divisor)
        p.optimizer.zero_grad()
        if p.average is not None:
            p.average.update()
        tokens = len(batches) * self.config.train.batch_size * self.config.data.length
        meter.step(nll, length, weight, tokens)
        meter.lap("optimizer")
        s.step += 1
        s.tokens += tokens

    def _between(self) -> str | None:
        """What was told before this step; why the run ends, or None."""
        with self.state.meter.aside():
            self._apply(replay=True)
            while self._paused and self._reason is None:
                self._apply(wait=_LISTEN_SECONDS)
        if self._reason is None and self.state.step >= self.config.train.steps:
            self._reason = "finished"
        return self._reason

    def _after(self) -> None:
        """What is due after a step."""
        s = self.state
        if _due(s.step, self.config.train.log_every) or s.step == self.config.train.steps:
            self._report()
        with s.meter.aside():
            if _due(s.step, s.dials.evaluate_every) and self.parts.held_out is not None:
                self._evaluate(counts=True)
            if _due(s.step, s.dials.sample_every):
                self.sample()
            if _due(s.step, s.dials.save_every):
                self.keeping.save_if_possible(s, "schedule")
            self.keeping.settle()

    # -----------------------------------------------------------------------------------------
    # Beginning and end
    # -----------------------------------------------------------------------------------------

    def _open(self) -> None:
        config = self.config
        progress = in_a_while(lambda done, total: self._emit(preparing(done, total)))
        self.parts = p = assemble(config, self.folder, self.ranks, self._said, progress)
        meter = Meter(p.machine.device, self.ranks, p.spread.data_ranks)
        self.state = State(p, Dials.of(config), meter)
        self._schedule = config.rates()
        self._faults = Faults(config.train)
        found = checkpoints(config, self.folder, self._plugins, self._said, p.identity(config))
        if self.ranks.first:
            found.sweep()
        background = config.checkpoints.background
        self.keeping = Keeping(found, p.spread, self.ranks, self._emit, background=background)
        step = self.keeping.latest(whole=config.checkpoints.skip_damaged)
        if step is not None:
            p.feed.seek(self.keeping.load(self.state, step)["position"])
            if self._log is not None:
                self._log.resumed(step)
        self._emit(started(config, self.folder, self.state, self.ranks, resumed=step is not None))
        self.state.meter.begin()

    def _close(self, reason: str) -> Path | None:
        """Keep what the run came to, as far as it is wanted."""
        if reason == "emergency":
            return None
        self.keeping.save(self.state, "end", wait=True)
        if reason == "stopped":
            return None
        average = self.config.train.export_average
        return export(self.parts, self.folder, self.ranks, self._said, average=average)

    def _emit_end(
        self, reason: str, began: float, model: Path | None, error: str | None = None
    ) -> None:
        self._emit(
            events.Ended(
                step=self.state.step,
                reason=reason,
                seconds=time.perf_counter() - began,
                loss=self._loss,
                model=None if model is None else str(model),
                error=error,
            )
        )

    def _emit(self, event: events.Event) -> None:
        if self.ranks.first:
            self._on_event(event)

    # -----------------------------------------------------------------------------------------
    # What is looked at
    # -----------------------------------------------------------------------------------------

    def _report(self) -> None:
        step = report(self.config, self.state)
        self._loss = step.loss
        self._emit(step)
        for warning in self._faults.notice(self.state):
            self._emit(warning)
        if (why := self._faults.unbearable(self.state, step.loss)) is not None:
            self._roll_back(why)

    def _roll_back(self, why: str) -> None:
        """Go back to the last checkpoint, and on with data that comes after what did harm."""
        self.keeping.settle(wait=True)
        step = self.keeping.latest()
        self._faults.count_rollback(why, step)
        assert step is not None
        message = f"{why}: back from step {self.state.step} to {step}, and on with other data"
        self._said.fallback(message)
        self.keeping.load(self.state, step)
        if self._log is not None:
            self._log.resumed(step)
        self._emit(events.Warned(step=step, what="rollback", message=message))

    def _evaluate(self, *, counts: bool) -> None:
        """Measure; `counts`: one that is no better brings the end nearer."""
        if self.parts.held_out is None:
            raise LlamaError("there is nothing to measure", remedy="Name data.held_out.")
        began = time.perf_counter()
        with to_be_shown(self.parts, self.config.train.export_average):
            loss, tokens = evaluate(self.parts, self.ranks, self.config.evaluation.batches)
        took = time.perf_counter() - began
        self._emit(evaluation(self.state, loss, tokens, took, counts=counts))
        patience = self.config.evaluation.patience
        if counts and patience and self.state.watch.worse >= patience:
            self._reason = self._reason or "early"

    # -----------------------------------------------------------------------------------------
    # What can be told: `changes.Controlled`
    # -----------------------------------------------------------------------------------------

    @property
    def step_number(self) -> int:
        return self.state.step

    def pause(self) -> None:
        self._paused = True
        self._emit(events.Paused(step=self.state.step))

    def go_on(self) -> None:
        self._paused = False

    def end(self, reason: str) -> None:
        self._reason = reason

    def save(self) -> None:
        self.keeping.save(self.state, "command", wait=True)

    def turn(self, dials: Mapping[str, float | int]) -> None:
        for dial, value in dials.items():
            setattr(self.state.dials, dial, value)

    def evaluate(self) -> None:
        self._evaluate(counts=False)

    def sample(self, prompt: str | None = None) -> None:
        told, seed = self.config.evaluation, self.config.train.seed + self.state.step
        with to_be_shown(self.parts, self.config.train.export_average):
            for one in told.prompts if prompt is None else (prompt,):
                text = sample(self.parts, told, one, seed)
                self._emit(events.Sample(step=self.state.step, prompt=one, text=text))

    def _apply(self, *, replay: bool = False, wait: float = 0.0) -> None:
        """Do what is due, on all ranks alike."""
        step, decided = self.state.step, []
        if self._log is not None:
            new = self._told.wait(step, wait) if wait else self._told.due(step)
            decided = changes.decide(new, step, self._log.changes, replay=replay)
        for one in self.ranks.agree(decided or None) or ():
            self._emit(changes.apply(one, self))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
