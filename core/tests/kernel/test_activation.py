"""Importing exactly the plugin that was asked for, once, and checking what it claims."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llama_core import hookimpl
from llama_core.catalogue import State
from llama_core.contracts.transform import SPEC
from llama_core.errors import (
    CapabilityConflict,
    IncompatiblePlugin,
    LlamaError,
    ManifestError,
    MissingCapability,
    OptionsError,
    PluginFault,
    PluginQuarantined,
)
from llama_core.events import Event, PluginFailed, PluginLoaded
from llama_core.plugins import Plugins
from llama_core.testing.site import Site

Install = Callable[..., Path]
TRANSFORM = """
from llama_core import hookimpl

class Transform:
    def __init__(self, name, options):
        self.name, self.options = name, options
    def __call__(self, logits_NV, context):
        return logits_NV

@hookimpl
def llama_create_transform(name, options):
    return Transform(name, options)
"""


# What an import leaves behind, in a file that can be counted.
NOTE = "with open({file!r}, 'a') as file:\n    file.write('x')\n"


_before: set[str] = set()  # plugins that are really installed may have been imported by others


@pytest.fixture(autouse=True)
def _remember_what_was_imported() -> None:
    _before.clear()
    _before.update(sys.modules)


def imported() -> set[str]:
    return {name for name in set(sys.modules) - _before if name.startswith("llama_plugin")}


def broken(plugins: Plugins, name: str, kind: str = "transform") -> LlamaError:
    with pytest.raises(LlamaError) as caught:
        plugins.create(kind, name)
    return caught.value


class TestAsking:
    def test_exactly_the_plugin_that_was_asked_for_is_imported(
        self, site: Site, install: Install
    ) -> None:
        for name in ("a", "b", "c"):
            install(name)
        with site.plugins() as plugins:
            assert imported() == set()
            made = plugins.create("transform", "b")
            assert imported() == {"llama_plugin_b"}
            assert made.name == "b"
            assert [one.name for one in plugins if one.state is State.ACTIVE] == ["b"]
        assert imported() == set()

    def test_a_spec_gives_a_typed_object(self, site: Site, install: Install) -> None:
        install("a")
        with site.plugins() as plugins:
            made = plugins.create(SPEC, "a")
            assert made.__class__.__name__ == "Transform"

    def test_the_module_of_the_manifest_is_imported_not_the_package_alone(self, site: Site) -> None:
        site.add(
            "a",
            {
                "module": "llama_plugin_a.plugin",
                "provides": [{"kind": "transform", "name": "a", "api": 1}],
            },
            {"llama_plugin_a/plugin.py": TRANSFORM, "llama_plugin_a/other.py": "1 / 0"},
        )
        with site.plugins() as plugins:
            assert plugins.create("transform", "a")
            assert imported() == {"llama_plugin_a", "llama_plugin_a.plugin"}

    def test_the_hook_gets_the_short_name_and_the_options(
        self, site: Site, install: Install
    ) -> None:
        install("a", capability={"name": "min-p", "options": {"p": {"type": "number"}}})
        with site.plugins() as plugins:
            made = plugins.create("transform", "a/min-p", {"p": 0.5})
            assert (made.name, made.options) == ("min-p", {"p": 0.5})

    def test_a_plugin_reaches_what_it_requires_through_the_hook(
        self, site: Site, install: Install
    ) -> None:
        install("inner")
        source = """
from llama_core import hookimpl

@hookimpl
def llama_create_transform(plugins):
    return plugins.create("transform", "inner")
