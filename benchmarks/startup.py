"""How fast the core starts, with no plugins and with a thousand; beside it, `llm` and `datasette`.

All processes are started in turn, A B C A B C …, and what is reported is each one's wall time less
that of a bare interpreter in the same round. The peers get plugins of the same kind: a module with
one hook implementation each, found through their own entry-point group.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Mapping, Sequence
from pathlib import Path

from report import Row, environment, lower_is_better, publish, row, versions

NUM_PLUGINS = 1_000


def plugin(
    site: Path, group: str, package: str, dist: str, entry: str, files: Mapping[str, str]
) -> None:
    """Write one plugin distribution as an installer would leave it."""
    info = site / f"{package}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {dist}\nVersion: 0.1.0\nRequires-Dist: llama-core>=0.1\n\n"
    )
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry} = {package}\n")
    (site / package).mkdir()
    for name, text in files.items():
        (site / package / name).write_text(text)


def our_plugins(site: Path, count: int) -> None:
    """Plugins whose import would be noticed: it leaves a file."""
    canary = site / "imported"
    for number in range(count):
        name, package = f"gen-{number:04}", f"llama_plugin_gen_{number:04}"
        manifest = (
            f'name = "{name}"\nsummary = "Generated plugin {number}"\nmodule = "{package}.plugin"\n'
            f'[[provides]]\nkind = "transform"\nname = "{name}"\napi = 1\n'
            'needs = { os = ["linux", "macos", "windows"], arch = ["x86_64", "aarch64"] }\n'
            'combines = ["paged-kv", "lora", "speculation"]\n'
        )
        noticed = f"open({str(canary)!r}, 'a').write({name + chr(10)!r})\n"
        files = {"plugin.toml": manifest, "__init__.py": noticed, "plugin.py": noticed}
        plugin(site, "llama_core", package, f"llama-plugin-{name}", name, files)


def peer_plugins(site: Path, peer: str, hook: str, count: int) -> None:
    """Plugins of `llm` or `datasette`: each registers one hook that does nothing."""
    for number in range(count):
        package = f"{peer}_gen_{number:04}"
        code = f"import {peer}\n\n@{peer}.hookimpl\ndef {hook}\n    return None\n"
        dist = f"{peer}-gen-{number:04}"
        plugin(site, peer, package, dist, f"gen{number}", {"__init__.py": code})


class Runs:
    """Commands run in turn, each compared with a bare interpreter of its own in the same round."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.commands: dict[str, tuple[Sequence[str], Path, Mapping[str, str]]] = {}

    def add(self, name: str, python: Path, args: Sequence[str], **env: str) -> None:
        self.commands[name] = ([str(python), *args], python, env)

    def measure(self) -> dict[str, list[float]]:
        extra: dict[str, list[float]] = {name: [] for name in self.commands}
        for each in range(self.rounds + 1):
            for name, (command, python, env) in self.commands.items():
                bare = seconds([str(python), "-c", "pass"], env)
                taken = seconds(command, env)
                if each:  # the first round warms the page cache and writes bytecode
                    extra[name].append((taken - bare) * 1e3)
        return extra


def seconds(command: Sequence[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, env={**os.environ, **env}, cwd="/")
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command} failed: {done.stderr.decode()[-500:]}")
    return taken


def hook_rows() -> list[Row]:
    """One hook call through the registry against the same call on pluggy itself."""
    import pluggy

    from llama_core import hookspecs
    from llama_core.plugins import Plugins

    class Plugin:
        __name__ = "benchmark"

        @staticmethod
        @hookspecs.hookimpl
        def llama_create_transform(name: str, options: object) -> object:
            return transform

    def transform(logits_NV: object, context: object) -> object:
        return logits_NV

    manifest = {
        "name": "bench",
        "summary": "One hook",
        "provides": [{"kind": "transform", "name": "bench", "api": 1}],
    }
    plugins = Plugins([])
    plugins.register(Plugin, manifest)
    raw = pluggy.PluginManager(hookspecs.PROJECT)
    raw.add_hookspecs(hookspecs)
    raw.register(Plugin)

    def through_pluggy() -> object:
        return raw.hook.llama_create_transform(name="bench", options={}, plugins=plugins)

    def through_us() -> object:
        return plugins.create("transform", "bench")

    number = 20_000
    ours, theirs = [], []
    for _ in range(15):
        theirs.append(timeit.timeit(through_pluggy, number=number) / number * 1e6)
        ours.append(timeit.timeit(through_us, number=number) / number * 1e6)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [
        row("startup.hook.ratio", ratios, "x of raw pluggy", goal="<=3"),
        lower_is_better(
            row("startup.hook.call", ours, "us", peers={"pluggy": statistics.median(theirs)})
        ),
    ]


