"""Blending: a share of another model's weights, and what cannot be blended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recipe.blend import main
from safetensors.numpy import load_file, save_file


def run(folder: Path, value: float, width: int = 4) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(folder.name)
    weights = {"embed_tokens.weight": np.full((3, width), value, np.float32)}
    save_file(weights, folder / "model" / "model.safetensors")
    return folder


def test_a_share_of_the_other_comes_in(tmp_path: Path) -> None:
    ours, theirs, out = run(tmp_path / "a", 1.0), run(tmp_path / "b", 3.0), tmp_path / "out"
    assert main([str(ours), str(theirs), "--share", "0.25", "--out", str(out)]) == 0
    (mixed,) = load_file(out / "model.safetensors").values()
    assert mixed.dtype == np.float32
    assert np.array_equal(mixed, np.full((3, 4), 1.5))
    assert (out / "config.json").read_text() == "a"


@pytest.mark.parametrize(
    ("share", "width", "why"), [("1.5", 4, "from 0 to 1"), ("0.5", 5, "different shapes")]
)
def test_what_cannot_be_blended_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str, width: int, why: str
) -> None:
    ours, theirs, out = run(tmp_path / "a", 1.0), run(tmp_path / "b", 3.0, width), tmp_path / "out"
    with pytest.raises(SystemExit, match="2"):
        main([str(ours), str(theirs), "--share", share, "--out", str(out)])
    assert why in capsys.readouterr().err
    assert not out.exists()


def test_what_is_there_stays(tmp_path: Path) -> None:
    ours = run(tmp_path / "a", 1.0)
    with pytest.raises(SystemExit, match="2"):
        main([str(ours), str(ours), "--share", "0.5", "--out", str(ours)])
    assert (ours / "model" / "config.json").read_text() == "a"
