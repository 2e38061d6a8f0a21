"""Eager, compiled and as a CUDA graph: what is asked for, and what the tables say of each."""

from __future__ import annotations

from typing import Any

import pytest

from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.config import COMPILED, CUDA_GRAPH, EAGER, RunConfig
from qwen3_profile.errors import ConfigError


@pytest.mark.parametrize(
    ("argv", "executions"),
    [
        ("", [EAGER]),
        ("--compile", [COMPILED]),
        ("--cuda-graph", [CUDA_GRAPH]),
        ("--compile --cuda-graph", [EAGER, COMPILED, CUDA_GRAPH]),
        ("--executions eager,compiled", [EAGER, COMPILED]),
        ("--executions compiled,eager --compile max-autotune", [COMPILED, EAGER]),
        ("--executions compiled --compile-scope layer", [COMPILED]),
    ],
)
def test_executions_that_are_asked_for(argv: str, executions: list[str]) -> None:
    found = parse_arguments(argv.split())
    assert [config.execution for config in found.configs] == executions
    assert len({config.worker for config in found.configs}) == len(executions)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_a_mode_goes_to_what_is_compiled(mode: str) -> None:
    eager, compiled = parse_arguments(["--executions", "eager,compiled", "--compile", mode]).configs
    assert (eager.compile_mode, compiled.compile_mode) == ("default", mode)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--compile fast", "--compile: invalid choice: 'fast'"),
        ("--executions eager,compield", "--executions: 'compield' is no execution; did you mean"),
        ("--executions eager,eager", "--executions: names 'eager' twice"),
        ("--executions eager --compile", "--executions: does not name compiled"),
        ("--compile-scope layer", "--compile-scope: compiles nothing by itself"),
        ("--compile --decode-steps 2", "--compile: compiles a decode step once"),
        ("--compile --backward", "--compile: measures no backward"),
    ],
)
def test_what_cannot_be(argv: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_arguments(argv.split())
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    "values",
    [
        {"compile_mode": "max-autotune"},
        {"compile_scope": "layer"},
        {"execution": "compiled", "compile_mode": "fast"},
        {"execution": "compiled", "compile_scope": "part"},
    ],
)
def test_configs_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RunConfig(**values)
