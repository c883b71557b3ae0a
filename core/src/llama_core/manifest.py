"""The static manifest: what a plugin says of itself, read without importing it.

Knows the words of `plugin.toml` and their bounds; knows nothing of where manifests are found or of
whether a claim is true (activation checks that).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from llama_core.contracts import KINDS
from llama_core.errors import ManifestError, did_you_mean, plain, sentence
from llama_core.events import EVENT_NAMES

FILE_NAME = "plugin.toml"
MAX_PROVIDES = 256
MAX_FAULTS_SHOWN = 8

Kind = Literal[
    "backend", "program", "quantizer", "transform", "sampler", "parallelism", "launcher",
    "router", "preprocessor", "postprocessor", "format", "architecture", "rewrite", "drafter",
    "model", "storage", "machine", "command", "route",
]  # fmt: skip
assert get_args(Kind) == KINDS

# What a plugin does beside computing in Python. Shown before it is installed; the marketplace holds
# a wheel to the first two, the others are its author's word.
Permission = Literal["native-code", "scripts", "network", "processes"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
PluginName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Dotted = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=256)
]
Line = Annotated[
    str,  # printed to terminals: no control characters, no separators, no changes of direction
    StringConstraints(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$",
    ),
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needs(_Table):
    """Where a capability can run at all. An empty list means anywhere."""

    os: tuple[Literal["linux", "macos", "windows"], ...] = ()
    arch: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")], ...] = ()


class Provides(_Table):
    """One capability: its kind, its name, the version of the contract it fulfils."""

    kind: Kind
    name: Name
    api: int = Field(strict=True, ge=1, le=1_000_000)
    summary: Line | None = None
    priority: int = Field(default=50, strict=True, ge=0, le=100)
    needs: Needs = Needs()
    combines: tuple[Name, ...] = ()
    options: str | dict[str, Any] | None = None

    @field_validator("options")
    @classmethod
    def _options_name_a_resource(cls, value: str | dict[str, Any] | None) -> Any:
        if isinstance(value, str):
            package, _, resource = value.partition(":")
            parts = resource.split("/")
            bad = {"", ".", ".."} & set(parts) or set("\\:\0") & set(resource)
            if bad or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package):
                raise ValueError("give 'package:file.json', a file inside the package, or a table")
        return value

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


class Requires(_Table):
    """A capability that must be there: any of a kind, or one by name and version range."""

    kind: Kind
    name: Name | None = None
    # Of the distribution that provides it, as in `>=0.2,<2`.
    version: Annotated[str, StringConstraints(max_length=100)] | None = None

    @field_validator("version")
    @classmethod
    def _version_is_a_range(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                SpecifierSet(value)
            except InvalidSpecifier as error:
                raise ValueError("not a version range such as '>=0.2,<2'") from error
        return value

    def __str__(self) -> str:
        named = f"{self.kind} '{self.name}'" if self.name else f"any {self.kind}"
        return f"{named} {self.version}" if self.version else named


class Manifest(_Table):
    """The whole of a `plugin.toml`."""

    name: PluginName
    summary: Line
    module: Dotted | None = None  # the pluggy plugin; the package itself where it is not said
    listens: tuple[str, ...] = ()
    provides: tuple[Provides, ...] = Field(default=(), max_length=MAX_PROVIDES)
    requires: tuple[Requires, ...] = Field(default=(), max_length=MAX_PROVIDES)
    permissions: tuple[Permission, ...] = ()

    @field_validator("listens")
    @classmethod
    def _events_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in EVENT_NAMES:
                hint = did_you_mean(name, EVENT_NAMES) or f"there are {', '.join(EVENT_NAMES)}"
                raise ValueError(f"there is no event '{plain(name)}'; {hint}")
        return value

    @model_validator(mode="after")
    def _says_something_once(self) -> Manifest:
        if not self.provides and not self.listens:
            raise ValueError("it neither provides a capability nor listens to an event")
        seen: set[tuple[str, str]] = set()
        for one in self.provides:
            if (one.kind, one.name) in seen:
                raise ValueError(f"{one} is provided twice")
            seen.add((one.kind, one.name))
        return self


def parse(table: dict[str, Any], *, source: str, entry_point: str | None = None) -> Manifest:
    """Validate a manifest; the error lists everything that is wrong with it."""
    try:
        manifest = Manifest.model_validate(table)
    except ValidationError as error:
        raise ManifestError(
            f"{source} is not a valid manifest: " + "; ".join(_faults(error)),
            remedy="The manifest reference lists every field.",
        ) from None
    if entry_point is not None and manifest.name != entry_point:
        raise ManifestError(
            f"{source} says name = {manifest.name!r}, but its entry point is {entry_point!r}",
            remedy="Make the two equal.",
        )
    return manifest


def json_schema() -> dict[str, Any]:
    """The published schema of `plugin.toml`, for editors and for the marketplace."""
    schema = Manifest.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "plugin.toml"
    return schema


def _faults(error: ValidationError) -> list[str]:
    known = {
        "provides": Provides.model_fields,
        "requires": Requires.model_fields,
        "needs": Needs.model_fields,
    }
    faults = []
    errors = error.errors(include_url=False)
    for one in errors[:MAX_FAULTS_SHOWN]:
        where = ".".join(plain(part) for part in one["loc"])
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            table = next((known[p] for p in reversed(one["loc"][:-1]) if p in known), None)
            fields = Manifest.model_fields if table is None else table
            message = sentence("unknown field", did_you_mean(str(one["loc"][-1]), fields)).rstrip(
                "."
            )
        elif one["type"] == "literal_error" and isinstance(one["input"], str):
            expected = one["ctx"]["expected"]
            hint = did_you_mean(one["input"], re.findall(r"'(.+?)'", expected))
            message = f"'{plain(one['input'])}' is not one of {expected}" + (
                f" ({hint})" if hint else ""
            )
        elif one["type"] == "string_pattern_mismatch":
            message = f"'{plain(one['input'])}' does not match {one['ctx']['pattern']}"
        faults.append(f"{where}: {message}" if where else message)
    if len(errors) > MAX_FAULTS_SHOWN:
        faults.append(f"and {len(errors) - MAX_FAULTS_SHOWN} more")
    return faults
