"""What a large index costs its users and its operator: 10,000 plugins, 5 versions, 500 publishers.

The index is generated and signed in a scratch folder, served over loopback by the development
server in a second process, and read by the command line in processes of their own. But for one,
its wheels are only records.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_marketplace.index.record import Record
from llama_marketplace.publish.repository import Repository
from llama_marketplace.trust import keys
from llama_marketplace.trust.roles import OWN, TOP
from report import Row, lower_is_better, publish, row, versions

NUM_PLUGINS, NUM_VERSIONS, NUM_PUBLISHERS = 10_000, 5, 500
WORDS = ["fast", "exact", "small", "native", "fused", "sparse", "paged", "ragged", "int8", "odd"]
KINDS = ("transform", "quantizer", "backend", "sampler", "drafter", "rewrite")


def record(number: int, version: str, publishers: int) -> Record:
    """A version of a plugin as wordy as a real one's."""
    kind, plugin = KINDS[number % len(KINDS)], f"gen-{number:05}"
    name = f"llama-plugin-{plugin}"
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    words = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(6))
    table = {
        "schema": 1,
        "name": name,
        "version": version,
        "plugin": plugin,
        "package": name.replace("-", "_"),
        "publisher": f"publisher-{number % publishers:03}",
        "summary": f"A {kind} that is {words}",
        "readme": f"# {name}\n\n" + f"A {kind} that is {words}.\n" * 30,
        "licence": "Apache-2.0",
        "homepage": f"https://example.org/{name}",
        "requires_core": ">=0.1",
        "requires_python": ">=3.11",
        "requires": ["numpy>=1.26"],
        "provides": [{"kind": kind, "name": plugin, "api": 1, "combines": ["paged-kv", "lora"]}],
        "files": [
            {
                "filename": f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
                "sha256": digest,
                "size": 20_000 + number,
                "tags": ["py3-none-any"],
            }
        ],
        "published": "2026-01-02T03:04:05Z",
        "history": [{"status": "active", "date": "2026-01-02"}],
    }
    return Record.model_validate(table)


def generate(folder: Path, ring_folder: Path, plugins: int, publishers: int) -> float:
    """The index, built by the code that publishes; gives the seconds that took."""
    publics = {name: [keys.create(ring_folder / f"{name}.pem")] for name in (*TOP, *OWN)}
    shared = keys.create(ring_folder / "publishers.pem")  # a key each would only take longer
    began = time.perf_counter()
    index = Repository.create(folder, publics, datetime.now(UTC))
    for number in range(publishers):
        index.add_publisher(f"publisher-{number:03}", [shared], verified=number % 3 == 0)
    index.add(
        [
            record(number, f"1.{minor}.0", publishers)
            for number in range(plugins)
            for minor in range(NUM_VERSIONS)
        ]
    )
    index.commit(keys.KeyRing.open([ring_folder]))
    return time.perf_counter() - began


PLUGIN = "llama-plugin-bench-install"


def wheel(folder: Path) -> Path:
    """A plugin in pure Python, for real: a transform of one line."""
    package, info = PLUGIN.replace("-", "_"), f"{PLUGIN.replace('-', '_')}-1.0.0.dist-info"
    files = {
        f"{package}/__init__.py": "from llama_core import hookimpl\n\n\n@hookimpl\n"
        "def llama_create_transform(name, options):\n    return lambda logits, context: logits\n",
        f"{package}/plugin.toml": 'name = "bench-install"\nsummary = "Changes nothing"\n'
        '[[provides]]\nkind = "transform"\nname = "bench-install"\napi = 1\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0.0\n"
        "Summary: Changes nothing\nRequires-Dist: llama-core>=0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[llama_core]\nbench-install = {package}\n",
    }
    rows = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{name},sha256={digest.rstrip('=')},{len(text)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    made = folder / f"{package}-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made


PUBLISH_ONE = """
import sys, time
from pathlib import Path
began = time.perf_counter()
sys.path.insert(0, sys.argv[1])
from marketplace import record
from llama_marketplace.publish.repository import Repository, current_time
from llama_marketplace.trust.keys import KeyRing
one = record(int(sys.argv[5]), sys.argv[6], int(sys.argv[4]))
index = Repository.open(Path(sys.argv[2]), current_time())
index.add([one])
index.commit(KeyRing.open([Path(sys.argv[3])]))
print(time.perf_counter() - began)
"""


class Bench:
    """One index, its server, and users who begin with nothing."""

    def __init__(self, scratch: Path, plugins: int, publishers: int) -> None:
        self.scratch, self.plugins, self.publishers = scratch, plugins, publishers
        self.index, self.keys = scratch / "index", scratch / "keys"
        self.built = generate(self.index, self.keys, plugins, publishers)
        root = (self.index / "metadata" / "1.root.json").read_bytes()
        self.root = hashlib.sha256(root).hexdigest()
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        command = [*llama("marketplace"), "serve", str(self.index), "--port", "0", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            text = ""
            while not text.endswith("}\n"):
                text += server.stdout.readline()
            self.url = json.loads(text)["url"]
            yield
        finally:
            server.terminate()
            server.communicate()

    def user(self, name: str) -> dict[str, str]:
        """The environment of somebody who trusts the index and has read nothing of it."""
        home = self.scratch / name
        config = home / "config" / "llama-core" / "llama.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'[[marketplace.indexes]]\nname = "bench"\nurl = "{self.url}"\nroot = "{self.root}"\n'
        )
        folders = {"CONFIG": "config", "DATA": "data", "CACHE": "cache", "STATE": "state"}
        made = {f"XDG_{key}_HOME": str(home / folder) for key, folder in folders.items()}
        # Installers compile what they install; a checkout is compiled by whoever runs it first.
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **made}

    def publish_one(self, number: int, version: str) -> float:
        """Seconds for one more version, in a process of its own."""
        here = str(Path(__file__).parent)
        arguments = [here, self.index, self.keys, self.publishers, number, version]
        done = run([sys.executable, "-c", PUBLISH_ONE, *map(str, arguments)], os.environ)
        return float(done)

    def publish_wheel(self) -> Path:
        """The one plugin here that can be installed."""
        made = wheel(self.scratch)
        data = made.read_bytes()
        index = Repository.open(self.index, datetime.now(UTC))
        one = record(0, "1.0.0", self.publishers).model_dump(by_alias=True) | {
            "name": PLUGIN, "plugin": "bench-install", "package": PLUGIN.replace("-", "_"),
            "provides": [{"kind": "transform", "name": "bench-install", "api": 1}],
            "requires": [],
            "files": [
                {
                    "filename": made.name,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "tags": ["py3-none-any"],
                }
            ],
        }  # fmt: skip
        index.add([Record.model_validate(one)], [made])
        index.commit(keys.KeyRing.open([self.keys]))
        return made

    def bytes_of(self, *folders: str) -> int:
        return sum(
            file.stat().st_size
            for folder in folders
            for file in (self.index / folder).rglob("*")
            if file.is_file()
        )


