"""A program that is one rank of a run: `python one_rank.py FOLDER [MARK]`.

The first rank keeps the gradients of the first step in FOLDER/gradients.safetensors. With MARK, the
second rank kills itself after step 5, unless the file MARK tells that it did so before.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from llama_plugin_train.loop import rank, trainer
from safetensors.torch import save_file


def keep_gradients(folder: Path) -> None:
    real = trainer.step_unless
    kept = folder / "gradients.safetensors"
    opened = trainer.Trainer._open
    running: list[trainer.Trainer] = []

    def open_and_remember(self: trainer.Trainer) -> None:
        opened(self)
        running.append(self)

    def caught(optimizer: Any, bad: Any, divisor: Any) -> None:
        one = running[-1]
        if one.state.step == 0:
            named = one.parts.model.named_parameters()
            grads = {f"model/{name}": p.grad for name, p in named if p.grad is not None}
            whole = one.parts.spread.whole(grads)
            if one.ranks.first:
                save_file({name: each.contiguous() for name, each in whole.items()}, kept)
        real(optimizer, bad, divisor)

    trainer.Trainer._open = open_and_remember  # type: ignore[method-assign]
    trainer.step_unless = caught  # type: ignore[assignment]


def die_once(mark: Path) -> None:
    after = trainer.Trainer._after

    def dying(self: trainer.Trainer) -> None:
        after(self)
        if self.ranks.rank == 1 and self.state.step == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.Trainer._after = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    keep_gradients(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        die_once(Path(sys.argv[2]))
    sys.exit(rank.main(sys.argv[1:2]))
