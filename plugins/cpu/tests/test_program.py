"""A program as its users meet it: refusals, adapters, sampling, forks, threads and tiers."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llama_plugin_cpu import native
from llama_plugin_cpu.backend import CpuBackend

from llama_core.builtin import samplers, transforms
from llama_core.builtin.reference import Reference
from llama_core.contracts.step import DeviceSampling, Plan, Want
from llama_core.contracts.transform import SamplingContext, uniform
from llama_core.errors import LlamaError
from llama_core.model.graph import GraphError
from llama_core.model.rewrites.act import SetAct, measured_scales
from llama_core.model.rewrites.adapters import AddAdapters
from llama_core.model.weights import DenseWeights, OverlayWeights
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)


@pytest.fixture
def program():
    one = CpuBackend(threads=2).compile(*tiny.model(), PLAN)
    yield one
    one.close()


def test_declarations_are_the_headers():
    """What cffi reads is what stands between the header's marks, so that they cannot part ways."""
    header = (Path(__file__).parents[1] / "native" / "llama_cpu.h").read_text()
    part = header[header.index("/* cdef: begin */") : header.index("/* cdef: end */")]
    read = (native.FOLDER / "_ffi.cdef.txt").read_text()
    core = "/* llama_abi: declared by core's loader. */"
    assert read.strip() == part.replace("int32_t llama_abi(void);", core).strip()
    assert native.library()[1].llama_abi() == native.ABI


def test_the_library_checks_by_itself(program):
    """Without Python's checks the native ones refuse the same batches, and say what is wrong."""
    from llama_core.model import batch as batches

    work = drive.batch(program.kv, Part([1, 2, 3]))
    bad = {
        "token 64": replace(work, tokens_T=np.array([1, 64, 3], np.int32)),
        "token -1": replace(work, tokens_T=np.array([1, -1, 3], np.int32)),
        "position -1": replace(work, positions_T=work.positions_T - 1),
        "position 5 after": replace(work, positions_T=np.array([0, 5, 6], np.int32)),
        "needs": replace(work, positions_T=work.positions_T + 24),
        "context ends": replace(work, positions_T=work.positions_T + 1000),
        "block 5000": replace(work, blocks_G=(((5000,) * 6,),)),
        "block -1": replace(work, blocks_G=(((-1,) * 6,),)),
        "end at row 1": replace(work, starts_S1=np.array([0, 1], np.int32)),
        "wants 9": replace(work, want_T=np.array([9, 0, 0], np.uint8)),
    }
    whole = drive.run(program, Part([1, 2, 3], owner=1))[0]
    for words, batch in bad.items():
        with pytest.raises(batches.BatchError):
            program.submit(batch)
        with pytest.raises(LlamaError, match=words):
            program._step(batch)
    with pytest.raises(LlamaError, match="copy block"):
        program.copy_blocks([(0, 0, 1 << 20)])
    assert np.array_equal(drive.run(program, Part([1, 2, 3], owner=1))[0], whole)


FAR = 2**32  # nothing, once it is cut to 32 bits


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tokens_T": np.array([1, FAR + 2, 3])}, "tokens are int64"),
        ({"positions_T": np.array([0, FAR + 1, 2])}, "positions are int64"),
        ({"tokens_T": np.array([[1, 2, 3]] * 3, np.int32)}, "tokens are int32"),
        ({"want_T": np.array([1, 257, 1])}, "wants are int64"),
        ({"adapters_S": np.array([FAR - 1])}, "adapter slots are int64"),
        ({"blocks_G": (([FAR],),)}, f"block {FAR} of"),
        ({"blocks_G": ((np.array([FAR]),),)}, f"block {FAR} of"),
    ],
)
def test_what_has_more_than_32_bits_is_not_cut_to_fit(program, changed, says):
    work = drive.batch(program.kv, Part([1, 2, 3], owner=0))
    with pytest.raises(LlamaError, match=says):
        program.submit(replace(work, **changed))
    wide = tuple(tuple(np.array(table, np.int64) for table in each) for each in work.blocks_G)
    assert np.array_equal(
        program.submit(replace(work, blocks_G=wide)).result().logits_RV,
        program.submit(work).result().logits_RV,
    )


@pytest.mark.parametrize("copied", [(0, 0, FAR), (0, FAR, 0), (FAR, 0, 0)])
def test_what_has_more_than_32_bits_is_not_copied(program, copied):
    with pytest.raises(LlamaError, match="cannot copy block"):
        program.copy_blocks([copied])


def test_a_nan_in_a_weight_is_named():
    graph, held = tiny.model()
    for name in ("layers.1.mlp.down_proj.weight", "layers.0.attn_norm.weight"):
        array = held.array(name).copy()
        array.reshape(-1)[3] = np.nan
        spoiled = OverlayWeights(held, DenseWeights({name: array}))
        with pytest.raises(LlamaError, match=name):
            CpuBackend(threads=1).compile(graph, spoiled, PLAN)


