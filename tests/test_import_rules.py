# ruff: noqa: E501
"""The arrows between the modules: one way only, and torch on one side only."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "qwen3_profile"
ROOT = Path(__file__).parents[1] / PACKAGE

# The first chain, from a config to a trace on disk, is the only one that may import these.
HEAVY = {"torch", "transformers", "huggingface_hub", "safetensors", "accelerate"}
TORCH_SIDE = {
    "api", "measure.model.attention", "measure.model.kv_cache", "measure.executions.model_call", "measure.run_context", "measure.devices", "measure.environment",
    "measure.model.experts", "measure.model.other_decoders", "measure.executions.eager", "measure.executions.graph_annotations", "measure.executions.cuda_graph",
    "measure.executions.graph_runs", "measure.model.hub", "measure.model.inputs", "measure.instrument", "measure.model.transformers_compat", "measure.model.memory",
    "measure.model.load", "measure.executions.user_model", "measure.patching", "measure.profiler", "measure.model.prompts", "measure.ranges", "measure.trace_file",
    "measure.session", "measure.model.structure", "measure.executions.train_step", "measure.model.random_weights", "measure.executions.compilation",
    "measure.executions.compiled", "measure.executions.logits_check", "measure.inductor.hooks", "measure.inductor.kernel_bytes",
    "measure.inductor.dataflow", "measure.inductor.module_labels", "measure.inductor.schedules", "measure.measurement",
    "measure.count_bytes", "measure.op_bytes",
}  # fmt: skip

# The second chain; no stage may know of one behind it, be it on a detour.
CHAIN = (
    "errors", "labels", "gaps", "config", "trace.columns", "trace.salvage", "trace.json_events",
    "trace.reader", "trace", "trace.launch_args", "attribution.scopes", "passes.nn_modules.block_parts", "passes.nn_modules.roles",
    "passes.nn_modules.passes", "passes.nn_modules.scopes", "attribution.attribute", "attribution.autograd_nodes", "attribution.backward", "attribution.collectives", "attribution.parts",
    "attribution.findings", "passes.cuda_graphs.match", "passes.cuda_graphs.reference", "passes.cuda_graphs.match_checks", "passes.cuda_graphs.scopes",
    "passes.cuda_graphs.assign", "analysis.graph_savings", "attribution.checks", "system.files", "run_folder.bytes_moved", "run_folder.provenance",
    "passes.compiled.match", "passes.compiled.scopes", "passes.compiled.kernel_times", "run_folder.routing", "run_folder.run_json", "passes.compiled.read",
    "records.compiled_json", "attribution.attention_kernels", "passes.pass_times", "analysis.part_bytes", "records.percentiles", "records.record",
    "analysis.side_by_side", "passes.nn_modules.read", "records.ledger", "passes.cuda_graphs.read", "passes.labelled", "passes.lone", "records.from_run",
    "records.load", "records.ranks", "records.summary", "records.store",
)  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[tuple[str, bool]]:
    """(imported module, whether at the top of the file) of each import of `module`."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    # Of the package itself: its names are loaded when they are used, and named for type checkers.
    never = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in never:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            base = str(node.module)
            # `from qwen3_profile import labels` imports a module, not a name
            inner = [f"{base}.{alias.name}" for alias in node.names]
            below = [name for name in inner if name.removeprefix(PACKAGE + ".") in MODULES]
            names = below if below and base.split(".")[0] == PACKAGE else [base]
        else:
            continue
        found |= {(name, id(node) in top) for name in names}
    return frozenset(found)


def ours(module: str, *, top_only: bool = False) -> set[str]:
    """The modules of the package that `module` imports."""
    return {
        name.removeprefix(PACKAGE).lstrip(".")
        for name, top in imports(module)
        if name.split(".")[0] == PACKAGE and (top or not top_only)
    }


def reachable(module: str, *, top_only: bool = False) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += ours(current, top_only=top_only)
    return seen


def test_the_rules_speak_of_modules_that_exist() -> None:
    assert set(CHAIN) <= set(MODULES)
    assert set(MODULES) >= TORCH_SIDE
    assert {name for module in MODULES for name in ours(module)} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_on_a_detour(module: str) -> None:
    inside = ours(module) - {module}
    if module == "trace":
        return  # the package's face imports its own modules
    assert not [name for name in inside if module in reachable(name) - {name}]


@pytest.mark.parametrize("module", CHAIN)
def test_no_stage_knows_of_one_behind_it(module: str) -> None:
    behind = set(CHAIN[CHAIN.index(module) + 1 :])
    assert not reachable(module) & behind


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_on_one_side(module: str) -> None:
    heavy = {name for name, _ in imports(module) if name.split(".")[0] in HEAVY}
    assert not heavy or module in TORCH_SIDE


@pytest.mark.parametrize("module", [m for m in MODULES if m not in TORCH_SIDE])
def test_no_other_module_imports_that_side(module: str) -> None:
    found = ours(module) & TORCH_SIDE
    # the command itself does, once it knows that all it was given is right
    assert not found or module == "__main__"
    assert not ours(module, top_only=True) & TORCH_SIDE


def test_views_and_stages_know_no_command_line() -> None:
    commands = {"__main__", "export", "cli.run_options", "cli.console"}
    for module in MODULES:
        if module not in commands | {""}:
            assert not ours(module) & {"__main__", "export", "cli.run_options"}, module


def test_nothing_below_the_views_imports_them() -> None:
    views = {module for module in MODULES if module.split(".")[0] in ("views", "report")}
    for module in CHAIN:
        assert not reachable(module) & views, module


@pytest.mark.parametrize("module", ["export", "__main__"])
def test_a_command_starts_without_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {PACKAGE}.{module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert PACKAGE in loaded
    assert not loaded & {*HEAVY, "pandas", "scipy", "tensorboard"}
