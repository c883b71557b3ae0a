"""The events of a run that hold numbers, put together from where the numbers are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.events import Evaluation, Preparing, Started, Step
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.loop.state import State

_PATIENCE_SECONDS = 0.5


def in_a_while(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A progress that is told now and then, and not at all where it is soon over."""
    next_time = time.monotonic() + _PATIENCE_SECONDS

    def progress(done: int, total: int) -> None:
        nonlocal next_time
        if time.monotonic() >= next_time:
            next_time = time.monotonic() + _PATIENCE_SECONDS
            tell(done, total)

    return progress


def preparing(done_bytes: int, total_bytes: int) -> Preparing:
    return Preparing(step=0, done_bytes=done_bytes, total_bytes=total_bytes)


def started(
    config: TrainConfig, folder: Path, state: State, ranks: Ranks, *, resumed: bool
) -> Started:
    machine = state.parts.machine
    return Started(
        step=state.step,
        run=str(folder),
        steps=config.train.steps,
        resumed=resumed,
        parameters=state.parts.shape.count_parameters(),
        tokens_per_step=config.tokens_per_step,
        device=str(machine.device),
        dtype=str(machine.dtype).removeprefix("torch."),
        ranks=ranks.count,
    )


def report(config: TrainConfig, state: State) -> Step:
    """What was measured since the last report; begins the next. Waits for the device."""
    p, meter = state.parts, state.meter
    loss, last = meter.losses()
    norm = meter.norm.item()
    seconds, times = meter.seconds()
    speed = meter.tokens / (seconds * meter.steps)
    peak = p.machine.peak()
    flops = p.shape.flops_per_token(config.data.length) * speed
    made = Step(
        step=state.step,
        loss=loss,
        last_loss=last,
        rate=p.optimizer.rate,
        gradient_norm=norm,
        tokens=state.tokens,
        tokens_per_second=speed,
        utilization=None if peak is None else flops / (peak * config.distributed.ranks),
        seconds=seconds,
        times=times,
        memory_bytes=p.machine.memory_bytes(),
        epochs=p.feed.epochs(),
        scale=p.guard.scale.item() if p.guard.scaled else None,
    )
    meter.clear()
    return made


def evaluation(
    state: State, loss: float, tokens: float, seconds: float, *, counts: bool
) -> Evaluation:
    """What an evaluation gave; where it counts, remembered as the best or one that was not."""
    watch = state.watch
    best = math.isfinite(loss) and (watch.best is None or loss < watch.best)
    if counts:
        watch.best, watch.worse = (loss, 0) if best else (watch.best, watch.worse + 1)
    return Evaluation(
        step=state.step,
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.inf,
        tokens=round(tokens),
        seconds=seconds,
        best=best,
    )
