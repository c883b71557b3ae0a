"""Every template gives a project that is in order before anything of it is built."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from llama_core.contracts import KINDS
from llama_core.manifest import parse

from .running import ROOT, imported
from .test_distributions import build

pytest.importorskip("llama_marketplace", reason="llama-marketplace is not installed")

from llama_marketplace.author import kinds, project
from llama_marketplace.author.new import MOST_LETTERS

rendering = imported(ROOT / "marketplace" / "tests" / "author" / "rendering.py")
rendered, TEN = rendering.rendered, rendering.TEN
TOOLS = Path(sys.executable).parent
PINNED = re.compile(r"uses: (\S+)@([0-9a-f]{40}) # v[\d.]+")


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("projects")
    return {kind: rendered(kind, place / kind) for kind in TEN}


def test_there_are_ten_and_each_is_of_a_kind_there_is() -> None:
    found = kinds.kinds()
    assert list(found) == list(TEN)
    assert {one.provides for one in found.values()} <= set(KINDS)


@pytest.mark.parametrize("kind", TEN)
def test_a_project_is_whole(projects: dict[str, Path], kind: str) -> None:
    folder = projects[kind]
    one = project.read(folder)
    assert one.dist == f"llama-plugin-my-{kind}"
    assert [(each.kind, each.name) for each in one.manifest.provides] == [
        (kinds.kinds()[kind].provides, f"my-{kind}")
    ]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", ".gitignore", "tests/test_contract.py"} <= files
    assert {".github/workflows/test.yml", ".github/workflows/publish.yml"} <= files
    assert len([name for name in files if name.startswith("tests/")]) >= 2
    left = [name for name in files if "__module__" in name or name.endswith((".jinja", ".pyc"))]
    assert not left
    for name in files - {".github/workflows/test.yml", ".github/workflows/publish.yml"}:
        assert not re.search(r"\{\{|\{%", (folder / name).read_text("utf-8")), name


def test_the_code_of_every_project_keeps_our_rules(projects: dict[str, Path]) -> None:
    place = next(iter(projects.values())).parent
    for command in (["check"], ["format", "--check"]):
        ran = subprocess.run(
            [TOOLS / "ruff", *command, "--no-cache", place], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout[-4000:]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    theirs = tomllib.loads((projects["sampler"] / "pyproject.toml").read_text())["tool"]["ruff"]
    assert theirs["lint"]["select"] == ours["lint"]["select"]
    assert theirs["lint"]["ignore"] == ours["lint"]["ignore"]
    assert theirs["line-length"] == ours["line-length"]


def test_the_longest_name_still_fits_the_lines(tmp_path: Path) -> None:
    name = "a" * MOST_LETTERS
    for kind in TEN:
        rendered(kind, tmp_path / kind, name)
    ran = subprocess.run(
        [TOOLS / "ruff", "check", "--no-cache", tmp_path], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-4000:]


def test_workflows_are_sound_and_pinned_as_ours_are(projects: dict[str, Path]) -> None:
    ours = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    known = set(PINNED.findall(ours))
    folders = [projects["sampler"], projects["native-backend"]]
    for folder in folders:
        for file in (folder / ".github" / "workflows").glob("*.yml"):
            text = file.read_text()
            assert set(PINNED.findall(text)) <= known, file
            assert text.count("uses:") == len(PINNED.findall(text)), file
    ran = subprocess.run(
        [TOOLS / "zizmor", "--offline", "--quiet", *(each / ".github" for each in folders)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]


def test_publishing_is_trusted_and_attested(projects: dict[str, Path]) -> None:
    for kind in TEN:
        text = (projects[kind] / ".github" / "workflows" / "publish.yml").read_text()
        assert "id-token: write" in text
        assert "attestations: true" in text
        assert "secrets." not in text


ODD = 'Says "{{ 7 * 7 }}" and \\n \' {% raw %} <b> to ünïcode'


@pytest.mark.parametrize("kind", TEN)
def test_what_an_author_says_stays_text(tmp_path: Path, kind: str) -> None:
    folder = rendered(kind, tmp_path / kind, summary=ODD, author=ODD)
    table = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert table["description"] == ODD
    assert table["authors"] == [{"name": ODD}]
    manifest = next((folder / "src").rglob("plugin.toml"))
    found = parse(tomllib.loads(manifest.read_text("utf-8")), source="it")
    assert found.summary == ODD
    assert ODD in (folder / "README.md").read_text("utf-8")


def test_no_license_differs_from_ours(projects: dict[str, Path]) -> None:
    assert (projects["sampler"] / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_the_wheel_brings_every_template(tmp_path: Path) -> None:
    _, wheel = build(ROOT / "marketplace", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    place = ROOT / "plugin_templates"
    ours = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    ours = {name for name in ours if not name.endswith(".pyc")}
    prefix = "llama_marketplace/plugin_templates/"
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == ours
