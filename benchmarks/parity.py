"""Whether we compute what transformers and llama.cpp compute, and whether we would notice if not.

Every architecture is built small and at random, saved by transformers as a folder, and opened as
ours: logits of a prompt and of greedy steps after it may differ by 1e-4 at most, and the next
tokens are equal wherever the two best are ten bounds apart. Then each quirk is taken out of our
model, one at a time, and that must show a hundredfold. Backends are held to the reference as well,
over architectures, encodings and 8-bit activations, and to what they declare of batch invariance.
GGUF files, of a trained model in every type and of random models of every architecture, are
compared with llama.cpp's own logits.

    python benchmarks/parity.py --json
    python benchmarks/parity.py --backend cpu --part encodings invariance
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from report import Row, environment, publish, versions

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "core" / "src", *sorted((ROOT / "plugins").glob("*/src"))]
CORE = ("-e", str(ROOT / "core"))
PEERS = ("torch==2.13.0", "transformers==5.23.0", "cffi", *CORE)
PARTS = ("architectures", "encodings", "invariance", "files")
BACKENDS = ("reference", "torch", "cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="+", help="architectures; all by default")
    arguments = parser.parse_args()
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        return elsewhere(arguments.json)
    sys.path[:0] = map(str, SOURCES)  # what is measured is this tree, whatever is installed
    import torch
    from parity_files import binding_version

    torch.set_num_threads(1)
    rows = []
    for row in measured(arguments):
        rows.append(row)
        print(f"{row.metric}: {row.value} {row.holds}", file=sys.stderr, flush=True)
    known = versions("numpy", "torch", "transformers", "gguf")
    if "files" in arguments.part:
        known["llama-cpp-python"] = binding_version()
    publish("parity", rows, as_json=arguments.json, versions=known)
    return 0 if all(row.holds is not False for row in rows) else 1


def measured(arguments: argparse.Namespace) -> Iterator[Row]:
    """All rows, as they come; a backend that cannot be had has a row that says so."""
    import parity_backends
    import parity_encodings
    import parity_exchange
    import parity_files
    import parity_invariance
    import parity_models

    from llama_core.errors import LlamaError
    from llama_core.model.architectures import ARCHITECTURES

    here = []
    for name in arguments.backend:
        try:
            parity_backends.make(name)
        except LlamaError as error:
            yield Row(f"parity.{name}", None, "logit", note=f"not measured: {error}")
        else:
            here.append(name)
    if "architectures" in arguments.part:
        for architecture in arguments.only or ARCHITECTURES:
            yield from parity_models.rows(architecture, arguments.seeds, here)
    for name in here:
        if "encodings" in arguments.part and name != "reference":
            yield from parity_encodings.rows(name)
        if "invariance" in arguments.part:
            yield from parity_invariance.rows(name)
    if "files" in arguments.part:
        yield from parity_files.rows(here)
        yield from parity_exchange.rows(here)


def elsewhere(as_json: bool) -> int:
    """Run again in an environment that has the peers, made once beside this file."""
    python = environment("parity", *PEERS)
    if isinstance(python, str) or python.parent.parent == Path(sys.prefix):
        note = f"torch and transformers could not be installed: {python}"
        publish(
            "parity", [Row("parity", None, "logit", note=note)], as_json=as_json,
            versions=versions("numpy"),
        )  # fmt: skip
        return 1
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(python), *sys.argv], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