def test_all_that_cannot_run_is_listed():
    graph, held = tiny.model()
    odd = [replace(n, op="no_such_op") if n.name.endswith("mlp.glu") else n for n in graph.nodes]
    with pytest.raises(GraphError) as caught:
        CpuBackend(threads=1).compile(replace(graph, nodes=tuple(odd)), held, PLAN)
    assert {"layers.0.mlp.glu", "layers.1.mlp.glu"} <= set(
        str(caught.value).replace(":", "").split()
    )


def test_adapters_are_the_references():
    """Rows with an adapter, with another and with none, in one batch; emptied slots add nothing."""
    plan = replace(PLAN, adapter_slots=2, adapter_rank=3)
    graph, held = AddAdapters(2, 3)(*tiny.model())
    programs = [
        Reference().compile(graph, held, plan),
        CpuBackend(threads=2).compile(graph, held, plan),
    ]
    dice = np.random.default_rng(1)
    name = "layers.1.mlp.up_proj"
    outer, inner = graph.shapes[f"{name}.weight"]
    a, b = (dice.standard_normal(s).astype(np.float32) for s in ((2, inner), (outer, 2)))
    found = []
    for one in programs:
        empty = drive.run(one, Part([1, 2, 3], owner=7))[0]
        one.load_adapter(1, {name: (a, b)})
        work = drive.batch(one.kv, Part([1, 2, 3]), Part([1, 2, 3], owner=1))
        both = one.submit(replace(work, adapters_S=np.array([1, -1], np.int32))).result().logits_RV
        assert np.array_equal(both[3:], empty)
        one.load_adapter(1, {})
        again = one.submit(replace(work, adapters_S=np.array([1, 0], np.int32))).result().logits_RV
        assert np.array_equal(again[:3], empty)
        with pytest.raises(LlamaError, match="no node of this name"):
            one.load_adapter(0, {"nowhere": (a, b)})
        found.append(both)
        one.close()
    assert np.abs(found[0] - found[1]).max() < 1e-5 * np.abs(found[0]).max()


CHAINS = [
    [("greedy", 0.0)],
    [("sample", 0.0)],
    [("temperature", 0.7), ("sample", 0.0)],
    [("top-k", 5.0), ("sample", 0.0)],
    [("top-p", 0.8), ("sample", 0.0)],
    [("min-p", 0.1), ("sample", 0.0)],
    [("temperature", 1.5), ("top-k", 40.0), ("top-p", 0.9), ("min-p", 0.02), ("sample", 0.0)],
    [("top-p", 1.0), ("temperature", 0.3), ("greedy", 0.0)],
]


def by_hand(logits_V, chain, seed, index):
    """The core's own transforms and samplers."""
    made = transforms.TRANSFORMS | {"greedy": samplers.Greedy, "sample": samplers.Multinomial}
    context, row = SamplingContext((), (), seed), logits_V[None]
    for name, number in chain[:-1]:
        row = made[name](int(number) if name == "top-k" else number)(row, context)
    return int(made[chain[-1][0]]()(row, np.array([uniform(seed, index)]), context)[0])


