"""What any kind may do wrong: manifests, imports, options, creating."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from llama_core.testing import Site
from specimens.harness import NAME, specimen
from specimens.sampling import MinP

_SOURCE = """
{first}
import numpy as np
from llama_core import hookimpl

class Same:
    def __call__(self, logits_NV, context):
        return logits_NV

@hookimpl
def llama_create_transform(name, options):
    return Same()
"""
_PROVIDES = {"provides": [{"kind": "transform", "name": NAME, "api": 1}]}


def install(site: Site) -> None:
    """The specimens that must be installed to be what they are."""
    site.add("site-good", _PROVIDES, _code("site-good"))
    site.add("site-manifest", {"provides": [{"kind": "transform", "name": NAME}]})  # no api
    site.add(
        "site-eager",
        _PROVIDES,
        {**_code("site-eager"), "sitecustomize.py": "import llama_plugin_site_eager\n"},
    )
    heavy = {**_code("site-heavy", "import jax"), "jax.py": ""}
    site.add("site-heavy", _PROVIDES, heavy)
    many = "import imaplib, mailbox, xmlrpc.client, wave, tarfile, plistlib"
    site.add("site-many", _PROVIDES, _code("site-many", many))
    site.add("site-absent", _PROVIDES, _code("site-absent", "import a_module_that_nobody_has"))
    for name, files in (("site-no-options", {}), ("site-bad-options", {"options.json": "[1]"})):
        package = f"llama_plugin_{name.replace('-', '_')}"
        provides = {
            "provides": [{**_PROVIDES["provides"][0], "options": f"{package}:options.json"}]
        }
        code = {f"{package}/{path}": text for path, text in files.items()}
        site.add(name, provides, {**_code(name), **code})


def _code(name: str, first: str = "") -> dict[str, str]:
    return {f"llama_plugin_{name.replace('-', '_')}/__init__.py": _SOURCE.format(first=first)}


specimen("transform", plugin="site-good")
specimen("transform", "test_manifest_is_valid", plugin="site-manifest")
specimen("transform", "test_listing_imports_nothing", plugin="site-eager")
specimen("transform", "test_activation_imports_nothing_heavy", plugin="site-heavy")
specimen("transform", "test_activation_imports_few_modules", plugin="site-many", most_modules=20)
specimen("transform", "test_activates_as_claimed", MinP)
specimen("transform", "test_activates_as_claimed", plugin="site-absent", says="nobody_has")
specimen("transform", "test_options_schema_is_valid", plugin="site-no-options", says="options.json")
specimen(
    "transform", "test_options_schema_is_valid", plugin="site-bad-options", says="options.json"
)
specimen(
    "transform",
    "test_options_schema_is_valid",
    MinP,
    manifest={"options": {"p": {"type": "number", "minimum": 0, "maximum": 1, "default": "big"}}},
)
_p = {"type": "number", "minimum": 0, "maximum": 1}
specimen(
    "transform",
    "test_options_schema_is_valid",
    MinP,
    manifest={"options": {"p": {"type": "nombre"}}},
)
specimen(
    "transform",
    "test_options_schema_is_valid",
    MinP,
    manifest={"options": {"p": {"$ref": "#/$defs/nowhere"}}},
    says="nowhere",
)
specimen(
    "transform",
    "test_options_schema_is_valid",
    MinP,
    manifest={"options": {"p": {**_p, "maximun": 1}}},
    says="'maximun'; did you mean 'maximum'",
)
specimen(
    "transform",
    "test_options_schema_is_valid",
    MinP,
    manifest={"options": {"p": {"anyOf": [{**_p, "descripton": "small"}]}}},
    says="did you mean 'description'",
)
specimen("transform", make=MinP, manifest={"options": {"p": {**_p, "x-unit": "1", "title": "P"}}})
for _options, _says in (
    ([], "[{}]"),
    ((), "[{}]"),
    ({"p": 0.1}, "options = [{'p': 0.1}]"),
    (None, "list"),
    (["p"], "'p'"),
):
    specimen(
        "transform",
        "test_create_fulfils_the_contract",
        MinP,
        manifest={"options": {"p": _p}},
        says=_says,
        options=_options,
    )
_open = {"type": "object", "properties": {"p": {"type": "number", "minimum": 0, "maximum": 1}}}


@specimen("transform", "test_unknown_option_is_refused", manifest={"options": _open})
class TakesAnything(MinP):
    def __init__(self, p: float = 0.05, **others: Any) -> None:
        super().__init__(p)


@specimen(
    "transform",
    "test_create_fulfils_the_contract",
    manifest={"options": {"p": {"type": "number"}}},
    says="declare them `required`",
)
class CannotDoWithout(MinP):
    def __init__(self, p: float) -> None:
        super().__init__(p)


@specimen("transform", "test_create_fulfils_the_contract", keeps_to_itself="`required`")
class HasABug(MinP):
    def __init__(self) -> None:
        raise ValueError("a plain bug")


@specimen(
    "transform",
    "test_create_fulfils_the_contract",
    manifest={"options": {"p": {"type": "number"}}},
    options=({"p": 0.5},),
    keeps_to_itself="`required`",
)
class CannotDoEither(MinP):
    def __init__(self, p: float, q: float) -> None:
        super().__init__(p)


@specimen("transform", "test_create_fulfils_the_contract", keeps_to_itself="`required`")
def nothing() -> None:
    return None


@specimen("router", "test_create_fulfils_the_contract")
class LacksItsMethod:
    pass


@specimen("model", "test_methods_take_what_the_contract_gives")
class PathIsNoMethod:
    path = Path("/")


@specimen("transform", "test_methods_take_what_the_contract_gives")
class WantsMore(MinP):
    def __call__(self, logits_NV: Any, context: Any, extra: Any) -> Any:  # type: ignore[override]
        return logits_NV


_inside = threading.Semaphore(1)


@specimen("transform", "test_create_is_thread_safe")
def one_at_a_time() -> MinP:
    if not _inside.acquire(blocking=False):
        raise RuntimeError("someone else is creating")
    time.sleep(0.005)
    _inside.release()
    return MinP()


@specimen(
    "transform",
    "test_options_never_crash",
    manifest={"options": {"p": {"type": "number", "minimum": 0, "maximum": 1}}},
)
class DividesByZero(MinP):
    def __init__(self, p: float = 0.05) -> None:
        super().__init__(0.05 * p / p)


@specimen(
    "transform",
    "test_options_never_crash",
    manifest={"options": {"p": {"type": "number", "minimum": 0, "maximum": 1}}},
    options=({"p": 0.1},),
)
class NeedsAnOption(MinP):
    def __init__(self, p: float) -> None:
        super().__init__(p)


_only = MinP()


@specimen("transform", "test_every_create_gives_a_new_object")
def shared() -> MinP:
    return _only