def measure(rounds: int) -> tuple[list[Row], dict[str, str | None]]:
    python = Path(sys.executable)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        ours = root / "ours"
        our_plugins(ours, NUM_PLUGINS)
        time.sleep(3)  # what was installed this instant is not yet remembered
        runs = Runs(rounds)
        quiet = {"LLAMA_CORE_PLUGINS": "", "XDG_CACHE_HOME": str(root / "cache")}
        runs.add("import", python, ["-c", "import llama_core"])
        runs.add("help", python, ["-m", "llama_core", "--help"], **quiet)
        many = {**quiet, "PYTHONPATH": str(ours)}
        runs.add("list", python, ["-m", "llama_core", "plugins", "list"], **many)
        (root / "file").touch()  # a cache folder that cannot be made: every look is the first
        cold = {**many, "XDG_CACHE_HOME": str(root / "file")}
        runs.add("list-cold", python, ["-m", "llama_core", "plugins", "list"], **cold)
        found: dict[str, str | None] = versions("llama-core", "pluggy", "pydantic", "click")
        notes = {}
        for peer, hook, args in (
            ("llm", "register_commands(cli):", ["-m", "llm"]),
            ("datasette", "startup(datasette):", ["-m", "datasette"]),
        ):
            env = environment(f"startup-{peer}", peer)
            if isinstance(env, str):
                notes[peer] = env
                continue
            site = root / peer
            peer_plugins(site, peer, hook, NUM_PLUGINS)
            home = {"HOME": str(root), "LLM_USER_PATH": str(root / "llm-home")}
            runs.add(f"{peer} import", env, ["-c", f"import {peer}"])
            runs.add(f"{peer} help", env, [*args, "--help"], **home)
            runs.add(f"{peer} list", env, [*args, "plugins"], PYTHONPATH=str(site), **home)
            found[peer] = subprocess.run(
                [str(env), "-c", f"import importlib.metadata as m; print(m.version('{peer}'))"],
                capture_output=True, text=True,
            ).stdout.strip()  # fmt: skip
        extra = runs.measure()
        canary = ours / "imported"
        imported = len(canary.read_text().split()) if canary.exists() else 0

    def peers(what: str) -> dict[str, float | None]:
        samples = {peer: extra.get(f"{peer} {what}") for peer in ("llm", "datasette")}
        return {peer: statistics.median(each) if each else None for peer, each in samples.items()}

    note = "; ".join(f"{peer}: {why}" for peer, why in notes.items())
    rows = [
        row("startup.import", extra["import"], "ms", goal="<=40", peers=peers("import"), note=note),
        row("startup.help", extra["help"], "ms", goal="<=120", peers=peers("help"), note=note),
        row(
            "startup.list_1000", extra["list"], "ms", goal="<=400", peers=peers("list"),
            note="second look and later; " + note,
        ),
        row("startup.list_1000_cold", extra["list-cold"], "ms", note="nothing remembered"),
    ]  # fmt: skip
    rows = [lower_is_better(each) for each in rows]
    rows.append(row("startup.list_1000.modules_imported", [float(imported)], "plugins", goal="<=0"))
    return rows + hook_rows(), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    rows, found = measure(given.rounds)
    publish("startup", rows, as_json=given.json, versions=found)


if __name__ == "__main__":
    main()
