"""Mistakes an author makes, each with the sentence that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llama_core.config import Config
from llama_core.errors import ConfigError, LlamaError, OptionsError
from llama_core.events import Event
from llama_core.testing.site import Site

Install = Callable[..., Path]

UNMARKED = "def llama_create_transform(name):\n    return lambda logits_NV, context: logits_NV\n"
WRONG_ARGUMENT = """
from llama_core import hookimpl
@hookimpl
def llama_create_transform(name, opts):
    return None
"""


def refusal(site: Site, name: str) -> str:
    with site.plugins() as plugins, pytest.raises(LlamaError) as caught:
        plugins.create("transform", name)
    return str(caught.value)


def test_a_forgotten_decorator_is_named(site: Site, install: Install) -> None:
    install("mine", UNMARKED)
    assert "the function is there: it lacks the decorator @hookimpl" in refusal(site, "mine")


def test_a_wrong_argument_is_answered_with_the_right_ones(site: Site, install: Install) -> None:
    install("mine", WRONG_ARGUMENT)
    said = refusal(site, "mine")
    assert "{'opts'}" in said
    assert "llama_create_transform may take name, options, plugins." in said


def test_a_module_that_is_not_there_is_the_manifests_mistake(site: Site, install: Install) -> None:
    install("mine", manifest={"module": "llama_plugin_mine.plugn"})
    said = refusal(site, "mine")
    assert "says module = 'llama_plugin_mine.plugn'" in said
    assert "plugin.toml" in said
    assert "pip install" not in said


def test_the_right_name_under_another_kind_is_told(site: Site) -> None:
    assert "There is a sampler 'greedy'." in refusal(site, "greedy")


@pytest.mark.parametrize("options", [None, [1], "k=1"])
def test_options_that_are_no_table(site: Site, options: object) -> None:
    with site.plugins() as plugins, pytest.raises(OptionsError, match="must be a table, not"):
        plugins.create("transform", "top-k", options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_without_a_bound_are_refused(site: Site, value: float) -> None:
    with site.plugins() as plugins, pytest.raises(OptionsError, match="must be finite: p"):
        plugins.create("transform", "top-p", {"p": value})


def test_a_name_that_is_no_name(site: Site) -> None:
    with site.plugins() as plugins, pytest.raises(LlamaError, match="by its name, not by None"):
        plugins.create("sampler", None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "settings", [{"allow": "cpu"}, {"strict": "yes"}, {"max_faults": -1}, {"disable": "cpu"}]
)
def test_settings_of_an_application_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "listener"), [("request_finished", print), (int, print), (Event, 3)]
)
def test_a_subscription_that_could_never_be_heard(
    site: Site, event: object, listener: object
) -> None:
    with site.plugins() as plugins, pytest.raises(TypeError, match="an event class and a function"):
        plugins.events.subscribe(event, listener)  # type: ignore[type-var,arg-type]