"""
        requires = [{"kind": "transform", "name": "inner"}]
        install("outer", source, manifest={"requires": requires})
        with site.plugins() as plugins:
            assert plugins.create("transform", "outer").name == "inner"

    def test_bad_options_import_nothing(self, site: Site, install: Install) -> None:
        install("a")
        with site.plugins() as plugins:
            with pytest.raises(OptionsError):
                plugins.create("transform", "a", {"p": 1})
            assert imported() == set()

    def test_options_that_cannot_be_copied_are_the_caller_s_mistake(
        self, site: Site, install: Install
    ) -> None:
        install("a", capability={"options": {"p": {}}})
        with site.plugins() as plugins:
            with pytest.raises(OptionsError) as caught:
                plugins.create("transform", "a", {"p": threading.Lock()})
            assert plugins["a"].num_faults == 0
        assert "options of transform 'a' cannot be copied: TypeError: cannot pickle" in str(
            caught.value
        )
        assert "plain data: texts, numbers, lists and tables" in str(caught.value)

    def test_the_public_names_are_enough(self, site: Site, install: Install) -> None:
        import llama_core

        install("a")
        with site.on_path():
            plugins = llama_core.Plugins.load(llama_core.Config())
            assert plugins.create("transform", "a")


class TestOnce:
    def test_activating_twice_is_activating_once(self, site: Site, install: Install) -> None:
        install("a")
        events: list[Event] = []
        with site.plugins() as plugins:
            plugins.events.subscribe(PluginLoaded, events.append)
            assert plugins.activate("a") is plugins.activate("a")
            assert plugins.events.flush()
        assert [(one.plugin, one.version) for one in events] == [("a", "0.1.0")]

    def test_sixteen_threads_import_it_once(
        self, site: Site, install: Install, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        slow = f"import time\n{NOTE.format(file=str(log))}time.sleep(0.05)\n{TRANSFORM}"
        install("a", slow)
        together = threading.Barrier(16)
        loaded: list[Event] = []

        def ask(plugins: Plugins) -> Any:
            together.wait(10)
            return plugins.create("transform", "a")

        with site.plugins() as plugins, ThreadPoolExecutor(16) as pool:
            plugins.events.subscribe(PluginLoaded, loaded.append)
            made = list(pool.map(ask, [plugins] * 16))
            assert plugins.events.flush()
        assert len({id(one) for one in made}) == 16
        assert log.read_text() == "x"
        assert len(loaded) == 1

    def test_sixteen_threads_hear_of_a_broken_one_and_it_is_tried_once(
        self, site: Site, install: Install, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        install("a", f"{NOTE.format(file=str(log))}1 / 0\n")
        together = threading.Barrier(16)

        def ask(plugins: Plugins) -> str:
            together.wait(10)
            return str(broken(plugins, "a"))

        with site.plugins() as plugins, ThreadPoolExecutor(16) as pool:
            said = list(pool.map(ask, [plugins] * 16))
        assert all("ZeroDivisionError" in line for line in said)
        assert log.read_text() == "x"

    def test_a_plugin_that_hangs_at_import_holds_up_no_other(
        self, site: Site, install: Install
    ) -> None:
        gate = "import threading, llama_plugin_gate\nllama_plugin_gate.GATE.wait(20)\n"
        site.add(
            "gate",
            None,
            {"llama_plugin_gate/__init__.py": "import threading\nGATE = threading.Event()\n"},
        )
        install("stuck", gate + TRANSFORM)
        install("free")
        with site.plugins() as plugins, ThreadPoolExecutor(2) as pool:
            module = importlib.import_module("llama_plugin_gate")
            stuck = pool.submit(plugins.create, "transform", "stuck")
            try:
                free = pool.submit(plugins.create, "transform", "free")
                assert free.result(10).name == "free"
                assert not stuck.done()
            finally:
                module.GATE.set()
            assert stuck.result(10).name == "stuck"


class TestClaims:
    def test_a_manifest_that_says_what_the_module_does_not_do(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        provides = [
            {"kind": "transform", "name": "a", "api": 1},
            {"kind": "sampler", "name": "b", "api": 1},
        ]
        install("a", TRANSFORM, provides=provides, manifest={"listens": ["shutdown"]})
        with site.plugins() as plugins:
            error = broken(plugins, "a")
            assert plugins["a"].state is State.QUARANTINED
        assert isinstance(error, IncompatiblePlugin)
        assert str(error) == (
            "plugin 'a' is not what its manifest says: it claims sampler 'b', but implements no "
            "llama_create_sampler; it claims listening to shutdown, but implements no "
            "llama_shutdown. Its author should correct plugin.toml or the module."
        )
        assert len(said) == 1

    def test_a_module_that_does_what_the_manifest_does_not_say(
        self, site: Site, install: Install
    ) -> None:
        install("a", TRANSFORM + "\n@hookimpl\ndef llama_shutdown(event):\n    pass\n")
        with site.plugins() as plugins:
            assert "it implements llama_shutdown, but claims nothing that this would answer" in str(
                broken(plugins, "a")
            )

    def test_a_hook_that_does_not_exist_has_near_misses(self, site: Site, install: Install) -> None:
        install("a", TRANSFORM.replace("llama_create_transform", "llama_create_transfrom"))
        with site.plugins() as plugins:
            error = broken(plugins, "a")
        assert (
            "There is no hook llama_create_transfrom. Did you mean 'llama_create_transform'"
            in str(error)
        )

    def test_an_argument_that_the_hook_does_not_have(self, site: Site, install: Install) -> None:
        install("a", TRANSFORM.replace("(name, options):\n    return", "(nam):\n    return"))
        with site.plugins() as plugins:
            assert "{'nam'}" in str(broken(plugins, "a"))

    def test_a_namesake_earlier_on_the_path_is_not_taken_for_it(
        self, site: Site, install: Install, tmp_path: Path
    ) -> None:
        home = install("a")
        other = Site(tmp_path / "other")
        other.add("other", None, {"llama_plugin_a/__init__.py": TRANSFORM})
        with site.plugins() as plugins, other.on_path():
            error = broken(plugins, "a")
        assert f"has its manifest in {home}, but its code was imported from" in str(error)
        assert "Remove the other copy from the path." in str(error)

    def test_a_plugin_that_imports_torch_when_activated_is_told_of_and_works(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("heavy", "import torch\n" + TRANSFORM, code={"torch/__init__.py": ""})
        with site.plugins() as plugins:
            assert plugins.create("transform", "heavy")
            assert plugins.create("transform", "heavy")
        (line,) = said
        assert line.startswith("plugin 'heavy' imports torch when activated (")
        assert line.endswith("Its author should import it inside the function that needs it.")

    def test_a_plugin_that_imports_torch_when_it_is_used_is_not(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        lazy = TRANSFORM.replace("    return Transform", "    import torch\n    return Transform")
        install("light", lazy, code={"torch/__init__.py": ""})
        with site.plugins() as plugins:
            assert plugins.create("transform", "light")
            assert "torch" in sys.modules
        assert said == []


class TestQuarantine:
    def test_a_failed_activation_quarantines_at_once_and_says_so_once(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        home = install("bad", "import nothing_of_this_name\n")
        failed: list[PluginFailed] = []
        with site.plugins(max_faults=1) as plugins:
            plugins.events.subscribe(PluginFailed, failed.append)
            first = broken(plugins, "bad")
            later = [broken(plugins, "bad") for _ in range(3)]
            assert plugins.events.flush()
            assert plugins["bad"].state is State.QUARANTINED
        assert isinstance(first, PluginFault)
        why = (
            "it needs the module 'nothing_of_this_name', which is not installed "
            f"({home / '__init__.py'}:1)"
        )
        remedy = "Install it: pip install nothing_of_this_name"
        assert str(first) == (f"plugin 'bad' failed in import llama_plugin_bad: {why}. {remedy}")
        assert {str(one) for one in later} == {f"plugin 'bad' is quarantined: {why}. {remedy}"}
        assert all(isinstance(one, PluginQuarantined) for one in later)
        assert said == [str(later[0])]
        assert [(one.plugin, one.quarantined) for one in failed] == [("bad", True)]

    def test_repeated_faults_quarantine_and_a_reset_lifts_it(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        flaky = TRANSFORM.replace(
            "    return Transform", "    BROKEN and 1 / 0\n    return Transform"
        )
        install("flaky", "BROKEN = True\n" + flaky)
        failed: list[PluginFailed] = []
        with site.plugins(max_faults=3) as plugins:
            plugins.events.subscribe(PluginFailed, failed.append)
            for _ in range(3):
                assert isinstance(broken(plugins, "flaky"), PluginFault)
            error = broken(plugins, "flaky")
            assert isinstance(error, PluginQuarantined)
            assert "3 fault(s), the last in llama_create_transform: ZeroDivisionError" in str(error)
            sys.modules["llama_plugin_flaky"].BROKEN = False  # type: ignore[attr-defined]
            assert isinstance(broken(plugins, "flaky"), PluginQuarantined)
            plugins.reset("flaky")
            assert plugins["flaky"].state is State.READY
            assert plugins.create("transform", "flaky")
            assert plugins.events.flush()
        assert [one.quarantined for one in failed] == [False, False, True]
        assert len(said) == 1

    def test_after_a_reset_it_answers_for_its_name_again(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        source = TRANSFORM.replace("transform(", "sampler(").replace("    return T", "    return T")
        install("mine", source, provides=[{"kind": "sampler", "name": "greedy", "api": 1}])
        with site.plugins(max_faults=1) as plugins:
            assert plugins.create("sampler", "greedy").name == "greedy"
            plugins.fault("mine", "greedy.__call__", "it returned nonsense")
            assert not hasattr(plugins.create("sampler", "greedy"), "name")  # the builtin one
            assert "'builtin' is used instead: plugin 'mine' is quarantined" in said[-1]
            plugins.reset("mine")
            assert plugins.create("sampler", "greedy").name == "greedy"

    def test_resetting_what_is_not_quarantined_changes_nothing(
        self, site: Site, install: Install
    ) -> None:
        install("a")
        with site.plugins(disable=("a",)) as plugins:
            plugins.reset("a")
            assert plugins["a"].state is State.DISABLED

    def test_errors_survive_a_process_boundary(self) -> None:
        import pickle

        error = PluginFault("a", "llama_shutdown", "why", remedy="do this")
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.to_dict()) == (str(error), error.to_dict())


class Own:
    """What an embedding application registers: any object with hooks."""

    def __init__(self, label: str) -> None:
        self.label = label

    @hookimpl
    def llama_create_transform(self, name: str) -> Any:
        made = types.SimpleNamespace(label=self.label, name=name)
        return type("T", (), {"__call__": lambda self, logits, context: logits, "made": made})()


OWN = {
    "name": "own",
    "summary": "The application's",
    "provides": [{"kind": "transform", "name": "mine", "api": 1}],
}


class TestRegister:
    def test_an_application_brings_its_own(self, site: Site) -> None:
        with site.plugins(allow=(), plugins=False) as plugins:
            plugins.register(Own("first"), OWN)
            assert plugins.create("transform", "mine").made.label == "first"
            assert "mine" in plugins.names("transform")

    def test_registering_again_replaces(self, site: Site, said: list[str]) -> None:
        with site.plugins() as plugins:
            for label in ("first", "second", "third"):
                plugins.register(Own(label), OWN)
                assert plugins.create("transform", "mine").made.label == label
            assert len([one for one in plugins if one.name == "own"]) == 1
        assert said == []

    def test_a_broken_one_can_be_replaced_by_a_whole_one(self, site: Site) -> None:
        with site.plugins() as plugins:
            plugins.register(types.SimpleNamespace(), OWN)
            assert "implements no llama_create_transform" in str(broken(plugins, "mine"))
            plugins.register(Own("whole"), OWN)
            assert plugins.create("transform", "mine").made.label == "whole"

    @pytest.mark.parametrize("name", ["a", "builtin"])
    def test_an_installed_name_is_refused(self, site: Site, install: Install, name: str) -> None:
        install("a")
        with site.plugins() as plugins:
            with pytest.raises(CapabilityConflict) as caught:
                plugins.register(Own("x"), {**OWN, "name": name})
            assert plugins.create("transform", "a")
        assert str(caught.value) == (
            f"a plugin called '{name}' is installed already. Give yours another name."
        )

    def test_a_bad_manifest_is_refused_like_any(self, site: Site) -> None:
        with site.plugins() as plugins, pytest.raises(ManifestError) as caught:
            plugins.register(Own("x"), {**OWN, "sumary": ""})
        assert "the manifest given to register() is not a valid manifest: sumary" in str(
            caught.value
        )

    def test_it_takes_part_in_conflicts(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("a", capability={"name": "mine"})
        with site.plugins() as plugins:
            assert plugins.resolve("transform", "mine").plugin.name == "a"
            plugins.register(Own("x"), OWN)
            assert plugins.create("transform", "own/mine").made.label == "x"
            assert plugins.resolve("transform", "mine").plugin.name == "a"
        assert "of plugin 'a' is used; the name is also provided by 'own'" in said[0]

    def test_listeners_of_a_replaced_one_hear_no_more(self, site: Site) -> None:
        heard: list[str] = []

        def listener(label: str) -> Any:
            @hookimpl
            def llama_plugin_loaded(event: PluginLoaded) -> None:
                heard.append(f"{label} {event.plugin}")

            return types.SimpleNamespace(llama_plugin_loaded=llama_plugin_loaded)

        manifest = {"name": "ear", "summary": "Listens", "listens": ["plugin_loaded"]}
        with site.plugins() as plugins:
            plugins.register(listener("old"), manifest)
            plugins.start()
            plugins.register(listener("new"), manifest)
            plugins.start()
            plugins.events.flush()
            heard.clear()
            plugins.emit(PluginLoaded(plugin="x", version="1"))
            assert plugins.events.flush()
        assert heard == ["new x"]

    def test_readers_never_see_a_catalogue_half_built(self, site: Site, install: Install) -> None:
        for i in range(50):
            install(f"p{i}")
        stop, gaps = threading.Event(), []

        def read(plugins: Plugins) -> None:
            while not stop.is_set():
                if len(plugins.names("transform")) < 50:
                    gaps.append(1)

        with site.plugins() as plugins, ThreadPoolExecutor(2) as pool:
            reader = pool.submit(read, plugins)
            for i in range(100):
                plugins.register(Own(str(i)), OWN)
            stop.set()
            reader.result(10)
        assert not gaps


class TestReload:
    def test_a_reloaded_module_answers_after_deactivation(
        self, site: Site, install: Install
    ) -> None:
        home = install(
            "a", "VERSION = 1\n" + TRANSFORM.replace("name, options)\n", "VERSION, 0)\n")
        )
        with site.plugins() as plugins:
            assert plugins.create("transform", "a").name == 1
            module = sys.modules["llama_plugin_a"]
            text = (home / "__init__.py").read_text()
            (home / "__init__.py").write_text(text.replace("VERSION = 1", "VERSION = 22"))
            importlib.reload(module)
            plugins.deactivate("a")
            assert plugins["a"].state is State.READY
            assert plugins.create("transform", "a").name == 22

    def test_deactivating_an_unknown_plugin_says_so(self, site: Site) -> None:
        with site.plugins() as plugins, pytest.raises(MissingCapability, match="no plugin called"):
            plugins.deactivate("nothing")


CHILD = '''
import multiprocessing, os, sys, threading
from llama_core import Config, Plugins

def use(name):
    return Plugins.load(Config()).create("transform", name).name

def forked(plugins, name):
    """What a child process says that was forked while other threads are busy."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = plugins.create("transform", name).name
        except BaseException as error:
            said = repr(error)
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    said = os.read(reads, 1000).decode()
    os.waitpid(pid, 0)
    return said

if __name__ == "__main__":
    if sys.argv[1] == "spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(use, ("a",)))
    else:
        plugins = Plugins.load(Config())
        plugins.create("transform", "a")
        stuck = threading.Thread(target=plugins.create, args=("transform", "stuck"), daemon=True)
        stuck.start()
        while "llama_plugin_stuck" not in sys.modules:
            pass
        # As another thread would hold it at the wrong moment.
        holder = threading.Thread(target=plugins._lock.acquire)
        holder.start()
        holder.join()
        print(forked(plugins, "a"), forked(plugins, "b"), flush=True)
        os._exit(0)
'''


class TestProcesses:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ("spawn", "a"),
            pytest.param(
                "fork",
                "a b",
                marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
            ),
        ],
    )
    def test_plugins_work_in_a_child_process(
        self, site: Site, install: Install, tmp_path: Path, how: str, expected: str
    ) -> None:
        install("a")
        install("b")
        install("stuck", "import time\ntime.sleep(60)\n")
        script = tmp_path / "child.py"
        script.write_text(CHILD)
        path = [str(site.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(script), how],
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.stdout.strip(), done.returncode) == (expected, 0), done.stderr