@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: "+".join(n for n, _ in c))
def test_sampling_is_the_cores(chain):
    """The same tokens as the chain of plugins would choose, ties and forbidden tokens included."""
    from llama_plugin_cpu.program import LINKS

    ffi, lib = native.library()
    dice = np.random.default_rng(2)
    names = ffi.new("int32_t[]", [LINKS[n] for n, _ in chain])
    values = ffi.new("double[]", [v for _, v in chain])
    out = ffi.new("int32_t *")
    for trial in range(120):
        V = int(dice.integers(1, 50_000 if trial % 7 == 5 else 300))
        logits = (dice.standard_normal(V) * dice.choice([0.1, 1, 5])).astype(np.float32)
        if trial % 3 == 0:
            logits = np.round(logits)
        if trial % 4 == 0 and V > 3:
            logits[dice.integers(0, V, V // 3)] = -np.inf
            logits[0] = 0
        seed, index = int(dice.integers(0, 1 << 63)), int(dice.integers(0, 1000))
        given = ffi.new("llama_chain *", {"count": len(chain), "links": names, "numbers": values,
                                          "seed": seed, "index": index})  # fmt: skip
        assert lib.llama_sample(ffi.from_buffer("float[]", logits), V, given, out) == 0
        assert out[0] == by_hand(logits, chain, seed, index)


def test_tokens_are_sampled_in_the_step(program):
    """A row that wants a token gets the one its own logits and seed give, in any company."""
    chain = tuple(CHAINS[6])
    logits = drive.run(program, Part([5, 6, 7], owner=0))[0]
    work = drive.batch(program.kv, Part([5, 6, 7], owner=1, want=Want.TOKEN), Part([9], owner=2))
    sampling = (DeviceSampling(chain, seed=77, index=4), None)
    out = program.submit(replace(work, sampling_S=sampling)).result()
    assert out.tokens_R.tolist() == [by_hand(row, chain, 77, 4 + i) for i, row in enumerate(logits)]
    assert out.logits_RV.shape == (1, 64)


def test_a_forked_child_is_refused(program):
    """The child has none of the threads: it hears so, and the parent works on."""
    whole = drive.run(program, Part([1, 2], owner=0))[0]
    if sys.platform == "win32":
        pytest.skip("nothing forks on Windows")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            drive.run(program, Part([1, 2], owner=0))
            said = b"it ran"
        except LlamaError as error:
            said = str(error).encode()
        os.write(writer, said)
        program.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert b"spawn" in os.read(reader, 1000)
    assert np.array_equal(drive.run(program, Part([1, 2], owner=0))[0], whole)


def test_threads_of_python_take_turns():
    """Two programs on one pool, each stepped by several threads, give what one thread gives."""
    programs = [CpuBackend(threads=2).compile(*tiny.model(), PLAN) for _ in range(2)]
    whole = drive.run(programs[0], Part([1, 2, 3], owner=0))[0]
    wrong = []

    def work(number):
        for _ in range(30):
            found = drive.run(programs[number % 2], Part([1, 2, 3], owner=number))[0]
            if not np.array_equal(found, whole):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    for one in programs:
        one.close()
    assert not wrong


def child(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def test_tier_and_threads_by_environment():
    code = "from llama_plugin_cpu import native; print(native.tier(), native.pool().threads)"
    assert child(code, LLAMA_CPU_TIER="portable", LLAMA_CPU_THREADS="3").stdout.split() == [
        "portable",
        "3",
    ]
    failed = child(code, LLAMA_CPU_TIER="sse9")
    assert "LLAMA_CPU_TIER=sse9 does not run here" in failed.stderr
    devices = child(
        "from llama_plugin_cpu.backend import CpuBackend; d = CpuBackend().devices(); "
        "print(len(d), d.reason)",
        LLAMA_CPU_TIER="sse9",
    )
    assert devices.stdout.startswith("0 LLAMA_CPU_TIER=sse9")


def test_a_tier_named_after_the_first_program_holds_for_the_next(monkeypatch, program):
    """The environment is read for every program, as that of threads is."""
    plain = drive.run(program, Part([1, 2, 3]))[0]
    monkeypatch.setenv("LLAMA_CPU_TIER", "sse9")
    with pytest.raises(LlamaError, match="LLAMA_CPU_TIER=sse9 does not run here") as failed:
        CpuBackend(threads=2).compile(*tiny.model(), PLAN)
    assert "portable" in str(failed.value.remedy)
    assert np.array_equal(drive.run(program, Part([1, 2, 3]))[0], plain)
    monkeypatch.setenv("LLAMA_CPU_TIER", "portable")
    second = CpuBackend(threads=2).compile(*tiny.model(), PLAN)
    assert native.tier() == "portable"
    second.close()
    monkeypatch.delenv("LLAMA_CPU_TIER")
    CpuBackend(threads=2).compile(*tiny.model(), PLAN).close()
    assert native.tier() == native.running_tiers()[0]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not bind threads"
)
def test_affinity_is_respected():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from llama_plugin_cpu import native; print(native.library()[1].llama_cpu_count())"
    )
    assert child(code).stdout.strip() == "1"


def test_many_programs_come_and_go():
    """Threads and memory are given back."""
    threads, children = set(threading.enumerate()), set(multiprocessing.active_children())
    for _ in range(20):
        one = CpuBackend(threads=2).compile(*tiny.model(), PLAN)
        drive.run(one, Part([1, 2], owner=0))
        one.close()
    assert set(threading.enumerate()) <= threads
    assert set(multiprocessing.active_children()) <= children


def test_activations_with_fixed_scales_are_the_references():
    graph, weights = tiny.model()
    scales = measured_scales(graph, weights, [drive.tokens(64, 20, 1)])
    fixed, both = SetAct("static", scales=scales)(graph, weights)
    part = Part(drive.tokens(64, 12))
    expected, found, plain = (
        drive.run(one.compile(model, held, PLAN), part)[0]
        for one, model, held in (
            (Reference(), fixed, both),
            (CpuBackend(threads=2), fixed, both),
            (Reference(), graph, weights),
        )
    )
    # A number on the edge of two codes may fall to either side, and then a step's worth differs.
    assert np.abs(found - expected).max() < 0.05 * np.abs(plain - expected).max()
