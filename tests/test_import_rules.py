"""The arrows between the folders: one way only, and torch in one folder only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "qwen3_profile"
ROOT = Path(__file__).parents[1] / PACKAGE
HEAVY = {"torch", "transformers", "huggingface_hub", "safetensors", "accelerate"}

# A file imports its own folder, or one further left; `measure` nothing right of `run_folder`.
READING = [
    "version",
    "words",
    "errors",
    "label_parts",
    "labels",
    "config",
    "system",
    "run_folder",
    "trace",
    "attribution",
    "passes",
    "records",
    "analysis",
    "views",
]
ENTRIES = ("cli", "api", "compare", "export", "__main__", "__init__")
ABOVE = {name: READING[: at + 1] for at, name in enumerate(READING)}
ABOVE["measure"] = [*ABOVE["run_folder"], "measure"]
ABOVE |= {name: [*READING, "measure", "cli", "api", name] for name in ENTRIES}


def place(module: str) -> str:
    """The folder, or the file, of the package that a module lies in."""
    return [*module.split("."), "__init__"][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str, *, runs: bool = False) -> frozenset[str]:
    """What a module imports, wherever in it; of the package, modules only.

    Args:
        runs: without what it names for type checkers alone.
    """
    found = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    if runs or place(module) in ENTRIES:
        tree.body = [node for node in tree.body if "TYPE_CHECKING:" not in ast.unparse(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inner or {str(node.module)}
    return frozenset(found)


def ours(module: str, *, runs: bool = False) -> set[str]:
    return {name for name in imports(module, runs=runs) if name in MODULES} - {module}


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in ours(module)
        if place(name) not in ABOVE[place(module)]
    ]
    # Public names are loaded when they are used, and named for type checkers.
    assert wrong == []


def test_torch_is_in_one_folder() -> None:
    heavy = {
        module for module in MODULES
        if any(name.split(".")[0] in HEAVY for name in imports(module))
    }  # fmt: skip
    assert heavy
    assert {place(module) for module in heavy} == {"measure"}


def test_no_module_imports_itself_on_a_detour() -> None:
    # Errors, on which all else stands, stand themselves on the two modules of the words on screen.
    assert longest_chain() <= 16


def test_the_reader_is_flat() -> None:
    assert longest_chain("trace") <= 6


def test_few_modules_share_a_name() -> None:
    stems = Counter(path.stem for path in MODULES.values())
    # What a source of passes is made of is called the same in each.
    often = {"__init__", "match", "passes", "read", "scopes"}
    assert {stem for stem, count in stems.items() if count > 2} <= often


def longest_chain(folder: str = "") -> int:
    """How many modules lie below one another at most; CycleError where one lies below itself.

    Args:
        folder: count those of one folder alone.
    """
    inside = [name for name in MODULES if folder in ("", place(name))]
    below = {name: ours(name, runs=True) & {*inside} for name in inside}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        depth[name] = 1 + max((depth[each] for each in below[name]), default=0)
    return max(depth.values())


@pytest.mark.parametrize("module", ["compare", "export", "__main__"])
def test_a_command_starts_without_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {PACKAGE}.{module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert PACKAGE in loaded
    assert not loaded & {*HEAVY, "pandas", "scipy", "tensorboard"}
