"""`llama plugins check`: what it finds, and where what it runs comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llama_marketplace.author import check, conformance, project, surroundings

from llama_core.discovery import Found
from llama_core.errors import LlamaError
from llama_core.manifest import parse

from .rendering import checked, llama, rendered

SIGMA = Path("src/llama_plugin_my_sampler/sigma.py")


def broken(folder: Path, file: str | Path, old: str, new: str) -> Path:
    """A rendered sampler in which something was changed."""
    path = rendered("sampler", folder) / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return folder


def step(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in facts["steps"] if each["name"] == name)


def test_a_broken_rule_is_named_with_what_to_do(tmp_path: Path) -> None:
    last = "min(place, len(left) - 1)"
    folder = broken(tmp_path / "it", SIGMA, f"int(left[{last}])", f"int({last})")
    code, facts = checked(folder, "--no-isolation")
    assert code == 1
    assert not facts["passed"]
    assert [one["name"] for one in facts["steps"]] == ["manifest", "build", "wheel", "conformance"]
    told = "\n".join(step(facts, "conformance")["details"])
    assert "test_forbidden_token_is_never_chosen" in told
    assert "may be chosen. Take no higher rank" in told
    [verdict] = facts["conformance"]
    assert verdict["passed"] < verdict["rules"] == 20


def test_what_is_not_fit_to_publish_is_refused_before_it_runs(tmp_path: Path) -> None:
    folder = broken(
        tmp_path / "it",
        "pyproject.toml",
        "[tool.hatch.build.targets.wheel]\n",
        '[tool.hatch.build.targets.wheel]\nforce-include = { "start.pth" = "start.pth" }\n',
    )
    (folder / "start.pth").write_text("import os")
    code, facts = checked(folder, "--no-isolation")
    assert code == 1
    assert [each["name"] for each in facts["steps"]] == ["manifest", "build", "wheel"]
    assert ".pth" in step(facts, "wheel")["found"]


def test_a_build_backend_that_is_not_here_is_said_with_the_way_out(tmp_path: Path) -> None:
    folder = broken(tmp_path / "it", "pyproject.toml", '"hatchling.build"', '"no_such.build"')
    code, facts = checked(folder, "--no-isolation")
    assert code == 1
    assert "Leave out --no-isolation, or install what" in json.dumps(step(facts, "build"))


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("src/llama_plugin_my_sampler/plugin.toml", '"sampler"', '"smapler"', "did you mean"),
        ("src/llama_plugin_my_sampler/plugin.toml", 'name = "my-sampler"', 'name = "x"', "equal"),
        (
            "pyproject.toml",
            'llama_plugin_my_sampler"\n\n[tool',
            'elsewhere"\n\n[tool',
            "there is no",
        ),
        ("pyproject.toml", "entry-points.llama_core", "entry-points.other", "names none"),
        ("pyproject.toml", "[project]", "[project", "TOML"),
    ],
)
def test_a_project_that_is_wrong_is_told_before_it_is_built(
    tmp_path: Path, file: str, old: str, new: str, told: str
) -> None:
    folder = broken(tmp_path / "it", file, old, new)
    with pytest.raises(LlamaError) as raised:
        project.read(folder)
    assert told.lower() in str(raised.value).lower()


def test_a_folder_that_is_no_project_is_said(tmp_path: Path) -> None:
    code, said = llama("plugins", "check", tmp_path)
    assert code == 1
    assert "FAILED  manifest" in said
    assert "has no pyproject.toml" in said
    assert llama("plugins", "check", tmp_path / "nothing")[0] == 2


# ---- judging a report --------------------------------------------------------------------------

MANIFEST = parse(
    {
        "name": "two",
        "summary": "Two samplers",
        "provides": [
            {"kind": "sampler", "name": "one", "api": 1},
            {"kind": "sampler", "name": "two", "api": 1},
        ],
    },
    source="it",
)


def suite(name: str, **more: Any) -> dict[str, Any]:
    rules = {"rules": 2, "seen": ["test_a", "test_b"], "passed": 2, "failed": {}, "skipped": []}
    return {"kind": "sampler", "name": name, **rules, **more}


def judged(*suites: dict[str, Any], **more: Any) -> conformance.Outcome:
    report = {"suites": list(suites), "tests": 0, "failed": {}, "broken": [], **more}
    return conformance.judge(MANIFEST, report)


def test_every_capability_needs_a_suite_of_its_own() -> None:
    assert judged(suite("one"), suite("two")).conforms
    lacking = judged(suite("one"))
    assert not lacking.conforms
    assert [each.name for each in lacking.verdicts if each.untried] == ["two"]


def test_rules_that_were_left_out_do_not_count_as_kept() -> None:
    assert not judged(suite("one"), suite("two", seen=["test_a"], passed=1)).conforms


def test_a_suite_that_skips_every_rule_shows_nothing() -> None:
    skipped = suite("two", passed=0, skipped=["test_a", "test_b"])
    assert not judged(suite("one"), skipped).conforms


def test_what_fails_fails_whichever_test_it_is() -> None:
    good = suite("one"), suite("two")
    assert not judged(suite("one", failed={"test_a": "why"}), suite("two")).conforms
    assert not judged(*good, failed={"test_x.py::test_y": "assert"}, tests=1).conforms
    assert not judged(*good, broken=["test_x.py: SyntaxError"]).conforms


# ---- where it runs -----------------------------------------------------------------------------


def test_what_is_tried_sees_no_settings_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = {
        "LLAMA_CORE_PLUGINS": "x",
        "PYTHONPATH": "/x",
        "PYTEST_ADDOPTS": "-x",
        "GITHUB_TOKEN": "x",
        "MY_SECRET": "x",
        "DATABASE_PASSWORD": "x",
        "AWS_PROFILE": "x",
    }
    for name, value in hidden.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    assert not hidden.keys() & surroundings.bare().keys()
    assert surroundings.bare()["PATH"] == os.environ["PATH"]
    assert "PIP_INDEX_URL" in surroundings.bare()
    assert "PIP_INDEX_URL" not in surroundings.bare(network=False)


def test_an_environment_inside_of_the_project_lends_and_its_sources_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    packages = mine / ".venv" / "packages"
    packages.mkdir(parents=True)
    (mine / "src").mkdir()
    monkeypatch.setattr("sys.path", ["", str(mine), str(mine / "src"), str(packages)])
    env = tmp_path / "env"
    surroundings.packages_of(env).mkdir(parents=True)
    surroundings.lend(env, [mine, mine / "src"])
    [lent] = surroundings.packages_of(env).glob("*.pth")
    assert lent.read_text().splitlines() == [str(packages)]


def test_a_wheel_for_another_machine_is_not_tried(tmp_path: Path) -> None:
    other: Any = SimpleNamespace(tags=("py3-none-haiku_1_0_itanium",))
    with pytest.raises(LlamaError, match="built for"):
        check.tried(other, tmp_path, None)


def test_the_bare_suites_are_tests_of_the_kit() -> None:
    text = conformance.suites(MANIFEST, Found("two", "two", "two", "1"))
    compile(text, "it", "exec")
    assert text.count("contract('sampler')") == 2
    assert "plugin = 'two'" in text


def test_the_bare_suites_give_examples_of_what_is_required() -> None:
    table = {
        "p": {"type": "number", "required": True, "examples": [0.5, 0.7]},
        "q": {"type": "number", "default": 1},
    }
    provides = [{"kind": "sampler", "name": "one", "api": 1, "options": table}]
    one = parse({"name": "two", "summary": "It", "provides": provides}, source="it")
    assert "options = ({'p': 0.5},)" in conformance.suites(one, Found("two", "two", "two", "1"))


def test_lines_for_people_say_passed_or_failed(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"no zip")
    code, said = llama("plugins", "check", tmp_path / "x.whl")
    assert code == 1
    assert said.startswith("FAILED  wheel")
    code, said = llama("plugins", "check", tmp_path / "x.whl", "--json")
    assert json.loads(said)["steps"][0]["passed"] is False
