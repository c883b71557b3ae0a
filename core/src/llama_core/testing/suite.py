"""What every plugin owes whatever its kind, and what the suites of all kinds are built from.

A rule is a test method; its name is its id and its docstring the rule in one sentence. A failure
says what was found and what the author should do. Where a plugin cannot even be created, the one
rule that says so fails and the rest are skipped: one cause, one failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llama_core import contracts, options
from llama_core.catalogue import Capability
from llama_core.errors import LlamaError, OptionsError, PluginFault
from llama_core.plugins import HEAVY, Plugins
from llama_core.testing import child, extremes, signatures
from llama_core.testing.verdict import check

Make = Callable[[], Any]
Rule = Callable[..., None]


def rule_methods(suite: type) -> dict[str, Rule]:
    """The rules of a suite, the shared ones first, each class's in the order they are written."""
    found: dict[str, Rule] = {}
    for cls in reversed(suite.__mro__):
        found |= {name: value for name, value in vars(cls).items() if name.startswith("test_")}
    return found


class PluginContract:
    """Base of all suites. `provides` is all an author must say."""

    kind: ClassVar[str] = ""
    provides: ClassVar[str] = ""
    plugin: ClassVar[str | None] = None  # where several plugins provide the name
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)  # "{folder}" becomes an empty folder
    most_modules: ClassVar[int] = 600  # that activation may import beyond the core's own

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.kind and cls.provides:
            suite = next(c for c in cls.__mro__ if c.__dict__.get("kind"))
            cls.__llama_contract__ = {
                "kind": cls.kind,
                "provides": cls.provides,
                "api": contracts.spec(cls.kind).api,
                "rules": tuple(rule_methods(suite)),
            }

    __llama_contract__: ClassVar[Mapping[str, Any] | None] = None

    # ---- what the rules are given ------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "given" in metafunc.fixturenames:
            fault = _options_fault(self.options)
            rounds = [fault] if fault else list(self.options)
            metafunc.parametrize("given", rounds, ids=[*map(_round_name, rounds)])

    @pytest.fixture
    def capability(self, llama_plugins: Plugins) -> Capability:
        """What the manifest says of it."""
        try:
            return self._resolve(llama_plugins)
        except LlamaError:
            pytest.skip("test_manifest_is_valid says why")

    @pytest.fixture
    def active(self, llama_plugins: Plugins, capability: Capability) -> Capability:
        """The same, its plugin activated."""
        if _activation_fault(llama_plugins, capability):
            pytest.skip("test_activates_as_claimed says why")
        return capability

    @pytest.fixture
    def filled(
        self, given: Mapping[str, Any] | str, tmp_path_factory: pytest.TempPathFactory
    ) -> Callable[[], dict[str, Any]]:
        """The options under test, each call with an empty folder of its own."""

        def fill() -> dict[str, Any]:
            if isinstance(given, str):  # what is wrong with `options` in the test class
                raise OptionsError(given)
            return {key: self._placed(value, tmp_path_factory) for key, value in given.items()}

        return fill

    @pytest.fixture
    def create(
        self, llama_plugins: Plugins, active: Capability
    ) -> Callable[[Mapping[str, Any]], Any]:
        """Creates the capability with some options."""
        try:
            unusable = extremes.unusable(
                options.schema(active.provides, plugin=active.plugin.found)
            )
        except LlamaError:
            unusable = "unreadable"
        if unusable:
            pytest.skip("test_options_schema_is_valid says why")
        name = f"{active.plugin.name}/{active.provides.name}"
        return lambda given: llama_plugins.create(self.kind, name, given)

    @pytest.fixture
    def make(
        self, create: Callable[[Mapping[str, Any]], Any], filled: Callable[[], dict[str, Any]]
    ) -> Make:
        """Gives a new object at each call, under the options of this round."""
        if signatures.misfits(_created(create, filled), contracts.spec(self.kind).contract):
            pytest.skip("test_methods_take_what_the_contract_gives says why")
        return lambda: create(filled())

    def _resolve(self, plugins: Plugins) -> Capability:
        if not self.provides:
            raise LlamaError('say what is to be tested: provides = "NAME" in the test class')
        name = f"{self.plugin}/{self.provides}" if self.plugin else self.provides
        return plugins.resolve(self.kind, name)

    def _placed(self, value: Any, folders: pytest.TempPathFactory) -> Any:
        if isinstance(value, str) and "{folder}" in value:
            return value.replace("{folder}", str(folders.mktemp("folder")))
        return value

    # ---- the rules ---------------------------------------------------------------------------

    def test_manifest_is_valid(self, llama_plugins: Plugins) -> None:
        """The plugin is installed, its manifest is valid and names the capability."""
        for plugin in llama_plugins:
            if plugin.name == self.plugin and plugin.reason is not None:
                check(False, str(plugin.reason))
        try:
            self._resolve(llama_plugins)
        except LlamaError as error:
            refused = [f"{p.name}: {p.reason}" for p in llama_plugins if p.manifest is None]
            check(False, "\n".join([str(error), *refused]))

    def test_listing_imports_nothing(self, capability: Capability) -> None:
        """Finding the plugin and reading its options imports nothing of it."""
        probe = _probe(capability)
        check(
            not probe.imported_early,
            f"{', '.join(probe.imported_early)} was imported before anyone asked for the "
            "capability. Remove what imports it at the start of Python (a .pth file, "
            "sitecustomize).",
        )

    def test_activates_as_claimed(self, llama_plugins: Plugins, capability: Capability) -> None:
        """Activation succeeds, and the module does what the manifest claims, and nothing else."""
        fault = _activation_fault(llama_plugins, capability)
        check(not fault, fault)
        if not _is_registered(capability):
            failure = _probe(capability).failure
            check(not failure, f"here it is activated, and in a process of its own: {failure}")

    def test_activation_imports_nothing_heavy(self, active: Capability) -> None:
        """Activation imports none of the modules that take seconds, such as torch."""
        heavy = [name for name in _imported(active) if name in HEAVY]
        check(
            not heavy,
            f"activating the plugin imports {', '.join(heavy)}. Import it inside the function "
            "that needs it, so that listing and creating stay fast.",
        )

    def test_activation_imports_few_modules(self, active: Capability) -> None:
        """Activation imports no more modules than a small plugin needs."""
        num = len(_imported(active))
        check(
            num <= self.most_modules,
            f"activating the plugin imports {num} modules; the bound is {self.most_modules}. "
            "Import the large ones inside the functions that need them, or raise most_modules.",
        )

    def test_options_schema_is_valid(self, capability: Capability) -> None:
        """The schema of its options is one, has no unknown keyword, and its defaults fit it."""
        try:
            schema = options.schema(capability.provides, plugin=capability.plugin.found)
        except LlamaError as error:
            check(False, str(error))
        else:
            faults = extremes.schema_faults(schema)
            check(not faults, f"correct the options of {capability.provides}: {'; '.join(faults)}")

    def test_unknown_option_is_refused(
        self,
        create: Callable[[Mapping[str, Any]], Any],
        filled: Callable[[], dict[str, Any]],
        make: Make,
    ) -> None:
        """An option it does not declare gives OptionsError, before the plugin is called."""
        try:
            create({**filled(), "no_such_option": 1})
        except OptionsError:
            return
        except LlamaError as error:
            check(False, f"the option reached the plugin: {error}")
        check(
            False,
            "the option 'no_such_option' was taken. Let the schema say "
            '"additionalProperties": false, so that a typing error is noticed.',
        )

    def test_create_fulfils_the_contract(
        self,
        create: Callable[[Mapping[str, Any]], Any],
        filled: Callable[[], dict[str, Any]],
        given: Mapping[str, Any],
    ) -> None:
        """Each of the options to try gives an object that has all members of the contract."""
        try:
            create(filled())
        except OptionsError as error:
            check(False, f"{error} Set `options` in the test class to ones that fit.")
        except PluginFault as fault:
            check(
                False,
                f"{fault.hook} failed with the options {given}: {fault.why}. "
                + (_REQUIRE if not given and _lacks_arguments(fault) else _REFUSE),
            )
        except LlamaError as error:
            check(False, str(error))

    def test_methods_take_what_the_contract_gives(
        self, create: Callable[[Mapping[str, Any]], Any], filled: Callable[[], dict[str, Any]]
    ) -> None:
        """Every method can be called with the arguments that the contract names, in their order."""
        one = _created(create, filled)
        faults = signatures.misfits(one, contracts.spec(self.kind).contract)
        check(not faults, f"let its methods take what they will be given: {'; '.join(faults)}")

    def test_create_is_thread_safe(self, make: Make) -> None:
        """Sixteen threads that create at once all get what they asked for."""
        errors: list[str] = []
        together = threading.Barrier(16)

        def one() -> None:
            together.wait()
            try:
                make()
            except LlamaError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=one) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(
            not errors,
            f"{len(errors)} of 16 threads that created at once failed; guard what they share "
            f"with a lock, or do not share it. The first: {errors[0] if errors else ''}",
        )

    def test_options_never_crash(
        self,
        active: Capability,
        create: Callable[[Mapping[str, Any]], Any],
        filled: Callable[[], dict[str, Any]],
        make: Make,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whatever the schema lets through is taken, or refused with a LlamaError."""
        monkeypatch.chdir(tmp_path)  # an option may be a path that the plugin creates
        schema = options.schema(active.provides, plugin=active.plugin.found)
        for given in extremes.admitted(schema or {}, filled()):
            try:
                create(given)
            except PluginFault as fault:
                check(
                    False,
                    f"the schema allows {given}, and the plugin fails: {fault.why}. Narrow the "
                    "schema (required, minimum, ...), or raise a LlamaError that says why.",
                )
            except LlamaError:
                pass


class FreshObjects:
    """Mixed into the suites of kinds whose objects have a life of their own."""

    def test_every_create_gives_a_new_object(self, make: Make) -> None:
        """Two who create get two objects, so that neither can disturb the other."""
        check(
            make() is not make(),
            "two calls gave the same object. Create a new one each time; what is costly and never "
            "changes may be shared inside.",
        )


_REQUIRE = (
    "If it cannot do without options, declare them `required` and set `options` in the test class."
)
_REFUSE = "Correct it, or where it cannot take these options raise a LlamaError that says why."


def _lacks_arguments(fault: PluginFault) -> bool:
    cause = fault.__cause__
    return isinstance(cause, TypeError) and "missing" in str(cause) and "argument" in str(cause)


def _options_fault(given: Any) -> str:
    """What keeps `options` of a test class from being sets to try; empty where nothing does."""
    if isinstance(given, Mapping):
        return (
            f"`options` is {given!r}, one set of options, and must be a list of the sets to try: "
            f"options = [{given!r}]."
        )
    if not isinstance(given, Sequence) or isinstance(given, str):
        return f"`options` is {given!r}, and must be a list of the sets to try, such as [{{}}]."
    if not given:
        return "`options` is empty, so that nothing is tried. To try it without options give [{}]."
    for each in given:
        if not isinstance(each, Mapping):
            return f"`options` holds {each!r}, which is no set of options: give {{name: value}}."
    return ""


def _round_name(given: Mapping[str, Any] | str) -> str:
    if isinstance(given, str):
        return "options"
    return ",".join(f"{key}={value}" for key, value in given.items()) or "-"


def _created(
    create: Callable[[Mapping[str, Any]], Any], filled: Callable[[], dict[str, Any]]
) -> Any:
    try:
        return create(filled())
    except LlamaError:
        pytest.skip("test_create_fulfils_the_contract says why")


def _activation_fault(plugins: Plugins, capability: Capability) -> str:
    """Why it cannot be activated; empty where it can."""
    try:
        plugins.activate(capability.plugin.name)
    except LlamaError as error:
        plugins.reset(capability.plugin.name)  # in quarantine the next rule would not find it
        return str(error)
    return ""


def _is_registered(capability: Capability) -> bool:
    plugin = capability.plugin
    return plugin.module is not None or plugin.found.location is None


def _probe(capability: Capability) -> child.Probe:
    if _is_registered(capability):
        pytest.skip("registered by an application: there is no package to import")
    try:
        return child.probe(capability.plugin.found)
    except child.ProbeError as error:
        pytest.fail(f"in a process of its own: {error}", pytrace=False)


def _imported(capability: Capability) -> tuple[str, ...]:
    probe = _probe(capability)
    if probe.failure:
        pytest.skip("test_activates_as_claimed says why")
    return probe.imported
