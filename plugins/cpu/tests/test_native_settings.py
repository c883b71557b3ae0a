"""What the environment asks of the library: threads, tiers, and a cgroup's quota."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from llama_plugin_cpu import native

NATIVE = Path(__file__).parents[1] / "native"
COMPILER = shutil.which("cc")


def child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_CPU_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=env | environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("wrong", ["abc", "0", "-3", "9999", "2 4", "1.5"])
def test_a_number_of_threads_that_makes_no_sense_is_refused(wrong: str) -> None:
    """Not taken for another number, in Python as in C."""
    done = child("from llama_plugin_cpu import native; native.pool()", LLAMA_CPU_THREADS=wrong)
    assert done.returncode == 1
    assert "CpuError: LLAMA_CPU_THREADS is no number from 1 to 256" in done.stderr
    assert "Set LLAMA_CPU_THREADS" in done.stderr
    code = (
        "from llama_plugin_cpu import native; ffi, lib = native.library(); "
        "out = ffi.new('llama_pool **'); print(lib.llama_pool_new(0, out) == lib.LLAMA_THREADS, "
        "out[0] == ffi.NULL, lib.llama_pool_new(2, out))"
    )
    assert child(code, LLAMA_CPU_THREADS=wrong).stdout.split() == ["True", "True", "0"]


def test_threads_that_are_not_set_are_all_processors() -> None:
    code = (
        "from llama_plugin_cpu import native; lib = native.library()[1]; "
        "print(native.pool().threads == lib.llama_cpu_count())"
    )
    assert child(code).stdout.strip() == "True"
    assert child(code, LLAMA_CPU_THREADS="").stdout.strip() == "True"


def test_a_tier_that_is_unknown_is_refused() -> None:
    code = (
        "from llama_plugin_cpu import native; ffi, lib = native.library(); "
        "pool = native.Pool(1); limits = ffi.new('llama_limits *', [8] * 7 + [0]); "
        "out = ffi.new('llama_program **'); "
        "print(lib.llama_tier() == ffi.NULL, "
        "lib.llama_program_new(pool.handle, limits, out) == lib.LLAMA_TIER, "
        "lib.llama_tier_use(b'portable'), lib.llama_program_new(pool.handle, limits, out))"
    )
    assert child(code, LLAMA_CPU_TIER="sse9").stdout.split() == ["True", "True", "0", "0"]


CFS = "sys/fs/cgroup/cpu{}cpu.cfs_{}_us"
QUOTAS = {
    "nothing limits it": ({"sys/fs/cgroup/a/cpu.max": "max 100000"}, "0::/a", 3),
    "its own group": ({"sys/fs/cgroup/a/b/cpu.max": "150000 100000"}, "0::/a/b", 2),
    "the group above": (
        {"sys/fs/cgroup/a/b/cpu.max": "900000 100000", "sys/fs/cgroup/a/cpu.max": "100000 100000"},
        "0::/a/b",
        1,
    ),
    "a container that sees the root only": (
        {"sys/fs/cgroup/cpu.max": "200000 100000"},
        "0::/kubepods/pod1/c2",
        2,
    ),
    "less than one": ({"sys/fs/cgroup/cpu.max": "1000 100000"}, "0::/", 1),
    "more than there are": ({"sys/fs/cgroup/cpu.max": "99900000 100000"}, "0::/", 3),
    "version 1": (
        {CFS.format("/a/", "quota"): "50000", CFS.format("/a/", "period"): "25000"},
        "5:memory:/m\n4:cpu,cpuacct:/a\n0::/",
        2,
    ),
    "version 1 without a limit": (
        {CFS.format("/", "quota"): "-1", CFS.format("/", "period"): "100000"},
        "1:cpu:/",
        3,
    ),
    "a file that makes no sense": ({"sys/fs/cgroup/cpu.max": "lots"}, "0::/\nnonsense", 3),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
@pytest.mark.skipif(COMPILER is None, reason="no C compiler is here")
def test_a_cgroups_quota_is_respected(tmp_path: Path) -> None:
    """On trees of our own, with three processors, so that it says the same on every machine."""
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\nint llama_cpu_count(void);\n"
        'int main(void) { printf("%d", llama_cpu_count()); }\n'
    )
    for number, (name, (files, groups, count)) in enumerate(QUOTAS.items()):
        root = tmp_path / str(number)
        for path, text in {**files, "proc/self/cgroup": groups + "\n"}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text + "\n")
        ours = (f'-DLLAMA_ROOT="{root}"', "-DLLAMA_BOUND=3", "-D_POSIX_C_SOURCE=200809L")
        sources = (NATIVE / "cpus.c", tmp_path / "main.c")
        command = [COMPILER, "-std=c11", *ours, *sources, "-o", root / "count"]
        subprocess.run(command, check=True, timeout=60)
        found = subprocess.run([root / "count"], capture_output=True, text=True, check=True)
        assert found.stdout == str(count), name


def sample(logits: list[float], links: list[int], numbers: list[float]) -> tuple[int, int]:
    ffi, lib = native.library()
    chain = ffi.new("llama_chain *", {"count": len(links)})
    names, values = ffi.new("int32_t[]", links), ffi.new("double[]", numbers)
    chain.links, chain.numbers, out = names, values, ffi.new("int32_t *")
    row = ffi.new("float[]", logits)
    return lib.llama_sample(row, len(logits), chain, out), out[0]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("end", [4, 5], ids=["greedy", "sample"])
@pytest.mark.parametrize("row", [[1, NAN, 2], [1, INF, 2], [NAN, INF, NAN], [-INF] * 3])
@pytest.mark.parametrize("first", [None, (0, 0.5), (1, 2.0), (2, 0.5), (3, 0.1)])
def test_a_row_without_a_number_to_choose_gives_no_token(row, first, end) -> None:
    links, numbers = ([] if first is None else [first[0]]), ([] if first is None else [first[1]])
    assert sample(row, [*links, end], [*numbers, 0.0]) == (0, -1)
    assert sample([1.0, 2.0, -INF], [*links, end], [*numbers, 0.0])[1] in (0, 1)


@pytest.mark.parametrize("end", [4, 5], ids=["greedy", "sample"])
def test_a_temperature_that_overflows_gives_no_token(end) -> None:
    for temperature in (1e-42, 1e-300):
        assert sample([1.0, 2.0, 3.0], [0, 2, end], [temperature, 0.9, 0.0]) == (0, -1)


@pytest.mark.parametrize(
    ("link", "number"),
    [
        (0, 0.0),
        (0, -1.0),
        (0, NAN),
        (1, 0.0),
        (1, NAN),
        (2, 0.0),
        (2, NAN),
        (3, -0.1),
        (3, 1.5),
        (3, NAN),
    ],
)
def test_a_link_that_would_leave_nothing_is_refused(link, number) -> None:
    _, lib = native.library()
    assert sample([1.0, 2.0], [link, 5], [number, 0.0])[0] == lib.LLAMA_ARGUMENT
