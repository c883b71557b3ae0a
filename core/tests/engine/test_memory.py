"""What memory there is, what a model needs of it, and what follows from both."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from llama_core import Plugins
from llama_core.announce import Announcements
from llama_core.config import Config
from llama_core.contracts.backend import Device
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.step import Plan
from llama_core.discovery import discover
from llama_core.engine import memory
from llama_core.engine.blocks import BlockManager
from llama_core.engine.load import load
from llama_core.engine.memory import TooLarge, available_bytes, fit, kv_bytes_for
from llama_core.engine.request import Limits
from llama_core.errors import StrictError
from llama_core.model import architectures
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph
from llama_core.model.weights import DenseWeights, Weights

from .sparse import sparse_model
from .tinymodel import CONFIG, tiny_model

GB = 10**9


def system(root: Path, files: Mapping[str, str]) -> Path:
    """A machine's files, as the kernel shows them."""
    for name, text in {"proc/meminfo": "MemAvailable: 16000000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert available_bytes(system(tmp_path, {})) == 16_000_000 * 1024


def test_the_tightest_group_above_the_process_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "5000000000\n",
        "sys/fs/cgroup/outer/memory.current": "3000000000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 1\ninactive_file 1000000000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/inner/memory.current": "3000000000\n",
        "sys/fs/cgroup/outer/inner/memory.stat": "anon 1\n",
    }
    assert available_bytes(system(tmp_path, files)) == 5 * GB - (3 * GB - 1 * GB)


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/job\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "500000000\n",
        "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 0\n",
    }
    assert available_bytes(system(tmp_path, files)) == 1_500_000_000


def test_this_machine_has_some() -> None:
    found = available_bytes()
    assert found is None or found > 1 << 20


# ---- fitting a model into it ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> tuple[Graph, Weights]:
    graph = architectures.create("llama").build({**CONFIG, "max_position_embeddings": 8192})
    return graph, random_weights(graph, 0)


def fitted(
    model: tuple[Graph, Weights],
    room: int,
    plan: Plan | None = None,
    length: int = 8192,
    asked: bool = False,
    announcements: Announcements | None = None,
) -> tuple[Plan, Limits]:
    return fit(
        *model,
        Device("gpu:0", "cuda", "a small GPU", room),
        plan or Plan(),
        Limits(max_length=length),
        decide_kv=plan is None,
        decide_length=not asked,
        announcements=announcements or Announcements(),
    )


@pytest.mark.parametrize("length", [17, 512, 8192])
@pytest.mark.parametrize("window", [None, 64])
def test_the_memory_for_a_context_holds_a_sequence_of_it(length: int, window: int | None) -> None:
    kind = "llama" if window is None else "mistral"
    config = {**CONFIG, "model_type": kind, "sliding_window": window}
    graph, plan = architectures.create(kind).build(config), Plan()
    per_block = plan.block_size * memory.kv_bytes_per_token(graph, "f32")
    blocks = kv_bytes_for(graph, length, plan) // per_block
    windows = [heads.window for heads in graph.kv_groups]
    assert windows == [window]
    assert BlockManager(windows, blocks, plan.block_size, plan.max_tokens).fits(length)


def test_a_plan_that_nobody_gave_has_room_for_the_whole_context(
    model: tuple[Graph, Weights],
) -> None:
    plan, limits = fitted(model, 10 * GB)
    assert limits.max_length == 8192
    assert plan.kv_bytes >= 8192 * 256


def test_a_context_that_nobody_asked_for_shrinks_aloud(model: tuple[Graph, Weights]) -> None:
    said = Announcements()
    room = model[1].num_bytes + 1000 * 256
    plan, limits = fitted(model, room, announcements=said)
    assert 900 < limits.max_length <= 1000
    assert model[1].num_bytes + plan.kv_bytes <= room
    assert any("instead of 8192" in line for line in said.counts)
    with pytest.raises(StrictError):
        fitted(model, room, announcements=Announcements(strict=True))


def test_a_context_that_was_asked_for_does_not_shrink(model: tuple[Graph, Weights]) -> None:
    with pytest.raises(TooLarge, match=r"A context of 9\d\d tokens would fit"):
        fitted(model, model[1].num_bytes + 1000 * 256, asked=True)


def test_the_error_says_what_is_needed_what_is_there_and_what_would_fit() -> None:
    graph = architectures.create("llama").build({**CONFIG, "hidden_size": 256, "head_dim": 64})
    weights = random_weights(graph, 0)
    kv = kv_bytes_for(graph, 64, Plan())
    room = weights.num_bytes // 3 + kv
    with pytest.raises(TooLarge) as caught:
        fitted((graph, weights), room, length=64)
    said = str(caught.value)
    assert memory.size(weights.num_bytes + kv) in said
    assert f"a small GPU has {memory.size(room)}." in said
    assert "In the encoding gguf:q8_0 its weights would take" in said
    with pytest.raises(TooLarge, match="No known encoding makes it fit"):
        fitted((graph, weights), kv + 1000, length=64)


def test_a_plan_that_was_given_is_kept(model: tuple[Graph, Weights]) -> None:
    given = Plan(kv_bytes=1 << 20)
    assert fitted(model, 10 * GB, plan=given)[0] == given
    with pytest.raises(TooLarge):
        fitted(model, 1 << 20, plan=given)


@pytest.mark.parametrize(("room_gib", "kv_gib"), [(100, 4), (6, 2), (2.25, 0.25)])
def test_without_a_graph_the_config_says_how_much_is_likely(room_gib: float, kv_gib: float) -> None:
    gib = 1 << 30
    weights = DenseWeights({"a": np.broadcast_to(np.float32(0), gib // 2)})  # 2 GiB
    config = {"n_layer": 32, "n_embd": 4096}  # 1 MiB a token
    files = ModelFiles(Path("x"), "safetensors", config, weights)
    device = Device("gpu:0", "cuda", "a GPU", int(room_gib * gib))
    found = memory.likely_kv_bytes(files, Limits(max_length=4096), Plan(), device)
    assert found == kv_gib * gib


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_model_larger_than_this_machine_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    tiny = tiny_model(tmp_path / "tiny")
    sizes = {"hidden_size": 16_384, "intermediate_size": 65_536, "num_hidden_layers": 120}
    folder = sparse_model(tmp_path / "huge", tiny, **sizes)
    with pytest.raises(TooLarge, match=r"needs \d{3}\.\d GB .* of weights"):
        load(folder, plugins=Plugins(discover([]), Config()))
