"""What a `plugin.toml` may say, and how every mistake in one is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core import manifest
from llama_core.contracts import KINDS
from llama_core.errors import LlamaError, ManifestError
from llama_core.events import EVENT_NAMES
from llama_core.tables import MAX_BYTES, read_table
from llama_core.testing.site import to_toml

ONE = {"kind": "transform", "name": "min-p", "api": 1}
WHOLE: dict[str, Any] = {"name": "min-p", "summary": "Drops unlikely tokens", "provides": [ONE]}


def refused(table: dict[str, Any], **how: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        manifest.parse(table, source="plugin.toml", **how)
    return str(caught.value)


def one(**changes: Any) -> dict[str, Any]:
    return {**WHOLE, "provides": [{**ONE, **changes}]}


def unreadable(tmp_path: Path, data: bytes) -> str:
    file = tmp_path / "plugin.toml"
    file.write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        read_table(file)
    message = str(caught.value)
    assert str(file) in message
    return message


class TestFields:
    def test_a_full_manifest_is_kept_as_it_was_written(self) -> None:
        parsed = manifest.parse(
            {
                **WHOLE,
                "module": "llama_plugin_min_p.plugin",
                "listens": ["model_loaded"],
                "requires": [{"kind": "backend"}, {"kind": "format", "name": "gguf"}],
                "provides": [
                    {
                        **ONE,
                        "needs": {"os": ["linux"], "arch": ["x86_64"]},
                        "combines": ["lora"],
                        "priority": 90,
                        "options": {"p": {"type": "number"}},
                    }
                ],
            },
            source="plugin.toml",
            entry_point="min-p",
        )
        assert parsed.provides[0].needs.os == ("linux",)
        assert parsed.provides[0].options == {"p": {"type": "number"}}
        assert parsed.listens == ("model_loaded",)
        assert [str(need) for need in parsed.requires] == ["any backend", "format 'gguf'"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_can_be_provided(self, kind: str) -> None:
        assert manifest.parse(one(kind=kind), source="x").provides[0].kind == kind

    @pytest.mark.parametrize("event", EVENT_NAMES)
    def test_every_event_can_be_listened_to(self, event: str) -> None:
        parsed = manifest.parse({"name": "a", "summary": "b", "listens": [event]}, source="x")
        assert parsed.listens == (event,)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({}, "name: Field required; summary: Field required"),
            ({**WHOLE, "sumary": "x"}, "sumary: Unknown field. Did you mean 'summary'?"),
            (one(priorty=3), "provides.0.priorty: Unknown field. Did you mean 'priority'?"),
            (one(needs={"oss": []}), "provides.0.needs.oss: Unknown field. Did you mean 'os'?"),
            (
                {**WHOLE, "requires": [{"kind": "backend", "nam": "x"}]},
                "requires.0.nam: Unknown field. Did you mean 'name'?",
            ),
            (one(kind="sampeler"), "'sampeler' is not one of 'backend', 'program'"),
            (one(kind="sampeler"), "(did you mean 'sampler'?)"),
            (one(needs={"os": ["linus"]}), "provides.0.needs.os.0: 'linus' is not one of"),
            (one(needs={"os": ["linus"]}), "(did you mean 'linux'?)"),
            (one(kind=3), "provides.0.kind: Input should be 'backend'"),
            (one(api=0), "provides.0.api: Input should be greater than or equal to 1"),
            (one(api=-3), "provides.0.api: Input should be greater than or equal to 1"),
            (one(api=10**400), "provides.0.api: Input should be less than or equal to 1000000"),
            (one(api="1"), "provides.0.api: Input should be a valid integer"),
            (one(api=True), "provides.0.api: Input should be a valid integer"),
            (one(api=1.0), "provides.0.api: Input should be a valid integer"),
            (one(priority=101), "provides.0.priority: Input should be less than or equal to 100"),
            (one(name="Min P"), "provides.0.name: 'Min P' does not match"),
            (one(name="../x"), "provides.0.name: '../x' does not match"),
            (one(name="a" * 65), "provides.0.name: 'aaaaaaa"),
            ({**WHOLE, "name": "Min_P"}, "name: 'Min_P' does not match"),
            ({**WHOLE, "name": "min-p\n"}, r"name: 'min-p\n' does not match"),
            ({**WHOLE, "name": 7}, "name: Input should be a valid string"),
            ({**WHOLE, "summary": ""}, "summary: String should have at least 1 character"),
            ({**WHOLE, "summary": "x" * 201}, "summary: String should have at most 200 characters"),
            ({**WHOLE, "summary": "two\nlines"}, "summary: 'two"),
            ({**WHOLE, "module": "os; x"}, "module: 'os; x' does not match"),
            ({**WHOLE, "module": "../x"}, "module: '../x' does not match"),
            ({**WHOLE, "provides": "all"}, "provides: Input should be a valid tuple"),
            ({**WHOLE, "provides": [1]}, "provides.0: Input should be a valid dictionary"),
            ({**WHOLE, "listens": ["model_loded"]}, "there is no event 'model_loded'"),
            ({**WHOLE, "listens": ["model_loded"]}, "did you mean 'model_loaded'"),
            ({**WHOLE, "listens": ["zzz"]}, "there are plugin_loaded, plugin_failed"),
            (
                {**WHOLE, "requires": [{"kind": "backend", "version": "two"}]},
                "requires.0.version: not a version range such as '>=0.2,<2'",
            ),
            (
                {**WHOLE, "requires": [{"kind": "backend", "version": ">=" + "9" * 5000}]},
                "requires.0.version: String should have at most 100 characters",
            ),
        ],
    )
    def test_a_wrong_field_is_named_with_its_value_or_its_rule(
        self, table: dict[str, Any], message: str
    ) -> None:
        text = refused(table)
        assert text.startswith("plugin.toml is not a valid manifest: ")
        assert message in text

    def test_all_faults_are_told_at_once(self) -> None:
        text = refused({**one(api=0, kind="no"), "extra": 1})
        assert "provides.0.api" in text
        assert "provides.0.kind" in text
        assert "extra: Unknown field" in text

    def test_a_flood_of_faults_is_cut_short(self) -> None:
        text = refused({**WHOLE, **{f"field{i}": i for i in range(5000)}})
        assert "and 4992 more" in text
        assert len(text) < 1000

    @pytest.mark.parametrize(
        "text", ["\x1b[2J", "\u202etxt.exe", "a\x00b", "\x9b2J", "a\u2028b", "\u2066x"]
    )
    def test_nothing_in_an_error_or_a_summary_can_drive_a_terminal(self, text: str) -> None:
        for table in (
            {**WHOLE, "summary": text},
            {**WHOLE, text: 1},
            one(kind=text),
            one(name=text),
            {**WHOLE, "listens": [text]},
        ):
            assert refused(table).isprintable()

    def test_a_name_that_is_not_the_entry_point_is_contradictory(self) -> None:
        text = refused(WHOLE, entry_point="max-p")
        assert "says name = 'min-p', but its entry point is 'max-p'. Make the two equal." in text

    def test_a_capability_provided_twice_is_contradictory(self) -> None:
        assert "transform 'min-p' is provided twice" in refused({**WHOLE, "provides": [ONE, ONE]})

    def test_one_name_may_stand_in_two_kinds(self) -> None:
        two = {**WHOLE, "provides": [ONE, {**ONE, "kind": "sampler"}]}
        assert len(manifest.parse(two, source="x").provides) == 2

    def test_a_plugin_that_does_nothing_is_refused(self) -> None:
        text = refused({"name": "idle", "summary": "Nothing"})
        assert "it neither provides a capability nor listens to an event" in text

    def test_there_is_a_most_that_one_plugin_provides(self) -> None:
        many = [{**ONE, "name": f"n{i}"} for i in range(manifest.MAX_PROVIDES + 1)]
        assert "at most 256 items" in refused({**WHOLE, "provides": many})

    def test_unknown_and_near_misses_work_in_the_published_schema(self) -> None:
        import jsonschema

        schema = manifest.json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        checker = jsonschema.Draft202012Validator(schema)
        assert not list(checker.iter_errors(WHOLE))
        assert list(checker.iter_errors({**WHOLE, "sumary": ""}))


class TestOptionsPath:
    @pytest.mark.parametrize(
        "options",
        [
            "pkg:../secret.json",
            "pkg:a/../../secret.json",
            "pkg:/etc/passwd",
            "pkg:./x.json",
            "pkg:a//b.json",
            "pkg:..\\secret.json",
            "pkg:C:secret.json",
            "pkg./etc:passwd",
            "pkg..x:a.json",
            "../pkg:a.json",
            "pkg:x\x00.json",
            "pkg",
            ":a.json",
            "pkg:",
        ],
    )
    def test_a_path_that_leads_out_of_the_package_is_refused(self, options: str) -> None:
        text = refused(one(options=options))
        assert "provides.0.options: give 'package:file.json', a file inside the package" in text

    def test_a_file_in_a_subpackage_is_fine(self) -> None:
        parsed = manifest.parse(one(options="pkg.sub:schemas/a.json"), source="x")
        assert parsed.provides[0].options == "pkg.sub:schemas/a.json"


class TestFile:
    def test_a_manifest_written_by_a_windows_editor_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "plugin.toml"
        file.write_bytes(b"\xef\xbb\xbf" + to_toml(WHOLE).replace("\n", "\r\n").encode())
        assert manifest.parse(read_table(file), source="x").name == "min-p"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"name = ", "is not valid TOML: Invalid value (at end of document)"),
            (b"{}", "is not valid TOML: Invalid statement (at line 1, column 1)"),
            (b"a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2"),
            (b'name = "a\x00b"', "is not valid TOML: Illegal character '\\x00'"),
            (b'name = "caf\xe9"', "is not UTF-8: byte 11 is 0xe9. Save it as UTF-8."),
            (b"\xff\xfen\x00", "is not UTF-8: byte 0 is 0xff"),
            (b"api = " + b"9" * 5000, "is not valid TOML: Exceeds the limit (4300 digits)"),
            (b"#" * (MAX_BYTES + 1), "is larger than 64 KiB, the most such a file may be"),
            (b"a = " + b"[" * 20_000, "is nested too deeply, more than 32 levels"),
            (b"a = " + b"{a = " * 9_000, "is nested too deeply, more than 32 levels"),
            (b"a." * 30_000 + b"a = 1", "is nested too deeply, more than 32 levels"),
            (b'"a" . ' * 10_000 + b"a = 1", "is nested too deeply, more than 32 levels"),
            (b"[" + b"a." * 30_000 + b"a]", "is nested too deeply, more than 32 levels"),
            (b"a = {" + b"a." * 20_000 + b"a = 1}", "is nested too deeply, more than 32 levels"),
            (b"a = " + b"[" * 40 + b"]" * 40, "is nested too deeply, more than 32 levels"),
            (b"d = 2026-13-45", "is not valid TOML"),
        ],
    )
    def test_a_bad_file_is_refused_with_the_place(
        self, tmp_path: Path, data: bytes, message: str
    ) -> None:
        began = time.monotonic()
        assert message in unreadable(tmp_path, data)
        assert time.monotonic() - began < 5  # a watchdog: by squares it would take a minute

    def test_a_long_sentence_is_not_a_deep_key(self, tmp_path: Path) -> None:
        file = tmp_path / "plugin.toml"
        file.write_text(f'a = "{"x" * 60_000}"')
        assert len(read_table(file)["a"]) == 60_000

    def test_as_deep_as_allowed_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "plugin.toml"
        file.write_text("a = " + "[" * 32 + "]" * 32)
        assert "a" in read_table(file)

    def test_a_folder_in_its_place_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "plugin.toml").mkdir()
        with pytest.raises(ManifestError, match=r"cannot read .*: Is a directory"):
            read_table(tmp_path / "plugin.toml")


WORDS = st.sampled_from(
    [*manifest.Manifest.model_fields, *manifest.Provides.model_fields, "os", "arch", "version", "x"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*KINDS, *EVENT_NAMES, "min-p", "pkg:a.json", ">=1", "linux"])
    | st.dates()
)
TABLES = st.recursive(
    st.dictionaries(WORDS | st.text(max_size=5), SCALARS, max_size=6),
    lambda inner: st.dictionaries(WORDS, inner | st.lists(inner | SCALARS, max_size=3), max_size=6),
    max_leaves=12,
)


def told(parse: Callable[[], object]) -> str | None:
    """What a user is told; anything but a `LlamaError` is a bug and fails the test."""
    try:
        parse()
    except LlamaError as error:
        return str(error)
    return None


class TestHostile:
    @given(table=TABLES)
    @settings(derandomize=True, max_examples=400, deadline=None)
    def test_a_table_is_parsed_or_refused_in_words(self, table: dict[str, Any]) -> None:
        said = told(lambda: manifest.parse(table, source="plugin.toml", entry_point="min-p"))
        assert said is None or said.isprintable()
        assert len(said or "") < 5000

    @given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    @settings(derandomize=True, max_examples=300, deadline=None)
    def test_bytes_are_read_or_refused_in_words(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes
    ) -> None:
        file = tmp_path_factory.getbasetemp() / "any.toml"
        file.write_bytes(data)
        assert told(lambda: manifest.parse(read_table(file), source="any.toml")) != ""

    @given(at=st.integers(0, 300), byte=st.binary(max_size=2))
    @settings(derandomize=True, max_examples=200, deadline=None)
    def test_a_damaged_manifest_is_read_or_refused_in_words(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, byte: bytes
    ) -> None:
        data = to_toml(WHOLE).encode()
        file = tmp_path_factory.getbasetemp() / "damaged.toml"
        file.write_bytes(data[: at % len(data)] + byte + data[at % len(data) + 1 :])
        assert told(lambda: manifest.parse(read_table(file), source="damaged.toml")) != ""


def test_a_plugin_says_what_it_does_beside_computing() -> None:
    said = manifest.parse({**WHOLE, "permissions": ["native-code", "network"]}, source="x")
    assert said.permissions == ("native-code", "network")
    assert "permissions.0: 'netwrok' is not one of" in refused(
        {**WHOLE, "permissions": ["netwrok"]}
    )
