"""Writes the pages that are made from the code: the manifest's schema, the suites' rules, the ops.

`python docs/generate.py` writes them; a test holds the committed ones to be current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llama_core.contracts import KINDS
from llama_core.manifest import json_schema
from llama_core.model.ops import OPS
from llama_core.testing import rules
from llama_core.testing.listing import sentences
from llama_core.testing.whole import WholeProgramRules

FOLDER = Path(__file__).parent / "reference"


def pages() -> Mapping[str, str]:
    """File name to text."""
    return {
        "plugin.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "rules.md": rules_page(),
        "ops.md": ops_page(),
    }


def rules_page() -> str:
    shared = dict(rules())
    text = (
        "# The rules of the suites\n\n"
        "What a conformance suite checks, a rule a line; the name is that of the test that fails.\n"
    )
    text += "\n## Every kind\n\n" + _table(shared)
    for kind in KINDS:
        own = {name: said for name, said in rules(kind) if name not in shared}
        text += f"\n## {kind}\n\n" + _table(own)
        if kind == "program":
            text += (
                "\nOf one that reads a text in one step, uncut, `WholeProgramContract` asks in "
                "place of the rules on steps and blocks:\n\n"
                + _table(dict(sentences(WholeProgramRules)))
            )
    return text


def ops_page() -> str:
    text = (
        "# Ops\n\n"
        "The vocabulary of graphs. A `?` marks what may be absent, a `.*` a weight for each "
        "expert; an attribute without a default must be given. What an op computes exactly is "
        "its NumPy reference, in `llama_core.model.op_references`.\n\n"
        "| op | reads | weights | attributes | gives |\n|---|---|---|---|---|\n"
    )
    for name, one in OPS.items():
        attrs = (
            f"`{key}`" if attr.default is ... else f"`{key}={_shown(attr.default)}`"
            for key, attr in one.attrs.items()
        )
        columns = (
            f"`{name}`",
            ", ".join(one.inputs),
            ", ".join(f"`{role}`" for role in one.weights),
            ", ".join(attrs),
            one.summary.replace("|", "\\|"),
        )
        text += f"| {' | '.join(columns)} |\n"
    return text


def _shown(default: object) -> str:
    return json.dumps(dict(default) if isinstance(default, Mapping) else default)


def _table(named: Mapping[str, str]) -> str:
    rows = [f"| `{name}` | {' '.join(said.split())} |" for name, said in named.items()]
    return "\n".join(["| rule | |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
