"""Blends the weights of two runs: `python -m recipe.blend RUN OTHER --share 0.3 --out FOLDER`.

A run that begins where another ended knows more of what it was taught, and has forgotten some of
the rest. Between the two sets of weights lie models that know nearly all of both.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.blend",
        description="Write a run's model, with a share of another's weights in its own.",
        epilog="Example: python -m recipe.blend runs/tiny runs/third --share 0.3 --out runs/blend",
    )
    parser.add_argument("run", type=Path, help="the folder of a run of `llama train`")
    parser.add_argument("other", type=Path, help="one that it comes from, or that comes from it")
    parser.add_argument("--share", type=float, required=True, help="of the other, from 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    given = parser.parse_args(arguments)
    if not 0 <= given.share <= 1:
        parser.error(f"--share is {given.share}, and must be from 0 to 1")
    if given.out.exists():
        parser.error(f"{given.out} is there already")
    try:
        blend(given.run / "model", given.other / "model", given.share, given.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


def blend(model: Path, other: Path, share: float, out: Path) -> None:
    """All of one exported folder, its weights but for a share of the other's."""
    ours, theirs = load_file(model / WEIGHTS), load_file(other / WEIGHTS)
    if {k: a.shape for k, a in ours.items()} != {k: a.shape for k, a in theirs.items()}:
        raise ValueError(f"{model} and {other} are models of different shapes")
    part = np.float32(share)
    mixed = {name: (1 - part) * array + part * theirs[name] for name, array in ours.items()}
    shutil.copytree(model, out)
    save_file(mixed, out / WEIGHTS, metadata={"format": "pt"})


if __name__ == "__main__":
    sys.exit(main())
