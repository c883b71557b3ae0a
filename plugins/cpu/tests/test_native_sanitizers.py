"""The kernels under sanitizers, and the tiers of other processors under emulators.

Built anew in C, without Python. It takes minutes, so `make test-all` runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from llama_plugin_cpu import native

HERE = Path(__file__).parents[1]
SIMDE = Path("/usr/include/simde/x86/avx512.h")
CROSS, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here"),
    pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake is here"),
]


def build(folder: Path, target: str, **settings: str) -> Path:
    lightly = {"CMAKE_BUILD_TYPE": "Checked", "CMAKE_C_FLAGS_CHECKED": "-O1"}
    given = {"LLAMA_CPU_TESTS": "ON", **lightly, **settings}
    flags = [f"-D{name}={text}" for name, text in given.items()]
    jobs = ["--parallel", str(os.cpu_count() or 1)]
    for command in (
        ["cmake", "-S", HERE, "-B", folder, *flags],
        ["cmake", "--build", folder, "--target", target, *jobs],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder / target


def run(*command: str | Path) -> str:
    env = {**os.environ, "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def without(*tiers: str) -> dict[str, str]:
    """Settings that leave tiers out: sanitized kernels take minutes to compile, each tier anew."""
    return {f"LLAMA_COMPILES_{tier.upper()}": "OFF" for tier in tiers}


def has_sanitizer(folder: Path, name: str) -> bool:
    """Whether the compiler's libraries of it are installed and run here."""
    source, out = folder / "empty.c", folder / "empty"
    source.write_text("int main(void) { return 0; }\n")
    command = ["cc", f"-fsanitize={name}", source, "-o", out]
    return all(
        subprocess.run(each, capture_output=True, check=False).returncode == 0
        for each in (command, [out])
    )


def test_a_million_cases_under_the_address_sanitizer(tmp_path: Path) -> None:
    if not has_sanitizer(tmp_path, "address,undefined"):
        pytest.skip("the compiler has no sanitizer here")
    idle = [tier for tier in native.tiers() if tier not in native.running_tiers()]
    sanitized = {"LLAMA_CPU_SANITIZE": "address,undefined", **without(*idle)}
    fuzz = build(tmp_path / "build", "fuzz", **sanitized)
    runs = [
        subprocess.Popen([fuzz, "500000", seed], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for seed in ("1", "2")
    ]
    for one in runs:
        said = one.communicate()[0].decode()
        assert one.returncode == 0, said[-4000:]
        assert " 0 faults" in said


def test_pools_and_programs_under_the_thread_sanitizer(tmp_path: Path) -> None:
    """On portable kernels: threads share pools and programs, and all kernels in the same way."""
    if not has_sanitizer(tmp_path, "thread"):
        pytest.skip("the compiler has no sanitizer here")
    sanitized = {"LLAMA_CPU_SANITIZE": "thread", **without("avx2", "avx512", "neon")}
    threads = build(tmp_path / "build", "threads", **sanitized)
    for _ in range(20):
        assert run(threads).startswith("0 faults")


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(QEMU)), reason="no emulator of ARM64")
def test_neon_under_an_emulator(tmp_path: Path) -> None:
    system = {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": "aarch64"}
    static = {"CMAKE_EXE_LINKER_FLAGS": "-static"}
    tiers = build(tmp_path, "tiers", CMAKE_C_COMPILER=CROSS, **system, **static)
    assert "neon: 0 differences" in run(QEMU, "-cpu", "max", tiers)


@pytest.mark.skipif(not SIMDE.is_file(), reason="no emulator of AVX-512")
def test_avx512_under_an_emulator(tmp_path: Path) -> None:
    tiers = build(tmp_path, "tiers", LLAMA_CPU_EMULATE_AVX512="ON")
    assert "avx512: 0 differences" in run(tiers)
