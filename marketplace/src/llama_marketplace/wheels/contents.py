"""What may be in a wheel: rules over its files' names and first bytes.

Two sets of rules. Every wheel that is installed beside a base environment is held to the first; a
plugin's to the second as well, for a plugin is one package, and whatever else lies in its wheel
would be found by somebody who never asked for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping

from llama_marketplace.wheels.archive import Content
from llama_marketplace.wheels.metadata import Metadata
from llama_marketplace.wheels.refusal import WheelRefused, shown

# Imported by Python itself at every start, wherever on the path they lie.
_AT_START = re.compile(r"(sitecustomize|usercustomize)(?![^./])", re.I)
# Told apart by how a file begins: ELF, Mach-O of either byte order, archives of objects.
_NATIVE = (
    b"\x7fELF", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",
    b"!<arch>\n",
)  # fmt: skip
_NATIVE_NAME = re.compile(r"\.(so(\.\d+)*|dylib|dll|pyd|exe|a|lib|o|obj|node|bin\.so)$", re.I)
_FAT_MACH_O = b"\xca\xfe\xba\xbe"  # Java's too, which has a large number after it
_BYTECODE = re.compile(r"(^|/)__pycache__/|\.py[co]$", re.I)
# What installers write; one that a wheel brings would speak for the installer.
_INSTALLERS = {"installer", "requested", "direct_url.json", "uv_cache.json", "uv_build.json"}
_METADATA = (".dist-info", ".egg-info", ".egg-link", ".egg")
_OWN_TOPS = {"llama_core", "llama_gpu", "llama_marketplace"}
_OWN_NAMES = {"llama-core", "llama-marketplace"}
_LISTED_GROUPS = {"console_scripts", "gui_scripts"}
GROUP = "llama_core"


def is_native(name: str, content: Content) -> bool:
    """Whether a file is machine code, by its name or by its first bytes."""
    head = content.head
    if _NATIVE_NAME.search(name) or head.startswith(_NATIVE):
        return True
    if head.startswith(_FAT_MACH_O):
        return int.from_bytes(head[4:8], "big") < 32
    if head.startswith(b"MZ"):
        at = int.from_bytes(head[60:64], "little")
        return head[at : at + 4] == b"PE\0\0"
    return False


def check_any(wheel: str, metadata: Metadata, contents: Mapping[str, Content]) -> None:
    """The rules for every wheel, a plugin's or that of something it needs."""
    for name in contents:
        first, _, rest = name.partition("/")
        path = rest.partition("/")[2] if first.endswith(".data") else name
        if name.lower().endswith(".pth"):
            why = f"{shown(name)} would be run, or change the path, whenever Python starts"
            raise WheelRefused(wheel, "pth", why, remedy="Ship no .pth file.")
        if _AT_START.match(path):
            why = f"{shown(name)} would be imported whenever Python starts"
            raise WheelRefused(wheel, "at_start", why)
        top = path.partition("/")[0]
        if top.lower().endswith(_METADATA) and top != metadata.info:
            why = f"{shown(name)} would pass for the metadata of another distribution"
            raise WheelRefused(wheel, "second_metadata", why)
        if first == metadata.info and rest.lower() in _INSTALLERS:
            why = f"{shown(name)} is for installers to write"
            raise WheelRefused(wheel, "installer_file", why)
    for top in sorted(tops(metadata, contents)):
        if top in _OWN_TOPS or top in sys.stdlib_module_names:
            whose = "Python's own" if top in sys.stdlib_module_names else "this system's own"
            why = f"it brings a module called {shown(top)}, which is {whose}"
            raise WheelRefused(wheel, "shadowing", why, remedy="Its author must rename it.")
    if metadata.name in _OWN_NAMES:
        why = f"{metadata.name} is no plugin and is not replaced by one"
        raise WheelRefused(wheel, "shadowing", why)


