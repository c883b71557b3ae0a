"""A model over several ranks: which, by whom, with what result, and what is said where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_core.announce import StrictError
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_core.testing.site import Site
from llama_gpu import LlamaGPU
from llama_gpu.multi_gpu import GPUConfig, MultiGPUManager

SPLIT = """
import threading
from llama_core import hookimpl
from llama_core.builtin.in_process import lines

shared, lock = {}, threading.Lock()

class Broken:
    def __init__(self, rank, world_size):
        self.rank, self.world_size = rank, world_size
    def all_reduce(self, array):
        if self.rank == 1:
            raise OSError("the cable was pulled")
        threading.Event().wait(3)
        raise OSError("nobody came")
    def all_gather(self, array, axis): ...
    def send(self, array, to): ...
    def recv(self, source): ...

class Split:
    def __init__(self, name, plugins):
        self.name, self.plugins = name, plugins
    def rewrites(self, rank, world_size):
        name = "tensor" if self.name == "broken" else self.name
        return [self.plugins.create("rewrite", name, {"rank": rank, "world_size": world_size})]
    def communicator(self, rank, world_size):
        if self.name == "broken":
            return Broken(rank, world_size)
        with lock:
            ends = shared.setdefault((id(self), world_size), lines(world_size))
        return ends[rank]

@hookimpl
def llama_create_parallelism(name, plugins):
    return Split(name, plugins)
"""

# The reference, with two GPUs to its name; it writes down for which device it compiled.
GPUS = """
from llama_core import hookimpl
from llama_core.contracts.backend import Device, Devices
from llama_core.builtin.reference import Reference

compiled = []

class Gpus(Reference):
    def devices(self):
        return Devices((
            Device("cpu", "cpu", "Host", 0),
            Device("cuda:0", "cuda", "Left", 8 << 30),
            Device("cuda:1", "cuda", "Right", 8 << 30),
        ))
    def compile(self, graph, weights, plan):
        compiled.append((plan.rank, plan.devices))
        return super().compile(graph, weights, plan)

@hookimpl
def llama_create_backend():
    return Gpus()
"""
TEXTS = ["Once upon a time", "zz", "0123456789" * 8]


@pytest.fixture
def site(site: Site) -> Site:
    names = ("tensor", "pipeline", "broken")
    provides = [{"kind": "parallelism", "name": name, "api": 1} for name in names]
    site.add("split", {"provides": provides}, {"llama_plugin_split/__init__.py": SPLIT})
    return site


def with_gpus(site: Site) -> None:
    provides = [{"kind": "backend", "name": "gpus", "api": 1, "priority": 95}]
    site.add("gpus", {"provides": provides}, {"llama_plugin_gpus/__init__.py": GPUS})


@pytest.mark.parametrize("strategy", ["tensor_parallel", "pipeline_parallel", "tensor"])
def test_two_ranks_answer_as_one(folder: Path, plugins: Plugins, strategy: str) -> None:
    with LlamaGPU(folder, plugins=plugins) as whole:
        expected = whole.batch_infer(TEXTS, max_tokens=12)
        whole_kv = whole.get_memory_usage()["kv"]["total_bytes"]
    config = GPUConfig(gpu_ids=[0, 1], strategy=strategy)
    with MultiGPUManager(config, plugins=plugins).load(folder) as split:
        assert split.batch_infer(TEXTS, max_tokens=12) == expected
        assert "".join(split.stream_infer(TEXTS[0], max_tokens=12)) == expected[0]
        info = split.get_backend_info()
        split_kv = split.get_memory_usage()["kv"]["total_bytes"]
    assert info["parallel"] == strategy.removesuffix("_parallel")
    assert info["used_devices"] == ["cpu", "cpu"]
    assert info["on_gpu"] is False
    assert any("the 2 ranks share 'cpu'" in said for said in info["announcements"])
    assert split_kv == pytest.approx(2 * whole_kv, rel=0.01), "each rank has the plan's kv_bytes"


def test_sharing_a_cpu_is_an_error_under_strict(folder: Path, site: Site) -> None:
    with site.plugins(strict=True) as plugins:
        manager = MultiGPUManager(GPUConfig(gpu_ids=[0, 1]), plugins=plugins)
        with pytest.raises(StrictError, match="the 2 ranks share 'cpu'"):
            manager.load(folder)


def test_each_rank_runs_on_its_gpu(folder: Path, site: Site) -> None:
    with_gpus(site)
    with site.plugins() as plugins:
        manager = MultiGPUManager(GPUConfig(gpu_ids=[1, 0]), plugins=plugins)
        assert [device.name for device in manager.devices()] == ["Right", "Left"]
        with manager.load(folder) as llama:
            info = llama.get_backend_info()
            assert llama.infer("Once", max_tokens=2)
        import llama_plugin_gpus

        assert llama_plugin_gpus.compiled == [(0, ("cuda:1",)), (1, ("cuda:0",))]
    assert (info["on_gpu"], info["used_devices"]) == (True, ["cuda:1", "cuda:0"])


@pytest.mark.parametrize(("prefer", "device"), [(True, "cuda:0"), (False, "cpu")])
def test_one_gpu_is_used_where_it_is_preferred(
    folder: Path, site: Site, prefer: bool, device: str
) -> None:
    with_gpus(site)
    with site.plugins() as plugins, LlamaGPU(folder, prefer, plugins=plugins) as llama:
        assert llama.get_backend_info()["used_devices"] == [device]
        assert llama.get_memory_usage()["devices"]["cuda:1"] == 8 << 30


def test_a_gpu_that_is_not_there_is_named(folder: Path, site: Site) -> None:
    with_gpus(site)
    with site.plugins() as plugins:
        manager = MultiGPUManager(GPUConfig(gpu_ids=[0, 2]), plugins=plugins)
        with pytest.raises(LlamaError, match=r"GPU 2, and backend 'gpus' has 0 \(cuda:0, Left\)"):
            manager.load(folder)


def test_a_rank_that_fails_ends_the_request_and_leaves_nobody_waiting(
    folder: Path, plugins: Plugins
) -> None:
    config = GPUConfig(gpu_ids=[0, 1], strategy="broken")
    with MultiGPUManager(config, plugins=plugins).load(folder) as llama:
        with pytest.raises(LlamaError, match="rank 1 of 2 failed.*the cable was pulled"):
            llama.infer("Once", max_tokens=2)
        with pytest.raises(LlamaError, match="Load the model again"):
            llama.infer("Once", max_tokens=2)


def test_a_strategy_that_nobody_has_comes_with_the_way_to_get_it(
    plugins: Plugins, tmp_path: Path
) -> None:
    with Site(tmp_path / "empty").plugins() as bare:
        with pytest.raises(LlamaError, match="pip install llama-plugin-") as caught:
            MultiGPUManager(GPUConfig(gpu_ids=[0, 1], strategy="tensor_parallel"), plugins=bare)
        assert caught.value.code == "capability_missing"
    with pytest.raises(LlamaError, match="Did you mean 'tensor'"):
        MultiGPUManager(GPUConfig(gpu_ids=[0, 1], strategy="tenser_parallel"), plugins=plugins)


ALONE = """
from llama_core import hookimpl
from llama_core.builtin.reference import Reference
from llama_core.contracts.backend import Support
from llama_core.model.graph import GraphError

