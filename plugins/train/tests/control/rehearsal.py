"""A run without a model: a thread that does what the loop does with commands, one step at a time.

Steps are walked by the test, so that nothing depends on how fast a machine is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from llama_plugin_train.loop.commands import Commands, make
from llama_plugin_train.loop.events import Changed, Ended, Event, Paused, Started, Step, Times


class Rehearsal(threading.Thread):
    """Takes `walk(n)` steps and looks for commands between them; `on_event` hears of everything."""

    def __init__(self, on_event: Callable[[Event], None], commands: Commands) -> None:
        super().__init__(name="rehearsal", daemon=True)
        self.step, self.rate = 0, 0.5
        self._on_event, self._commands = on_event, commands
        self._walks: queue.Queue[tuple[int, threading.Event]] = queue.Queue()
        self._ended = self._paused = False
        self.start()

    def walk(self, steps: int = 1) -> None:
        """Have so many steps taken, and wait for them. With 0, only commands are looked for."""
        done = threading.Event()
        self._walks.put((steps, done))
        assert done.wait(20), "the rehearsal hangs"

    def end(self) -> None:
        if not self._ended:
            self._commands.put(make("stop"))
            self.walk(0)
        self.join(20)

    def run(self) -> None:
        self._on_event(
            Started(
                step=0, run="rehearsal", steps=100, resumed=False, parameters=10,
                tokens_per_step=4, device="cpu", dtype="float32", ranks=1,
            )
        )  # fmt: skip
        while not self._ended:
            steps, done = self._walks.get(timeout=60)
            self._obey()
            for _ in range(steps):
                if not (self._ended or self._paused):
                    self._take()
                    self._obey()
            done.set()

    def _take(self) -> None:
        self.step += 1
        loss = 4.0 / self.step
        self._on_event(
            Step(
                step=self.step, loss=loss, last_loss=loss, rate=self.rate, gradient_norm=1.0,
                tokens=4 * self.step, tokens_per_second=400.0, utilization=None, seconds=0.01,
                times=Times(data=0, forward=0, backward=0, optimizer=0, other=0.01),
                memory_bytes=1 << 20,
            )
        )  # fmt: skip

    def _obey(self) -> None:
        for command in self._commands.due(self.step):
            error = None
            if command.name == "resume" and not self._paused:
                error = "the run is not paused"
            self._on_event(
                Changed(
                    step=self.step,
                    id=command.id,
                    command=command.name,
                    arguments=command.arguments,
                    error=error,
                )
            )
            if command.name == "pause":
                self._paused = True
                self._on_event(Paused(step=self.step))
            elif command.name == "resume":
                self._paused = False
            elif command.name == "set":
                self.rate = float(command.arguments.get("learning_rate", self.rate))
            elif command.name in ("stop", "emergency_stop"):
                self._ended = True
                reason = "stopped" if command.name == "stop" else "emergency"
                self._on_event(
                    Ended(step=self.step, reason=reason, seconds=1.0, loss=1.0, model=None)
                )
