"""`llama plugins`: listing, explaining and switching, with a broken plugin among good ones."""

from __future__ import annotations

from .conftest import TRANSFORM, Llama


def by_name(rows: list[dict]) -> dict[str, dict]:
    return {row["name"]: row for row in rows}


def test_list_on_a_bare_install_shows_the_builtins(llama: Llama) -> None:
    done = llama("plugins", "list", "--json", env={"LLAMA_CORE_PLUGINS": "builtin"})
    rows = by_name(done.json["plugins"])
    assert done.code == 0
    assert rows["builtin"]["state"] == "ready"
    assert "sampler:greedy" in rows["builtin"]["provides"]


def test_list_with_three_plugins_imports_none_of_them(three: Llama) -> None:
    done = three("plugins", "list", "--json")
    rows = by_name(done.json["plugins"])
    assert done.code == 0
    assert {name: rows[name]["state"] for name in ("quiet", "greet", "shaky")} == {
        "quiet": "ready",
        "greet": "ready",
        "shaky": "ready",  # it breaks when it is imported, and a listing imports nothing
    }


def test_doctor_names_the_broken_one_and_why(three: Llama) -> None:
    done = three("doctor", "--json")
    rows = by_name(done.json["plugins"])
    assert done.code == 0
    assert rows["shaky"]["state"] == "quarantined"
    assert "needs the module 'no_such_module'" in rows["shaky"]["reason"]
    assert "pip install no_such_module" in rows["shaky"]["reason"]
    assert "no_such_module" in done.json["backends"]["shaky"]["reason"]
    assert "no_such_module" in str(done.json["backend"])
    assert rows["quiet"]["state"] == "ready"


def test_plugins_doctor_tries_each_and_exits_with_1_for_a_broken_one(three: Llama) -> None:
    done = three("plugins", "doctor", "--json")
    rows = by_name(done.json["plugins"])
    assert done.code == 1
    assert rows["quiet"]["state"] == "active"
    assert rows["shaky"]["state"] == "quarantined"
    assert three("plugins", "doctor", "quiet").code == 0


def test_a_manifest_that_is_not_valid_is_listed_with_its_reason(llama: Llama) -> None:
    llama.site.add("odd", 'name = "odd"\nsummry = "x"\n')
    row = by_name(llama("plugins", "list", "--json").json["plugins"])["odd"]
    assert row["state"] == "refused"
    assert "did you mean 'summary'?" in row["reason"].lower()


def test_info_tells_everything_without_importing(three: Llama) -> None:
    done = three("plugins", "info", "shaky", "--json")
    assert done.code == 0
    assert done.json["provides"][0]["kind"] == "backend"
    assert done.json["manifest"].endswith("plugin.toml")
    assert "backend shaky (contract 1)" in three("plugins", "info", "shaky").out


def test_info_says_how_what_is_provided_is_used(three: Llama) -> None:
    for name, line in (
        ("shaky", "use it: llama run MODEL --backend shaky"),
        ("quiet", "use it: llama run MODEL --transform quiet"),
        ("greet", "use it: llama greet"),
    ):
        assert line in three("plugins", "info", name).out


def test_disable_and_enable_write_the_users_settings(three: Llama) -> None:
    done = three("plugins", "disable", "quiet", "--json")
    file = three.root / "config" / "llama-core" / "llama.toml"
    assert done.json == {"plugin": "quiet", "enabled": False, "file": str(file)}
    row = by_name(three("plugins", "list", "--json").json["plugins"])["quiet"]
    assert row["state"] == "disabled"
    assert "llama plugins enable quiet" in row["reason"]
    assert three("plugins", "enable", "quiet").code == 0
    assert by_name(three("plugins", "list", "--json").json["plugins"])["quiet"]["state"] == "ready"


def test_switching_keeps_what_the_owner_wrote(three: Llama) -> None:
    file = three.project / "llama.toml"
    file.write_text('# mine\n[core]\nstrict = false # really\n\n[other]\nkey = "kept"\n')
    assert three("plugins", "disable", "quiet", "--project").code == 0
    text = file.read_text()
    assert "# mine" in text
    assert "strict = false # really" in text
    assert 'key = "kept"' in text
    assert 'disable = ["quiet"]' in text