def llama(*words: str) -> list[str]:
    return [sys.executable, "-m", "llama_core", *words]


def run(command: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=dict(env), cwd="/")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed: {done.stderr[-800:]}")
    return done.stdout


def timed(command: Sequence[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    run(command, env)
    return time.perf_counter() - began


def refreshed(env: Mapping[str, str]) -> int:
    """The bytes that a refresh brought."""
    done = json.loads(run([*llama("marketplace"), "indexes", "refresh", "--json"], env))
    found: int = done["indexes"][0]["bytes"]
    return found


FLOOR = "import llama_core.plugins"


def install(bench: Bench, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds to install one wheel from the index, with uv from the disk, and of a child that
    could try a plugin and does not, in turns."""
    made, ours, theirs, floor = bench.publish_wheel(), [], [], []
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for number in range(rounds + 1):
        user = bench.user(f"install-{number}")
        refreshed(user)
        taken = timed([*llama("marketplace"), "install", PLUGIN, "--json"], user) * 1e3
        if number:  # the first round warms the page cache and writes bytecode
            ours.append(taken)
        if uv is not None:
            into = bench.scratch / f"uv-{number}"
            # Told for which Python, as we know it; looking for one takes longer than the rest.
            command = [uv, "pip", "install", "-q", "--no-deps", "--python", sys.executable]
            command += ["--target", str(into), str(made)]
            taken = timed(command, os.environ) * 1e3
            theirs += [taken] if number else []
        taken = timed([sys.executable, "-c", FLOOR], user) * 1e3
        floor += [taken] if number else []
    return ours, theirs, floor


def install_rows(
    ours: Sequence[float], theirs: Sequence[float], floor: Sequence[float]
) -> list[Row]:
    note = "verified, inspected, unpacked, tried in a child, switched; uv unpacks" if theirs else (
        "uv is not here"
    )  # fmt: skip
    peers = {"uv": statistics.median(theirs) if theirs else None}
    ratios = [mine / uv for mine, uv in zip(ours, theirs, strict=False)]
    return [
        lower_is_better(row("marketplace.install", ours, "ms", peers=peers, note=note)),
        row("marketplace.install.ratio", ratios, "x of uv", goal="<=1.3", note=note),
        row("marketplace.install.floor", floor, "ms", note=f"a Python that does `{FLOOR}`"),
    ]


def measure(rounds: int, plugins: int, publishers: int) -> list[Row]:
    search = [*llama("marketplace"), "search", "ragged", "sampler", "--json"]
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), plugins, publishers)
        size = bench.bytes_of("metadata", "targets")
        with bench.serving():
            cold = [timed(search, bench.user(f"cold-{each}")) for each in range(rounds)]
            user = bench.user("warm")
            all_bytes = refreshed(user)
            timed(search, user)
            warm = [timed(search, user) * 1e3 for each in range(3 * rounds)]
            more, brought = [], []
            for each in range(rounds):
                more.append(bench.publish_one(each, "2.0.0"))
                brought.append(refreshed(user))
            installs = install(bench, rounds)
    share = [each / size * 100 for each in brought]
    of_cold = statistics.median(brought) / all_bytes * 100
    note = f"{plugins} plugins x {NUM_VERSIONS} by {publishers}; {size / 1e6:.0f} MB signed for"
    return [
        row("marketplace.cold_refresh_and_search", cold, "s", goal="<=2", note=note),
        row("marketplace.cold_refresh_bytes", [all_bytes / 1e6], "MB", note="all of the catalogue"),
        row("marketplace.warm_search", warm, "ms", goal="<=150", note="process start to end"),
        row(
            "marketplace.incremental_refresh", share, "% of the index", goal="<=1",
            note=f"{statistics.median(brought) / 1e3:.0f} kB, {of_cold:.2f} % of a cold refresh",
        ),
        row(
            "marketplace.publish_one", more, "s", goal="<=2",
            note="record, signatures and pages; without running the plugin's own tests",
        ),
        *install_rows(*installs),
        row("marketplace.build", [bench.built], "s", note="the whole index, once"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plugins", type=int, default=NUM_PLUGINS, help="for a quick look")
    parser.add_argument("--publishers", type=int, default=NUM_PUBLISHERS)
    given = parser.parse_args()
    rows = measure(given.rounds, given.plugins, given.publishers)
    found: dict[str, Any] = versions("llama-core", "llama-marketplace", "tuf", "securesystemslib")
    publish("marketplace", rows, as_json=given.json, versions=found)


if __name__ == "__main__":
    main()
