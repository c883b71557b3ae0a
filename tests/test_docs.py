"""The manual builds without a warning, and its words match the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from llama_core.config import SETTINGS
from llama_core.contracts import KINDS
from llama_core.manifest import Manifest, Needs, Provides, Requires

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_manual_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "reference" / "hooks.html").is_file()


def test_links_between_files_lead_somewhere() -> None:
    """Sphinx checks the manual; this checks the pages that are read on a forge."""
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("core/*.md"), *ROOT.glob("plugins/*/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} → {target}")
    assert broken == []


def test_the_generated_pages_are_current() -> None:
    """Run `python docs/generate.py` where this fails."""
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.pages().items():
        assert (DOCS / "reference" / name).read_text("utf-8") == text, name


def test_every_field_of_the_manifest_is_in_its_reference() -> None:
    page = (DOCS / "reference" / "manifest.md").read_text()
    fields = {**Manifest.model_fields, **Provides.model_fields, **Requires.model_fields}
    assert [name for name in fields if f"| `{name}` |" not in page] == []
    assert [name for name in Needs.model_fields if f"{name} = " not in page] == []


def test_every_setting_is_in_its_reference() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    assert [one.env for one in SETTINGS if f"`{one.env}`" not in page] == []


def test_every_kind_is_in_the_reference_of_contracts() -> None:
    page = (DOCS / "reference" / "contracts.md").read_text()
    assert [kind for kind in KINDS if f"## {kind}\n" not in page] == []


def test_every_command_is_in_its_reference() -> None:
    from llama_core.cli.app import COMMANDS

    page = (DOCS / "reference" / "command-line.md").read_text()
    assert [name for name in COMMANDS if f"`llama {name}" not in page] == []


def test_every_option_of_run_and_chat_is_in_its_reference() -> None:
    from llama_core.cli import chat, run

    page = (DOCS / "reference" / "command-line.md").read_text()
    params = [*run.command.params, *chat.command.params]
    flags = {name for each in params for name in each.opts if name.startswith("--")}
    assert sorted(flag for flag in flags if f"`{flag}" not in page) == []


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """Its files, extracted and installed beside the core, make a plugin that conforms."""
    page = (DOCS / "tutorial" / "first-plugin.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.S)
    python = [text for language, text in blocks if language == "python"]
    toml = [text for language, text in blocks if language == "toml"]
    package = tmp_path / "src" / "llama_plugin_second_best"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(toml[0])
    (package / "plugin.toml").write_text(toml[1])
    (package / "__init__.py").write_text(python[0])
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_second_best.py").write_text(python[1])
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, tmp_path], check=True)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)}
        return subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, env=env, cwd=tmp_path
        )

    listed = run("-m", "llama_core", "plugins", "list", "--json")
    states = {one["name"]: one["state"] for one in json.loads(listed.stdout)["plugins"]}
    assert states["second-best"] == "ready", listed.stderr
    conforms = run("-m", "pytest", "-q", "tests", "-p", "no:cacheprovider")
    assert conforms.returncode == 0, conforms.stdout
    assert " passed" in conforms.stdout
    used = run("-c", python[2])
    assert used.stdout.strip() == "[2]", used.stderr
    refused = run("-c", python[2].split("sampler =")[0] + python[3])
    assert "Did you mean 'rank'?" in refused.stderr
    ask = ("-m", "llama_core", "run", str(ROOT / "tests" / "fixtures" / "tiny"), "Once", "--json")
    answers = [
        json.loads(run(*ask, "--max-tokens", "3", *named).stdout)["tokens"]
        for named in ((), ("--sampler", "second-best:rank=1"), ("--sampler", "second-best"))
    ]
    assert answers[0] == answers[1] != answers[2]


def test_the_page_on_architectures_quotes_its_example() -> None:
    page = (DOCS / "how-to" / "add-an-architecture.md").read_text()
    example = ROOT / "examples" / "plugins" / "starcoder2"
    files = [path.read_text() for end in ("py", "toml") for path in example.rglob(f"*.{end}")]
    quoted = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.S)
    assert len(quoted) > 5
    assert [text for text in quoted if not any(text in file for file in files)] == []


def test_the_rewrite_of_the_page_on_contracts_rewrites() -> None:
    from llama_core.model.rewrites import apply
    from llama_core.testing import tiny

    page = (DOCS / "reference" / "contracts.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, re.S)
    told: dict[str, Any] = {}
    exec(block, told)
    graph, weights = apply([told["NarrowEmbedding"]()], *tiny.model())
    kinds = {name: weights.about(name).encoding.name for name in weights}
    assert [name for name, kind in kinds.items() if kind == "bf16"] == ["embed.weight"]
    assert graph.rewrites == ("narrow-embedding",)
    assert graph.weight_problems(weights) == []