def test_enabling_against_an_allow_list_in_the_environment_says_where_to_change(
    three: Llama,
) -> None:
    done = three("plugins", "enable", "quiet", env={"LLAMA_CORE_PLUGINS": "greet"})
    assert done.code == 1
    assert "plugins.allow in the environment" in done.err


def test_switching_an_unknown_plugin_names_the_near_miss(three: Llama) -> None:
    done = three("plugins", "disable", "quit")
    assert done.code == 1
    assert "did you mean 'quiet'" in done.err.lower()


def test_lock_then_locked_mode_refuses_a_changed_file(three: Llama) -> None:
    assert three("plugins", "lock").code == 0
    locked = {"LLAMA_CORE_LOCKED": "1"}
    rows = by_name(three("plugins", "list", "--json", env=locked).json["plugins"])
    assert rows["quiet"]["state"] == "ready"
    source = three.site.folder / "llama_plugin_quiet" / "__init__.py"
    source.write_text(source.read_text() + "\n# changed\n")
    rows = by_name(three("plugins", "list", "--json", env=locked).json["plugins"])
    assert rows["quiet"]["state"] == "disabled"
    assert "its files are not the ones that were locked" in rows["quiet"]["reason"]
    assert rows["greet"]["state"] == "ready"
    assert three("plugins", "lock", env=locked).code == 0
    rows = by_name(three("plugins", "list", "--json", env=locked).json["plugins"])
    assert rows["quiet"]["state"] == "ready"


def test_locked_without_a_lock_file_says_how_to_write_one(three: Llama) -> None:
    done = three("plugins", "list", env={"LLAMA_CORE_LOCKED": "1"})
    assert done.code == 1
    assert "llama plugins lock" in done.err


def test_what_one_file_forbids_another_does_not_allow_by_forbidding_more(three: Llama) -> None:
    assert three("plugins", "disable", "quiet").code == 0
    (three.project / "llama.toml").write_text("")
    assert three("plugins", "disable", "--project", "greet").code == 0
    rows = by_name(three("plugins", "list", "--json").json["plugins"])
    assert rows["quiet"]["state"] == rows["greet"]["state"] == "disabled"


def test_project_writes_the_nearest_file_above(three: Llama) -> None:
    (three.project / "llama.toml").write_text("[core]\nstrict = false\n")
    inner = three.project / "inner"
    inner.mkdir()
    three.project = inner
    assert three("plugins", "disable", "--project", "greet").code == 0
    assert not (inner / "llama.toml").exists()
    assert "greet" in (inner.parent / "llama.toml").read_text()


def test_doctor_offers_nothing_that_is_switched_off(three: Llama) -> None:
    shown = three("doctor", env={"LLAMA_CORE_PLUGINS_DISABLE": "quiet"}).out
    assert "transform:" in shown
    assert "quiet" not in shown.split("transform:")[1]


def test_plugins_doctor_finds_a_schema_that_is_not_one(llama: Llama) -> None:
    provides = [
        {"kind": "transform", "name": "odd", "api": 1, "options": {"p": {"type": "nummer"}}}
    ]
    llama.site.add("odd", {"provides": provides}, {"llama_plugin_odd/__init__.py": TRANSFORM})
    done = llama("plugins", "doctor", "odd")
    assert done.code == 1
    assert "declares a schema for transform 'odd' that is not one: p" in done.out


def test_a_lock_file_that_cannot_be_written_is_said(llama: Llama) -> None:
    done = llama("plugins", "lock", env={"LLAMA_CORE_LOCK_FILE": "/nonexistent/llama.lock"})
    assert done.code == 1
    assert "cannot write the lock file /nonexistent/llama.lock" in done.err
    assert "Traceback" not in done.err


def test_completion_offers_the_names_of_plugins(three: Llama) -> None:
    words = {"COMP_WORDS": "llama plugins info sh", "COMP_CWORD": "3"}
    assert "plain,shaky" in three(env={"_LLAMA_COMPLETE": "bash_complete", **words}).out