class Alone(Reference):
    def supports(self, node):
        alone = node.op in ("all_reduce", "all_gather", "send", "recv")
        return Support(f"it has no {node.op}" if alone else None)
    def compile(self, graph, weights, plan):
        lacking = [node.name for node in graph.nodes if not self.supports(node)]
        if lacking:
            raise GraphError("backend 'alone' cannot run it", lacking)
        return super().compile(graph, weights, plan)

@hookimpl
def llama_create_backend():
    return Alone()
"""


def test_a_backend_that_knows_no_ranks_names_others(folder: Path, site: Site) -> None:
    provides = [{"kind": "backend", "name": "alone", "api": 1, "priority": 60}]
    site.add("alone", {"provides": provides}, {"llama_plugin_alone/__init__.py": ALONE})
    with site.plugins() as plugins:
        manager = MultiGPUManager(GPUConfig(gpu_ids=[0, 1]), plugins=plugins)
        with pytest.raises(LlamaError, match="it has no all_reduce.*here are reference"):
            manager.load(folder)
        with manager.load(folder, backend="reference") as llama:
            assert llama.infer("Once", max_tokens=2)


def test_where_no_other_backend_is_here_one_is_to_be_installed(folder: Path, site: Site) -> None:
    provides = [{"kind": "backend", "name": "reference", "api": 1, "priority": 60}]
    site.add("alone", {"provides": provides}, {"llama_plugin_alone/__init__.py": ALONE})
    with site.plugins() as plugins:
        manager = MultiGPUManager(GPUConfig(gpu_ids=[0, 1]), plugins=plugins)
        with pytest.raises(LlamaError, match="it has no all_reduce") as caught:
            manager.load(folder)
    assert str(caught.value).endswith(
        "Install one that can: pip install llama-plugin-NAME, or in a checkout: "
        "pip install ./plugins/NAME"
    )


def test_a_model_that_cannot_be_split_so_says_why(folder: Path, plugins: Plugins) -> None:
    manager = MultiGPUManager(GPUConfig(gpu_ids=[0, 1, 2]), plugins=plugins)
    with pytest.raises(LlamaError, match="2 key heads do not divide by 3"):
        manager.load(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gpu_ids": []}, "from 1 to 64 GPUs, each once, not []"),
        ({"gpu_ids": list(range(65))}, "from 1 to 64 GPUs"),
        ({"gpu_ids": [0, 0]}, "each once, not [0, 0]"),
        ({"gpu_ids": [-1]}, "from 0, and one is -1"),
        ({"gpu_ids": [True]}, "one is True"),
        ({"gpu_ids": "01"}, "must be a list of whole numbers, not '01'"),
        ({"gpu_ids": 2}, "must be a list of whole numbers, not 2"),
        ({"gpu_ids": [0], "strategy": ""}, "strategy must be a name, not ''"),
        ({"gpu_ids": [0], "strategy": None}, "strategy must be a name, not None"),
    ],
)
def test_a_config_has_bounds(arguments: dict, words: str) -> None:
    with pytest.raises(LlamaError) as caught:
        GPUConfig(**arguments)
    assert words in str(caught.value)
