"""Help, version, completion, wrong usage: what a user meets before anything works."""

from __future__ import annotations

import subprocess
import sys

from .conftest import COMMAND, Llama


def test_help_names_every_command_and_an_example(llama: Llama) -> None:
    done = llama("--help")
    assert done.code == 0
    assert all(name in done.out for name in ("doctor", "plugins", "completion", "Example:"))


def test_commands_of_plugins_appear_in_help_without_being_imported(llama: Llama) -> None:
    canary = llama.root / "imported"
    code = f"open({str(canary)!r}, 'w').close()\n"
    provides = [{"kind": "command", "name": "greet", "api": 1, "summary": "Say hello."}]
    llama.site.add("greet", {"provides": provides}, {"llama_plugin_greet/__init__.py": code})
    done = llama("--help")
    assert "greet" in done.out
    assert "Say hello." in done.out
    assert not canary.exists()


def test_the_command_of_a_plugin_runs_with_its_own_options(three: Llama) -> None:
    assert three("greet").out == "hello\n"
    assert three("greet", "--loud").out == "HELLO\n"
    assert "Say hello." in three("greet", "--help").out


def lend(llama: Llama, name: str, canary: bool = False) -> None:
    code = COMMAND + (f"open({str(llama.root / 'imported')!r}, 'w').close()\n" if canary else "")
    provides = [{"kind": "command", "name": name, "api": 1, "summary": "Say hello."}]
    llama.site.add("lender", {"provides": provides}, {"llama_plugin_lender/__init__.py": code})


def test_a_plugin_adds_to_the_group_of_plugins(llama: Llama) -> None:
    lend(llama, "plugins.greet", canary=True)
    assert "greet      Say hello." not in llama("--help").out
    assert "greet    Say hello." in llama("plugins", "--help").out
    assert llama("plugins", "list").code == 0
    assert not (llama.root / "imported").exists()
    assert llama("plugins", "greet", "--loud").out == "HELLO\n"
    assert "Usage: llama plugins greet" in llama("plugins", "greet", "--help").out
    assert llama("greet").code == llama("plugins.greet").code == 2
    assert "no command 'greet'" in llama("--no-plugins", "plugins", "greet").err
    off = llama("plugins", "greet", env={"LLAMA_CORE_PLUGINS_DISABLE": "lender"})
    assert "Plugin 'lender' has it and is switched off." in off.err


def test_no_plugin_takes_the_place_of_a_command_of_ours(llama: Llama) -> None:
    lend(llama, "plugins.list")
    assert "PROVIDES OR REASON" in llama("plugins", "list").out
    assert "Say hello." not in llama("plugins", "--help").out


def test_a_subcommand_that_is_mistyped_gets_the_near_miss(llama: Llama) -> None:
    lend(llama, "plugins.greet")
    assert "Did you mean 'greet'?" in llama("plugins", "gret").err


def test_no_plugins_takes_their_commands_away(three: Llama) -> None:
    done = three("--no-plugins", "greet")
    assert done.code == 2
    assert "no command 'greet'" in done.err
    assert "greet" not in three("--no-plugins", "--help").out


def test_a_disabled_plugin_lends_no_command(three: Llama) -> None:
    assert "Say hello" not in three("--help", env={"LLAMA_CORE_PLUGINS": "quiet"}).out


def test_an_unknown_command_names_the_near_miss_or_where_it_might_come_from(llama: Llama) -> None:
    done = llama("docter")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "Did you mean 'doctor'?" in done.err
    sing = llama("sing").err
    assert "A plugin may add a command" in sing
    assert "pip install" not in sing  # of a name that anybody may have registered


def test_a_command_that_is_switched_off_says_whose_it_is(three: Llama) -> None:
    done = three("greet", env={"LLAMA_CORE_PLUGINS_DISABLE": "greet"})
    assert done.code == 2
    assert "Plugin 'greet' has it and is switched off." in done.err


def test_the_bare_command_shows_its_help(llama: Llama) -> None:
    done = llama()
    assert done.code == 2
    assert "Commands:" in done.err
    assert "llama: error" not in done.err


def test_an_error_is_one_line_and_an_object_under_json(llama: Llama) -> None:
    done = llama("plugins", "info", "biultin", "--json")
    assert done.code == 1
    assert done.err.startswith("llama: error: no plugin called 'biultin' is installed.")
    assert len(done.err.splitlines()) == 1
    assert done.json["error"]["code"] == "capability_missing"
    assert "did you mean 'builtin'?" in done.json["error"]["remedy"].lower()


def test_wrong_usage_exits_with_2(llama: Llama) -> None:
    assert llama("plugins", "list", "--jsn").code == 2
    assert llama("plugins", "info").code == 2


def test_a_mistake_in_the_settings_names_file_and_key(llama: Llama) -> None:
    (llama.project / "llama.toml").write_text("[core]\nstrickt = true\n")
    done = llama("plugins", "list")
    assert done.code == 1
    assert str(llama.project / "llama.toml") in done.err
    assert "did you mean 'core.strict'" in done.err.lower()
    # Whoever looks for the reason must not be turned away by it.
    assert llama("--help").code == 0
    doctor = llama("doctor", "--json")
    assert doctor.code == 0
    assert "core.strickt" in doctor.json["settings"]["problem"]


def test_completion_prints_a_script_for_each_shell(llama: Llama) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = llama("completion", shell)
        assert done.code == 0
        assert "_LLAMA_COMPLETE" in done.out


def test_completion_offers_the_commands_of_plugins(three: Llama) -> None:
    env = {"_LLAMA_COMPLETE": "bash_complete", "COMP_WORDS": "llama gr", "COMP_CWORD": "1"}
    assert "plain,greet" in three.process(env=env).out


def test_output_cut_off_by_the_reader_is_no_traceback(llama: Llama) -> None:
    shell = f"{sys.executable} -m llama_core doctor --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, env=llama.env, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_python_dash_m_is_the_same_command(llama: Llama) -> None:
    assert llama.process("--version").out == "llama-core, version 0.1.0\n"


def test_a_process_of_its_own_says_what_the_command_says_within_another(three: Llama) -> None:
    """So what the tests see of the command within their own process is what users see."""
    for words in (("plugins", "list", "--json"), ("greet", "--loud"), ("doctor", "--jsn")):
        assert three.process(*words) == three(*words)
