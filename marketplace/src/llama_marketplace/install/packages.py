"""The package index: what plugins need that is neither a plugin nor here already.

pip resolves and downloads, in a subprocess, beside what is installed: wheels only, from one index
only, and each by the digest that the first look gave. Its answer is checked, not believed. pip runs
no code of wheels; what it fetched is read before it is unpacked, as every wheel is.
"""

from __future__ import annotations

import ast
import ensurepip
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from llama_core.errors import plain
from llama_marketplace.install.faults import CannotResolve

log = logging.getLogger("llama_core.marketplace")

RESOLVE_SECONDS = 600
# Of pip's own settings, those that say how to reach an index, not where else it might look.
_KEPT = ("cert", "client-cert", "proxy", "timeout", "retries", "trusted-host", "keyring-provider")
_ELSEWHERE = ("extra-index-", "find-")


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel of the package index, by its digest."""

    name: str
    version: str
    filename: str
    sha256: str
    url: str


class Packages:
    """The one package index, asked through pip."""

    def __init__(self, index: str | None = None) -> None:
        self._asked = index
        self._settings: dict[str, str] | None = None

    def resolve(
        self, wanted: Sequence[Requirement], here: Mapping[str, str], keep: Mapping[str, str]
    ) -> list[Package]:
        """What is to be added so that all that is wanted is there; what is here stays as it is."""
        with TemporaryDirectory(prefix="llama-resolve-") as folder:
            place = Path(folder)
            pins = {**keep, **here}
            lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
            (place / "constraints.txt").write_text("\n".join(lines) + "\n", "utf-8")
            texts = sorted(_line(each) for each in wanted)
            (place / "requirements.txt").write_text("\n".join(texts) + "\n", "utf-8")
            report = place / "report.json"
            self._pip(
                "install", "--dry-run", "--report", report, "-c", place / "constraints.txt",
                "-r", place / "requirements.txt", what=", ".join(texts),
            )  # fmt: skip
            return list(_read(report.read_bytes(), here))

    def download(self, packages: Iterable[Package], into: Path) -> dict[str, Path]:
        """Fetch wheels by their digests; gives where each lies, by name."""
        packages = list(packages)
        into.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in packages)
        locked = into / "locked.txt"
        locked.write_text(text, "utf-8")
        self._pip(
            "download", "--no-deps", "--require-hashes", "-d", into, "-r", locked,
            what=", ".join(p.name for p in packages),
        )  # fmt: skip
        found = {p.name: into / p.filename for p in packages}
        for name, path in found.items():
            if not path.is_file():
                raise CannotResolve(f"pip did not bring {path.name}, which it had named for {name}")
        return found

    def _pip(self, *arguments: str | Path, what: str) -> None:
        command = [
            *_pip_command(), *map(str, arguments), "--no-input", "--progress-bar", "off",
            "--only-binary", ":all:", "--disable-pip-version-check",
        ]  # fmt: skip
        settings = self._pip_settings()
        for key, value in settings.items():
            command += [f"--{key}", value]
        done = _run(command)
        if done.returncode != 0:
            raise CannotResolve(
                f"the package index has no set of wheels for {plain(what, 200)} beside what is "
                f"here: {plain(_reason(done.stdout, done.stderr), 600)}"
            )

    def _pip_settings(self) -> dict[str, str]:
        """How pip reaches its index; the index is one, whatever else pip is told elsewhere."""
        if self._settings is None:
            done = _run([*_pip_command(), "config", "list"], configured=True)
            said = dict(_configured(done.stdout)) if done.returncode == 0 else {}
            ignored = sorted(key for key in said if key.startswith(_ELSEWHERE))
            if ignored:
                log.warning(
                    "pip is configured with %s, which is left out: what plugins need comes from "
                    "one index",
                    " and ".join(ignored),
                )
            self._settings = {key: said[key] for key in _KEPT if key in said}
            index = self._asked or said.get("index-url")
            if index:
                self._settings["index-url"] = index
        return self._settings


def _pip_command() -> list[str]:
    """pip as a command: this environment's, or the one that Python brings along."""
    if find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        raise CannotResolve(
            "something has to be fetched from the package index, and there is no pip here",
            remedy=f"{sys.executable} -m ensurepip",
        )
    return [sys.executable, "-P", str(bundled[-1] / "pip")]


def _reason(out: str, err: str) -> str:
    """Why pip gave up: what contradicts what, or else its errors."""
    conflict = re.search(r"conflict is caused by:\n((?:[ ]+.+\n)+)", out + err)
    if conflict:
        lines = [line.strip() for line in conflict[1].splitlines()]
        return "; ".join(lines).replace("The user requested (constraint)", "here is")
    said = [line.removeprefix("ERROR: ") for line in err.splitlines() if line.startswith("ERROR")]
    return "; ".join(dict.fromkeys(said)) or err.strip()


def _run(command: list[str], *, configured: bool = False) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ)
    if not configured:  # what was configured is on the command line, as far as it counts
        env = {key: value for key, value in env.items() if not key.startswith("PIP_")}
        env["PIP_CONFIG_FILE"] = os.devnull
    try:
        return subprocess.run(  # noqa: S603 - our own list, no shell
            command, env=env, text=True, capture_output=True, timeout=RESOLVE_SECONDS,
            stdin=subprocess.DEVNULL, cwd=os.path.abspath(os.sep),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CannotResolve(f"pip has not answered within {RESOLVE_SECONDS} s") from error


def _configured(text: str) -> Iterator[tuple[str, str]]:
    """The lines of `pip config list`: `global.index-url='…'`, the stronger ones later."""
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if not sign:
            continue
        try:
            said = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
        if isinstance(said, str) and said:
            yield key.rpartition(".")[2].replace("_", "-"), said


def _read(data: bytes, here: Mapping[str, str]) -> Iterator[Package]:
    """pip's report, held to what was asked of it."""
    for each in json.loads(data)["install"]:
        name = canonicalize_name(each["metadata"]["name"])
        version = _version(each["metadata"]["version"])
        told = each["download_info"]
        filename = unquote(urlsplit(told["url"]).path.rpartition("/")[2])
        digest = told.get("archive_info", {}).get("hashes", {}).get("sha256")
        if each.get("is_direct") or not _is_wheel_of(filename, name, version):
            raise CannotResolve(
                f"{name} {plain(version)} would not come as a wheel of the index: {plain(filename)}"
            )
        if not digest:
            raise CannotResolve(f"the package index names no SHA-256 of {filename}")
        if name in here:
            raise CannotResolve(
                f"{name} {here[name]} would be moved to {version}, and nothing that is in this "
                "environment is changed from here",
                remedy=f"If you want that: pip install '{name}=={version}'",
            )
        yield Package(name, version, filename, digest, told["url"])


def _version(text: str) -> str:
    try:
        return str(Version(text))
    except InvalidVersion as error:
        raise CannotResolve(f"the package index has a version '{plain(text)}'") from error


def _is_wheel_of(filename: str, name: str, version: str) -> bool:
    try:
        its_name, its_version, *_ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    return its_name == name and str(its_version) == version and "/" not in filename


def _line(requirement: Requirement) -> str:
    """A requirement without its marker, which was looked at already."""
    plainly = Requirement(str(requirement))
    plainly.marker = None
    return str(plainly)
