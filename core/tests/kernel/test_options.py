"""What a capability may be told is checked against its schema before the plugin is imported."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llama_core import options
from llama_core.errors import LlamaError
from llama_core.testing.site import Site

Install = Callable[..., Path]
SCHEMA = {
    "type": "object",
    "properties": {"p": {"type": "number", "maximum": 1}, "mode": {"enum": ["a", "b"]}},
    "required": ["p"],
    "additionalProperties": False,
}


def told(site: Site, given: Mapping[str, Any]) -> str:
    with site.plugins() as plugins:
        with pytest.raises(LlamaError) as caught:
            plugins.create("transform", "a", given)
        assert "llama_plugin_a" not in sys.modules
    return f"{caught.value.code}: {caught.value}"


def declare(install: Install, options: Any, **files: str | bytes) -> None:
    code = {f"llama_plugin_a/{name}.json": data for name, data in files.items()}
    install("a", capability={"options": options}, code=code)


class TestSchemas:
    @pytest.mark.parametrize("where", ["table", "file", "subpackage"])
    def test_a_whole_schema_in_the_manifest_or_in_a_file(
        self, site: Site, install: Install, where: str
    ) -> None:
        data = json.dumps(SCHEMA)
        if where == "table":
            declare(install, SCHEMA)
        elif where == "file":
            declare(install, "llama_plugin_a:schema.json", schema=data)
        else:
            declare(install, "llama_plugin_a.sub:schema.json", **{"sub/schema": data})
        with site.plugins() as plugins:
            made = plugins.create("transform", "a", {"p": 0.5, "mode": "a"})
            assert made.options == {"p": 0.5, "mode": "a"}
        assert told(site, {}) == (
            "options_invalid: options of transform 'a' do not fit: 'p' is a required property. It "
            "takes p, mode."
        )

    def test_every_fault_is_told_at_once_with_near_misses(
        self, site: Site, install: Install
    ) -> None:
        declare(install, SCHEMA)
        text = told(site, {"p": 2, "mode": "c", "moed": 1})
        assert "p: 2 is greater than the maximum of 1" in text
        assert "mode: 'c' is not one of ['a', 'b']" in text
        assert "'moed' was unexpected" in text
        assert "Did you mean 'mode'? It takes p, mode." in text

    def test_a_table_may_simply_name_the_options(self, site: Site, install: Install) -> None:
        declare(install, {"p": {"type": "number"}})
        with site.plugins() as plugins:
            assert plugins.create("transform", "a", {}).options == {}
            assert plugins.create("transform", "a", {"p": 1}).options == {"p": 1}
        assert "p: 'x' is not of type 'number'" in told(site, {"p": "x"})
        assert "('q' was unexpected)" in told(site, {"q": 1})

    def test_what_plainly_fits_needs_no_library(
        self, site: Site, install: Install, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(
            sys.modules, "jsonschema", None
        )  # whose import takes a tenth of a second
        declare(install, SCHEMA)
        with site.plugins() as plugins:
            assert plugins.create("transform", "a", {"p": 0.5}).options == {"p": 0.5}
            with pytest.raises(ImportError):
                plugins.create("transform", "a", {"p": 2})

    def test_what_plainly_fits_fits(self) -> None:
        dice = random.Random(0)
        values = [0, 1, 3, -1, 0.5, 2.5, "", "a", "c", True, False, None, [], {}, ["a"]]
        keywords = [
            ("type", ["string", "integer", "number", "boolean", "array", ["string", "null"]]),
            ("minimum", [0, 1, 0.5]), ("maximum", [0, 2, 2.5]), ("minLength", [0, 1, 2]),
            ("enum", [["a", "b"], [1, "a"], [True]]), ("pattern", ["b"]), ("default", ["a"]),
            ("exclusiveMinimum", [0]), ("not", [{"type": "string"}]),
        ]  # fmt: skip
        plain = 0
        for _ in range(30_000):
            properties = {
                name: {
                    k: dice.choice(among)
                    for k, among in keywords
                    if dice.random() < (0.9 if k == "type" else 0.12)
                }
                for name in dice.sample("pq", dice.randrange(3))
            }
            schema: dict[str, Any] = {"type": "object", "properties": properties}
            if dice.random() < 0.3:
                schema["required"] = dice.sample("pq", dice.randrange(3))
            if dice.random() < 0.5:
                schema["additionalProperties"] = dice.random() < 0.5
            if dice.random() < 0.1:
                schema[dice.choice(["maxProperties", "minProperties"])] = 1
            given = {name: dice.choice(values) for name in dice.sample("pq", dice.randrange(3))}
            if options._plainly_fit(schema, given):
                plain += bool(given)
                assert jsonschema.Draft202012Validator(schema).is_valid(given), (schema, given)
        assert plain > 100

    def test_where_none_is_declared_none_is_taken(self, site: Site, install: Install) -> None:
        install("a")
        assert told(site, {"q": 1, "p": 2}) == (
            "options_invalid: transform 'a' of plugin 'a' takes no options, and was given p, q"
        )


class TestBadSchemas:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (None, "cannot be read: [Errno 2] No such file"),
            (b"{", "cannot be read: Expecting property name"),
            (b'"\xff"', "cannot be read: 'utf-8' codec"),
            (b"[]", "is not a JSON object"),
            (b"[" * 100_000, "cannot be read: maximum recursion depth"),
            (b" " * 300_000 + b"{}", "cannot be read: it is larger than 256 KiB"),
        ],
    )
    def test_a_file_that_is_none(
        self, site: Site, install: Install, data: bytes | None, message: str
    ) -> None:
        files = {} if data is None else {"schema": data}
        declare(install, "llama_plugin_a:schema.json", **files)
        text = told(site, {"p": 1})
        assert text.startswith("plugin_incompatible: the options schema ")
        assert str(site.folder / "llama_plugin_a" / "schema.json") in text
        assert message in text

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"p": {"type": "nummer"}}},
            {"properties": {"p": 3}},
            {"properties": {"p": {"pattern": "("}}},
            {"properties": {}, "required": "p"},
        ],
    )
    def test_a_schema_that_is_not_one(self, site: Site, install: Install, schema: Any) -> None:
        declare(install, schema)
        assert told(site, {"p": "x"}).startswith(
            "plugin_incompatible: plugin 'a' declares a schema for transform 'a' that is not one: "
        )

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("http://127.0.0.1:9/schema.json", "Unresolvable: http://127.0.0.1:9/schema.json"),
            ("file:///etc/passwd", "Unresolvable: file:///etc/passwd"),
            ("#/nowhere", "nowhere"),
            ("#", "RecursionError"),
        ],
    )
    def test_a_reference_is_never_fetched(
        self, site: Site, install: Install, reference: str, message: str
    ) -> None:
        declare(install, {"properties": {"p": {}}, "$ref": reference})
        text = told(site, {"p": 1})
        assert "declares a schema for transform 'a' that is not one: " in text
        assert message in text

    @pytest.mark.filterwarnings("ignore")  # a fetch would warn, and so be stopped only here
    def test_not_even_one_that_could_be_had(
        self, site: Site, install: Install, tmp_path: Path
    ) -> None:
        (tmp_path / "there.json").write_text("{}")
        declare(install, {"properties": {"p": {}}, "$ref": (tmp_path / "there.json").as_uri()})
        assert "Unresolvable: file:///" in told(site, {"p": 1})

    def test_a_file_of_another_package_is_out_of_bounds(self, site: Site, install: Install) -> None:
        declare(install, "llama_core:builtin/plugin.toml")
        assert told(site, {"p": 1}) == (
            "plugin_incompatible: plugin 'a' declares options in 'llama_core', outside its own "
            "package"
        )
