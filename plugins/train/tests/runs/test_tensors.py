"""Tensors of torch in a checkpoint: types, copies, and torch left alone without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.runs import Checkpoints, Piece

from llama_core.contracts.storage import SPEC
from llama_core.plugins import Plugins

torch = pytest.importorskip("torch", reason="torch is not installed")


def opened(folder: Path) -> Checkpoints:
    storage = Plugins.load().create(SPEC, "folder", {"root": str(folder / "store")})
    return Checkpoints(storage, folder / "scratch")


@pytest.mark.parametrize(
    "dtype",
    ["bfloat16", "float16", "float32", "float64", "int64", "uint8", "bool", "float8_e4m3fn",
     "float8_e5m2"],
)  # fmt: skip
def test_every_type_comes_back_to_the_bit(tmp_path: Path, dtype: str) -> None:
    dice = torch.Generator().manual_seed(0)
    given = torch.randn(4, 6, generator=dice).to(getattr(torch, dtype)).t()  # not contiguous
    opened(tmp_path).save(1, {"x": given, "scalar": given[0, 0]}, {})
    found, _ = opened(tmp_path).load(1)
    for name, one in (("x", given), ("scalar", given[0, 0])):
        assert found[name].dtype == one.dtype
        assert found[name].shape == one.shape
        assert torch.equal(found[name].float(), one.float())


def test_a_parameter_may_change_while_it_is_saved(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    whole = torch.arange(6.0)
    checkpoints = opened(tmp_path)
    checkpoints.save_async(1, {"w": weight, "rows": Piece(whole, (0,), (6,))}, {})
    with torch.no_grad():
        weight.zero_()
        whole.zero_()
    checkpoints.wait()
    found, _ = checkpoints.load(1)
    assert torch.equal(found["w"], torch.ones(3, 2, dtype=torch.bfloat16))
    assert torch.equal(found["rows"], torch.arange(6.0))


def test_tensors_and_arrays_stay_what_they_were(tmp_path: Path) -> None:
    opened(tmp_path).save(1, {"t": torch.zeros(2), "n": np.zeros(2)}, {})
    found, _ = opened(tmp_path).load(1)
    assert isinstance(found["t"], torch.Tensor)
    assert isinstance(found["n"], np.ndarray)


def test_torch_is_not_imported_for_arrays() -> None:
    code = (
        "import sys, llama_plugin_train.runs, llama_plugin_train.data, llama_plugin_train.tokens;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
