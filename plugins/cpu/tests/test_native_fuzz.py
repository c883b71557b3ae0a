"""Random programs against plain loops, on the library as it is installed, and what they cover.

The same cases run under sanitizers in `test_native_sanitizers`, a million of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from llama_plugin_cpu import lower, native

HERE = Path(__file__).parents[1]
ZEROS = ("", " min", " zero")
# As matrices lie: codes of 2 and 1 bits as such or, where columns or groups are odd, in 4; there
# one bit has no zero of its own, which would lie between two codes.
LAYOUTS = (
    "f32", "f16", "bf16", "table",
    *(f"affine{bits}{zero}" for bits in range(3, 9) for zero in ZEROS),
    *(f"affine2 {lies}{zero}" for lies in ("native", "wide") for zero in ZEROS),
    *(f"affine1 native{zero}" for zero in ZEROS), "affine1 wide", "affine1 wide min",
)  # fmt: skip
ANY_ZERO = dict.fromkeys(lies.removesuffix(" min").removesuffix(" zero") for lies in LAYOUTS)
CASES = (
    *(f"linear {lies} act={act}" for act in ("none", "q8", "q7", "static") for lies in LAYOUTS),
    *(f"embed {lies} act=none" for lies in LAYOUTS),
    *(f"moe {lies} act={act}" for act in ("none", "q8", "q7") for lies in ANY_ZERO),
    *(f"{op} {fn}" for op in ("activation", "glu") for fn in lower.FNS),
    *(f"attention {kv}{window}{cap}" for kv in ("f32", "f16", "bf16", "q8")
      for window in ("", " window") for cap in ("", " softcap")),
    "rms_norm", "layer_norm", "add", "mul", "mul two", "softcap", "rope", "lora", "slice", "gather",
)  # fmt: skip


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here")
def test_random_programs_give_what_plain_loops_give(tmp_path: Path) -> None:
    """Shapes, tails, unaligned inputs, refusal of a batch with one number spoiled; all is met."""
    library = next(native.FOLDER.glob("libllama_cpu.*"))
    command = ["cc", "-std=c11", "-O1", *sorted(HERE.glob("tests/fuzz*.c")), library]
    linked = [f"-Wl,-rpath,{native.FOLDER}", "-lm", "-o", tmp_path / "fuzz"]
    subprocess.run([*command, *linked], check=True, timeout=120)
    tiers = native.running_tiers()
    run = [tmp_path / "fuzz", str(26000 * len(tiers)), "3"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " 0 faults" in done.stdout
    met = set(re.findall(r"^(\w+: .+): \d+$", done.stdout, re.MULTILINE))
    assert met == {f"{tier}: {case}" for tier in tiers for case in CASES}


def test_every_op_of_the_library_has_cases() -> None:
    """An op that the backend takes on must be fuzzed, too."""
    assert {case.split()[0] for case in CASES} == set(lower.OPS)