def tops(metadata: Metadata, contents: Mapping[str, Content]) -> set[str]:
    """The names that could be imported once this is installed, of modules and packages alike."""
    found = set()
    for name in contents:
        parts = name.split("/")
        if parts[0].endswith(".data") and len(parts) > 2 and parts[1] in ("purelib", "platlib"):
            parts = parts[2:]
        if parts[0] == metadata.info or parts[0].endswith(".data"):
            continue
        found.add(parts[0].split(".")[0] if len(parts) == 1 else parts[0])
    return found


def plugin_entry(wheel: str, metadata: Metadata) -> tuple[str, str]:
    """The plugin's name and package: the one entry point that a plugin has."""
    for group in metadata.entry_points:
        if group != GROUP and group not in _LISTED_GROUPS:
            why = f"it has entry points for {shown(group)}, which other programs would load unasked"
            raise WheelRefused(wheel, "foreign_entry_point", why)
    ours = metadata.entry_points.get(GROUP, {})
    if len(ours) != 1:
        why = f"it has {len(ours)} entry points in the group '{GROUP}', and a plugin has one"
        raise WheelRefused(wheel, "no_plugin" if not ours else "many_plugins", why)
    [(name, package)] = ours.items()
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package):
        why = f"its entry point is {shown(package)}, not the name of a package"
        raise WheelRefused(wheel, "entry_point", why)
    return name, package


def check_plugin(
    wheel: str, metadata: Metadata, package: str, contents: Mapping[str, Content]
) -> None:
    """The rules for a plugin: one package, its metadata, and nothing beside them."""
    for name, reason, why in _foreign(metadata, package.split(".")[0], contents):
        raise WheelRefused(
            wheel, reason, f"{shown(name)} {why}", remedy=f"Ship everything inside {package}/."
        )
    for name, content in contents.items():
        if _BYTECODE.search(name):
            why = f"{shown(name)} is compiled Python, which nobody can read before it runs"
            raise WheelRefused(wheel, "bytecode", why, remedy="Ship the source alone.")
        in_info = name.startswith(f"{metadata.info}/")
        if in_info and (name.lower().endswith(".py") or is_native(name, content)):
            why = f"{shown(name)} is code among the metadata"
            raise WheelRefused(wheel, "code_in_metadata", why)


def _foreign(
    metadata: Metadata, top: str, contents: Mapping[str, Content]
) -> Iterator[tuple[str, str, str]]:
    for name in contents:
        first, _, rest = name.partition("/")
        if first.lower().endswith(".data"):
            if rest.startswith("scripts/"):
                yield name, "undeclared_script", "would be put among the commands"
            yield name, "data_outside", "would be put outside of the package"
        elif first not in (top, metadata.info):
            yield name, "foreign_top_level", f"lies beside the package {top}"


def check_permissions(
    wheel: str, metadata: Metadata, permissions: tuple[str, ...], contents: Mapping[str, Content]
) -> tuple[str, ...]:
    """Native code and commands are there only where the manifest says so; gives the commands."""
    native = next((name for name, one in contents.items() if is_native(name, one)), None)
    if native is not None:
        if "native-code" not in permissions:
            why = f"{shown(native)} is native code, which its manifest does not declare"
            remedy = 'Add permissions = ["native-code"] to plugin.toml.'
            raise WheelRefused(wheel, "undeclared_native", why, remedy=remedy)
        if any(tag.endswith("-any") for tag in metadata.tags):
            why = f"{shown(native)} is native code, and its file name says that it runs anywhere"
            raise WheelRefused(wheel, "native_anywhere", why, remedy="Build a platform's wheel.")
    scripts = tuple(
        sorted(name for group in _LISTED_GROUPS for name in metadata.entry_points.get(group, {}))
    )
    if scripts and "scripts" not in permissions:
        why = f"it would add the command {shown(scripts[0])}, which its manifest does not declare"
        remedy = 'Add permissions = ["scripts"] to plugin.toml, or provide a command of llama.'
        raise WheelRefused(wheel, "undeclared_script", why, remedy=remedy)
    return scripts
