"""Settings: which source wins, and how each mistake in each of them is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.config import SETTINGS, Config, load_config, project_config_file
from llama_core.errors import ConfigError, LlamaError


def load(
    tmp_path: Path,
    project: str | bytes | None = None,
    *,
    user: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    folder, user_file = tmp_path / "project", tmp_path / "user.toml"
    folder.mkdir(exist_ok=True)
    if project is not None:
        data = project.encode() if isinstance(project, str) else project
        (folder / "llama.toml").write_bytes(data)
    if user is not None:
        user_file.write_text(user)
    return load_config(flags, environ=environ or {}, start=folder, user_file=user_file)


def refused(tmp_path: Path, *args: Any, **how: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *args, **how)
    assert str(caught.value).isprintable()
    return str(caught.value)


class TestPrecedence:
    def test_nothing_set_is_the_default(self, tmp_path: Path) -> None:
        config = load(tmp_path)
        assert (config.strict, config.locked, config.max_faults, config.allow) == (
            False,
            False,
            3,
            None,
        )
        assert config.files == ()
        assert config.origin == {}

    def test_flag_beats_environment_beats_project_beats_user(self, tmp_path: Path) -> None:
        user = "[core]\nmax-faults = 1\nbackend = 'user'\nstrict = true\n[plugins]\nallow = ['u']"
        project = "[core]\nmax-faults = 2\nbackend = 'project'\n"
        environ = {"LLAMA_CORE_MAX_FAULTS": "3", "LLAMA_CORE_BACKEND": "environment"}
        config = load(tmp_path, project, user=user, environ=environ, flags={"core.max-faults": 4})
        assert (config.max_faults, config.backend, config.strict) == (4, "environment", True)
        assert config.allow == ("u",)
        project_file, user_file = tmp_path / "project" / "llama.toml", tmp_path / "user.toml"
        assert config.origin == {
            "core.max-faults": "command line",
            "core.backend": "environment",
            "core.strict": str(user_file),
            "plugins.allow": str(user_file),
        }
        assert config.files == (user_file, project_file)

    def test_the_nearest_llama_toml_upwards_is_the_project_s(self, tmp_path: Path) -> None:
        deep = tmp_path / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (tmp_path / "llama.toml").write_text("")
        assert project_config_file(deep) == tmp_path / "llama.toml"
        (tmp_path / "a" / "llama.toml").write_text("")
        assert project_config_file(deep) == tmp_path / "a" / "llama.toml"

    def test_the_lock_lies_beside_the_project_s_settings(self, tmp_path: Path) -> None:
        assert load(tmp_path, "").lock_file == tmp_path / "project" / "llama.lock"
        config = load(tmp_path, "[core]\nlock-file = 'sub/x.lock'")
        assert config.lock_file == tmp_path / "project" / "sub" / "x.lock"
        config = load(tmp_path, "[core]\nlock-file = '/etc/x.lock'")
        assert config.lock_file == Path("/etc/x.lock")

    def test_a_working_folder_that_is_gone_is_no_reason_to_fail(self, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        before = Path.cwd()
        try:
            os.chdir(gone)
            gone.rmdir()
            assert load_config(environ={}, user_file=tmp_path / "none").strict is False
        finally:
            os.chdir(before)

    def test_no_plugins_is_a_flag_only(self, tmp_path: Path) -> None:
        assert load(tmp_path, flags={"plugins": False}).plugins is False
        assert load(tmp_path).plugins is True

    @pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("no", False)])
    def test_booleans_of_the_environment(self, tmp_path: Path, text: str, value: bool) -> None:
        assert load(tmp_path, environ={"LLAMA_CORE_STRICT": text}).strict is value

    def test_lists_and_tables_of_the_environment(self, tmp_path: Path) -> None:
        environ = {
            "LLAMA_CORE_PLUGINS": " a, b ,,",
            "LLAMA_CORE_PLUGINS_DISABLE": "c",
            "LLAMA_CORE_PLUGINS_PREFER": "transform.min-p = a, sampler.x=b",
            "LLAMA_CORE_HOOK_TIMEOUT_SECONDS": "2.5",
            "LLAMA_CORE_LOCKED": "  ",
        }
        config = load(tmp_path, environ=environ)
        assert config.allow == ("a", "b")
        assert config.disable == ("c",)
        assert config.prefer == {"transform.min-p": "a", "sampler.x": "b"}
        assert config.hook_timeout_seconds == 2.5
        assert config.locked is False

    @pytest.mark.parametrize(
        "text",
        [
            "[plugins.prefer]\n'transform.min-p' = 'a'",
            "[plugins.prefer]\ntransform.min-p = 'a'",
            "[plugins.prefer.transform]\nmin-p = 'a'",
        ],
    )
    def test_a_preference_may_be_spelled_in_any_way_of_toml(
        self, tmp_path: Path, text: str
    ) -> None:
        assert load(tmp_path, text).prefer == {"transform.min-p": "a"}

    def test_sections_of_other_packages_are_theirs(self, tmp_path: Path) -> None:
        assert load(tmp_path, "[server]\nport = 1\n[train.deep]\nx = 2").origin == {}


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "[core]\nstrct = true",
                "there is no setting 'core.strct'. Did you mean 'core.strict'? There are core.",
            ),
            ("[core]\n'\\u001b[2J' = 1".replace("'", '"'), "there is no setting 'core.\\x1b[2J'"),
            ("core = 3", "[core] must be a table, not 3"),
            ("strict = true", "'strict' stands in no section. Write it as core.strict."),
            ("what = 1", "'what' stands in no section. Every setting has a section."),
            ("[[core]]", "[core] must be a table, not [{}]"),
            ("[plugin]\nallow = []", "there is no section [plugin]; did you mean [plugins]?"),
            ("[Core]\nstrict = true", "there is no section [Core]; did you mean [core]?"),
            (
                "[core]\nstrict = 1",
                "core.strict must be true or false, not 1. As in: strict = true",
            ),
            ("[core]\nstrict = 'yes'", "core.strict must be true or false, not 'yes'"),
            ("[core]\nmax-faults = true", "core.max-faults must be a whole number, not True"),
            ("[core]\nmax-faults = 1.5", "core.max-faults must be a whole number, not 1.5"),
            ("[core]\nmax-faults = 0", "core.max-faults must be positive, not 0"),
            ("[core]\nmax-faults = -1", "core.max-faults must be positive, not -1"),
            (
                "[core]\nhook-timeout-seconds = nan",
                "hook-timeout-seconds must be positive, not nan",
            ),
            ("[core]\nhook-timeout-seconds = '1'", "must be a number, not '1'"),
            ("[core]\nbackend = []", "core.backend must be a text, not []"),
            ("[plugins]\nallow = 'a'", "plugins.allow must be a list of texts, not 'a'"),
            ("[plugins]\nallow = ['a', 1]", "plugins.allow must be a list of texts, not ['a', 1]"),
            ("[plugins]\nprefer = []", "plugins.prefer must be a table of texts, not []"),
            ("[plugins]\nprefer = {a = 1}", "plugins.prefer must be a table of texts, not {'a'"),
            ("[plugins]\nalow = []", "Did you mean 'plugins.allow' or "),
        ],
    )
    def test_a_mistake_in_a_file_names_file_and_key(
        self, tmp_path: Path, text: str, message: str
    ) -> None:
        said = refused(tmp_path, text)
        assert said.startswith(f"{tmp_path / 'project' / 'llama.toml'}: ")
        assert message in said

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"[core", "is not valid TOML"),
            (b"[core]\nx = '\xff'", "is not UTF-8: byte 12 is 0xff"),
            (b"#" * (1 << 20) + b"#", "is larger than 1024 KiB"),
            (b"a." * 100_000 + b"a = 1", "is nested too deeply"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, data: bytes, message: str) -> None:
        assert message in refused(tmp_path, data)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("STRICT", "maybe", "LLAMA_CORE_STRICT='maybe' is neither 1 nor 0"),
            ("MAX_FAULTS", "few", "LLAMA_CORE_MAX_FAULTS='few' is not a whole number"),
            ("MAX_FAULTS", "9" * 5000, "LLAMA_CORE_MAX_FAULTS='9999"),
            ("MAX_FAULTS", "-2", "environment: core.max-faults must be positive, not -2"),
            ("HOOK_TIMEOUT_SECONDS", "soon", "='soon' is not a number"),
            ("HOOK_TIMEOUT_SECONDS", "nan", "environment: core.hook-timeout-seconds must be"),
            ("PLUGINS_PREFER", "a=b,c", "='a=b,c' is not a list of kind.name=plugin"),
            ("STRICT", "\x1b[2J", "LLAMA_CORE_STRICT='\\x1b[2J' is neither 1 nor 0"),
        ],
    )
    def test_a_mistake_in_the_environment_names_the_variable(
        self, tmp_path: Path, name: str, text: str, message: str
    ) -> None:
        assert message in refused(tmp_path, environ={f"LLAMA_CORE_{name}": text})

    def test_a_mistake_on_the_command_line_says_so(self, tmp_path: Path) -> None:
        assert refused(tmp_path, flags={"core.strict": "x"}).startswith("command line: core.strict")
        assert "there is no setting 'strict'" in refused(tmp_path, flags={"strict": True})


@given(
    environ=st.dictionaries(
        st.sampled_from([one.env for one in SETTINGS]),
        st.text(max_size=30) | st.sampled_from(["1", "nan", "inf", "1e999", "a=b", "=", ",", "-0"]),
    )
)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_any_environment_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
) -> None:
    told: str | None = None
    try:
        load(tmp_path_factory.getbasetemp(), environ=environ)
    except LlamaError as error:
        told = str(error)
    assert told is None or (told.isprintable() and len(told) < 500)
