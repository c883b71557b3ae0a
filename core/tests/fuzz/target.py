"""One parser under atheris: `python -m fuzz.target PARSER bytes|structure FOLDER [OPTIONS]`.

`bytes` changes files that are right, `structure` drives the strategies that hypothesis uses, both
by what the parser's code was seen to reach. A finding ends the process with a trace and the input.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

NUM_SEEDS = 40


def main() -> None:
    name, mode, folder, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["llama_core"]):
        from hypothesis import HealthCheck, given, settings

        from .bounds import check
        from .inputs import STRATEGIES, inputs_of

        seeds: list[bytes] = []

        @settings(
            max_examples=NUM_SEEDS,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=STRATEGIES[name])
        def collect(data: bytes) -> None:
            check(name, data)  # imports what the parser imports late, too
            seeds.append(data)

        collect()
    corpus = Path(folder)
    if mode == "bytes":
        for index, data in enumerate(seeds):
            (corpus / f"seed-{index}").write_bytes(data)
        one = lambda data: check(name, data)  # noqa: E731
    else:
        dice = random.Random(0)
        for index in range(NUM_SEEDS):  # choices, of which the strategies make inputs
            (corpus / f"seed-{index}").write_bytes(dice.randbytes(400))
        one = inputs_of(name).hypothesis.fuzz_one_input
    limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-seed=1"]
    atheris.Setup([sys.argv[0], folder, *limits, *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
