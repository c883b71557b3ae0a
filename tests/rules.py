"""The repository's rules, each a function from a tree to what breaks it.

`test_repo.py` holds this repository to them, and shows each one failing on a tree that breaks it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

# From top to bottom. A module may import its own layer and those after it.
LAYERS = ("llama_gpu", "cli", "testing", "engine", "builtin", "model", "kernel", "contracts")
MEMBERS = ("core/pyproject.toml", "plugins/*/pyproject.toml", "marketplace/pyproject.toml")
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}
HEAVY = {"torch", "torchvision", "torchaudio", "transformers", "tensorflow", "jax"}
ARRAYS = {"numpy", "cupy", *HEAVY}
NO_ARRAYS = {"scheduler.py", "blocks.py", "sequence.py"}
TYPES_ONLY = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
SKIP = {
    ".git",
    ".venv",
    ".venv-torch",
    ".envs",
    "_build",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
}
SKIP |= {".pytest_cache", ".hypothesis"}

Faults = Iterator[str]


def files(root: Path, *ends: str) -> Iterator[Path]:
    """Every file of ours below a folder, whose name ends so; what is not ours is not entered."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(set(inner) - SKIP)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(ends))


def sources(root: Path) -> Iterator[Path]:
    """Every Python file below a folder that is ours."""
    return files(root, ".py")


def package_of(path: Path) -> list[str]:
    """The package a module lies in, from which the dots of its relative imports count."""
    parts = path.parent.parts
    return list(parts[len(parts) - parts[::-1].index("src") :]) if "src" in parts else []


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """What a module imports at run time, and where; `if TYPE_CHECKING:` is not run."""
    tree = ast.parse(path.read_text("utf-8"), str(path))
    types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPES_ONLY
        for body in node.body
        for inner in ast.walk(body)
    }
    for node in ast.walk(tree):
        if id(node) in types_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{each.name}") for each in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            named = (each.value for each in node.args[:1] if isinstance(each, ast.Constant))
            yield from ((node.lineno, str(each)) for each in named)


def layer(module: str) -> str | None:
    """The layer of one of core's modules, by its dotted name."""
    parts = module.split(".")
    if parts[0] == "llama_gpu":
        return "llama_gpu"
    if parts[0] != "llama_core":
        return None
    second = parts[1] if len(parts) > 1 else "kernel"
    if second == "errors":
        return None  # below everything, and everybody's
    if second == "__main__":
        return "cli"
    return second if second in (*LAYERS, "web") else "kernel"


def module_name(path: Path, src: Path) -> str:
    return ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__")


def layers_point_down(root: Path) -> Faults:
    """Layers import only downwards; nobody imports builtin; web knows only the errors."""
    src = root / "core" / "src"
    for path in sources(src):
        module = module_name(path, src)
        own = layer(module)
        for line, name in imports(path):
            other = layer(name)
            top = name.split(".")[0]
            if own == "web" and top not in ("llama_core", "__future__", *sys.stdlib_module_names):
                yield f"{path.relative_to(root)}:{line} imports {name}: web knows only the errors"
            if module == "llama_core.errors" and other is not None:
                yield f"{path.relative_to(root)}:{line} imports {name}: errors are below everything"
                continue
            if other is None or other == own:
                continue
            where = f"{path.relative_to(root)}:{line} imports {name}"
            if other == "builtin":
                yield f"{where}: builtin is reached through its manifest"
            elif own == "web":
                yield f"{where}: web knows only the errors"
            elif own == "contracts" and name != "llama_core":
                yield f"{where}: contracts know only the errors"
            elif own in LAYERS and other in LAYERS and LAYERS.index(other) < LAYERS.index(own):
                yield f"{where}: {other} is above {own}"


def core_imports_nothing_heavy(root: Path) -> Faults:
    """Core imports no torch and no other framework."""
    for path in sources(root / "core" / "src"):
        for line, name in imports(path):
            if name.split(".")[0] in HEAVY:
                yield f"{path.relative_to(root)}:{line} imports {name}"


def core_names_no_plugin(root: Path) -> Faults:
    """Core names no plugin of this repository."""
    names = [folder.parent.name for folder in root.glob("plugins/*/pyproject.toml")]
    for path in sources(root / "core" / "src"):
        text = path.read_text("utf-8")
        for name in names:
            if re.search(rf"llama[-_]plugin[-_]{re.escape(name).replace('-', '[-_]')}\b", text):
                yield f"{path.relative_to(root)} names plugin {name}"


