"""The sample plugins of `examples/plugins`: all conform, but for the broken one."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from specimens.harness import run_file

from llama_core.errors import LlamaError, PluginFault
from llama_core.plugins import Plugins
from llama_core.testing import Site

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="only in the repository")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in which all examples are installed, as their `pyproject.toml` says."""
    site = Site(tmp_path / "site")
    for folder in sorted(EXAMPLES.iterdir()):
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        [(name, package)] = project["project"]["entry-points"]["llama_core"].items()
        [source] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        manifest = (folder / source / "plugin.toml").read_bytes()
        code = {
            f"{package}/{path.name}": path.read_text() for path in (folder / source).glob("*.py")
        }
        site.add(name, manifest, code, dist=project["project"]["name"], package=package)
    return site


@pytest.fixture
def plugins(site: Site) -> Iterator[Plugins]:
    with site.plugins() as plugins:
        yield plugins


@pytest.mark.parametrize(
    ("name", "kind"),
    [("top-a", "transform"), ("shout", "postprocessor"), ("starcoder2", "architecture")],
    ids=lambda one: one,
)
def test_its_own_test_certifies_it(name: str, kind: str, site: Site, tmp_path: Path) -> None:
    [test] = (EXAMPLES / name / "tests").glob("test_*.py")
    run = tmp_path / "run"
    run.mkdir()
    for data in test.parent.glob("*.json"):
        shutil.copy(data, run)
    with site.on_path():
        output = run_file(run, test.read_text())
    assert f"conforms: {kind} '{name}' (contract 1): " in output, output
    assert " failed" not in output, output  # nor any test of its own beside the rules


def test_all_are_listed_and_the_broken_one_breaks_nothing(plugins: Plugins) -> None:
    assert {"top-a", "shout", "starcoder2", "broken-on-purpose"} <= set(plugins.installed)
    with pytest.raises(PluginFault, match="a_module_that_nobody_has"):
        plugins.create("transform", "broken-on-purpose")
    with pytest.raises(LlamaError, match="quarantined"):
        plugins.create("transform", "broken-on-purpose")
    assert plugins.create("transform", "top-a") is not None


def test_top_a_raises_the_bar_with_confidence(plugins: Plugins) -> None:
    import numpy as np

    from llama_core.contracts.transform import SamplingContext

    keep = plugins.create("transform", "top-a", {"a": 0.5})
    p_NV = np.array([[0.9, 0.06, 0.04], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    found = keep(np.log(p_NV).astype(np.float32), SamplingContext((), ()))
    # The bars are 0.5 times the squares of the best: 0.405, 0.08 and 0.18.
    assert np.isfinite(found).sum(-1).tolist() == [1, 3, 3]