def no_plugin_imports_another(root: Path) -> Faults:
    """A plugin imports core and itself."""
    for folder in sorted((root / "plugins").glob("*")):
        own = f"llama_plugin_{folder.name.replace('-', '_')}"
        for path in sources(folder):
            for line, name in imports(path):
                if name.startswith("llama_plugin_") and name.split(".")[0] != own:
                    yield f"{path.relative_to(root)}:{line} imports {name}"


def only_the_kernel_knows_pluggy(root: Path) -> Faults:
    """`plugins.py` is the only user of pluggy; `hookspecs.py` makes the markers."""
    for path in sources(root / "core" / "src"):
        for line, name in imports(path):
            allowed = (
                path.name in ("plugins.py", "hookspecs.py") and path.parent.name == "llama_core"
            )
            if name.split(".")[0] == "pluggy" and not allowed:
                yield f"{path.relative_to(root)}:{line} imports pluggy"


def scheduling_knows_no_arrays(root: Path) -> Faults:
    """Scheduler, blocks and sequence are plain Python."""
    for path in sources(root / "core" / "src" / "llama_core" / "engine"):
        if path.name in NO_ARRAYS:
            for line, name in imports(path):
                if name.split(".")[0] in ARRAYS:
                    yield f"{path.relative_to(root)}:{line} imports {name}"


def hooks_are_documented(root: Path) -> Faults:
    """Every hook has a docstring."""
    path = root / "core" / "src" / "llama_core" / "hookspecs.py"
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not ast.get_docstring(node):
            yield f"hook {node.name} has no docstring"


def contracts_are_documented(root: Path) -> Faults:
    """Every contract says what it is, fits on a page, and stands in the reference."""
    page = root / "docs" / "reference" / "contracts.md"
    listed = page.read_text("utf-8") if page.is_file() else ""
    for path in sources(root / "core" / "src" / "llama_core" / "contracts"):
        name = path.relative_to(root)
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        if not ast.get_docstring(tree):
            yield f"{name} has no docstring"
        if len(text.splitlines()) >= 100:
            yield f"{name} is no longer under 100 lines"
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not ast.get_docstring(node):
                yield f"{name}: {node.name} has no docstring"
        if path.stem != "__init__" and f"llama_core.contracts.{path.stem}\n" not in listed:
            yield f"{name} is not in docs/reference/contracts.md"


def modules_say_what_they_are(root: Path) -> Faults:
    """Every module of core and of the plugins opens with a paragraph, under a telling name."""
    folders = [root / "core" / "src", *sorted(root.glob("plugins/*/src"))]
    for path in (each for folder in folders for each in sources(folder)):
        name = path.relative_to(root)
        if path.name in FORBIDDEN_NAMES:
            yield f"{name}: a name that says nothing"
        text = path.read_text("utf-8")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            yield f"{name} does not say what it knows"


def distributions_are_whole(root: Path) -> Faults:
    """Every distribution has README, CHANGELOG, LICENSE and tests; a plugin a contract test too."""
    for pyproject in sorted(each for where in MEMBERS for each in root.glob(where)):
        folder = pyproject.parent
        name = folder.relative_to(root)
        for needed in ("README.md", "CHANGELOG.md", "LICENSE"):
            if not (folder / needed).is_file():
                yield f"{name} has no {needed}"
        tests = [path.read_text("utf-8") for path in sources(folder / "tests")]
        if not tests:
            yield f"{name} has no tests"
        groups = tomllib.loads(pyproject.read_text("utf-8"))["project"].get("entry-points", {})
        if "llama_core" in groups and not any("Contract)" in text for text in tests):
            yield f"{name} has no contract test"


def nothing_of_one_machine(root: Path) -> Faults:
    """No absolute path of a checkout and no address of a package registry."""
    local = re.compile(r"(?<![\w.])/(work|root|home/\w+)/|find-links|extra-index-url")
    for path in files(root, ".py", ".toml", ".md", ".yml", ".txt", ".c", ".h", "Makefile"):
        if path.name == Path(__file__).name:
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if local.search(line):
                yield f"{path.relative_to(root)}:{number}: {line.strip()[:80]}"


RULES = (
    layers_point_down,
    core_imports_nothing_heavy,
    core_names_no_plugin,
    no_plugin_imports_another,
    only_the_kernel_knows_pluggy,
    scheduling_knows_no_arrays,
    hooks_are_documented,
    contracts_are_documented,
    modules_say_what_they_are,
    distributions_are_whole,
    nothing_of_one_machine,
)
