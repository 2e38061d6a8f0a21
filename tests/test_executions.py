"""Eager, compiled and as a CUDA graph: what is asked for, and what the tables say of each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from compiled import KERNEL_NS, compiled_record
from samples import decode_record, record

from qwen3_profile.arguments import parse_arguments
from qwen3_profile.config import COMPILED, CUDA_GRAPH, EAGER, RunConfig
from qwen3_profile.errors import ConfigError
from qwen3_profile.views.executions import render_executions
from qwen3_profile.views.tables import render


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


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each row of the comparison."""
    found = {}
    for line in page.splitlines():
        head, *cells = re.split(r"\s{2,}", line.strip())
        found[head] = cells
    return found


def test_executions_stand_side_by_side() -> None:
    found = rows(render_executions([(record(),), (compiled_record(),)]))
    assert found["part, all layers"] == ["eager", "compiled"]
    # In `record` each part takes 100 ns on the device in each layer; here as LAYERS says.
    assert found["q_proj"] == ["0.000", "0.000"]
    assert found["rope"] == ["0.000", "in others"]
    assert found["lm_head"] == ["0.000", "0"]
    assert found["device events"] == ["34", "6"]
    assert found["ratio"] == ["1.00", "0.25"]
    assert found["total_time, bare"] == ["0.040", "0.010"]


@pytest.mark.parametrize("cuda", [True, False])
def test_every_column_adds_up(cuda: bool) -> None:
    from qwen3_profile.views.executions import _parts_ns

    for each in (record(cuda=cuda), compiled_record(cuda=cuda)):
        parts = _parts_ns(each, cuda)
        total = each.times.forward.total
        assert sum(parts.values()) == (total.device_ns if cuda else total.cpu_ns)
    compiled = _parts_ns(compiled_record(cuda=True), True)
    assert compiled["q_norm"] == KERNEL_NS
    assert compiled["input_layernorm"] == 2 * KERNEL_NS
    assert "rope" not in compiled


def test_what_was_saved_is_said() -> None:
    page = render_executions([(record(),), (compiled_record(),)])
    said = " ".join(page.split())
    assert "compiled against eager: 0.040 -> 0.010 ms (-0.030) a pass" in said
    assert "device events 34 -> 6." in said


def test_tables_fit_the_page() -> None:
    mode = replace(compiled_record().facts, compile_mode="reduce-overhead", compile_scope="layer")
    third = replace(compiled_record(), facts=replace(mode, run="run1"))
    page = render_executions([(record(),), (compiled_record(),), (third,)])
    assert max(map(len, page.splitlines())) <= 100
    assert max(map(len, render([compiled_record()]).splitlines())) <= 100


def test_configs_that_differ_otherwise_are_not_compared() -> None:
    other = replace(record(), config=RunConfig(batch_size=3, input_len=256))
    decode = decode_record(leaves_ns={0: 1000}, step_times_ns=(5000, 6000))
    assert render_executions([(other,), (compiled_record(),), (decode,)]) == ""
    assert render_executions([(record(),)]) == ""


def test_the_compiled_table_shows_bounds() -> None:
    page = render([compiled_record()])
    assert "compiled by model (default)" in " ".join(page.split())
    said = " ".join(page.split())
    assert "compiled graphs: 1 with 6 kernel calls a pass, all matched" in said
    assert "took 21.0 s; logits within 0.002 of eager ones" in said
    table = page.partition("by anchor")[2].splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in table if len(line.split()) == 4}
    assert cells["rope"] == ["0", "0", "0.000"]
    assert list(cells)[:2] == ["input_layernorm", "q_proj"]


def test_a_record_says_what_each_part_had() -> None:
    found = compiled_record().to_json()
    assert (found["execution"], found["compile_mode"], found["compile_time"]) == (
        "compiled", "default", 21.0,
    )  # fmt: skip
    compiled = found["compiled"]
    assert compiled["kernel_calls"] == 6
    ns = KERNEL_NS / 1e9
    assert compiled["parts"]["input_layernorm"] == {
        "least": 50e-9, "least_cuda": ns, "anchored": 100e-9, "anchored_cuda": 2 * ns,
        "most": 100e-9, "most_cuda": 2 * ns,
    }  # fmt: skip
    fused = [kernel for kernel in compiled["kernels"] if kernel["fused"]]
    assert [(kernel["labels"], kernel["anchor"]) for kernel in fused] == [
        (["layer.0.attn.q_norm", "layer.0.attn.rope"], "layer.0.attn.q_norm"),
        (["layer.0.residual_ffn", "layer.1.input_layernorm"], "layer.1.input_layernorm"),
    ]
    assert found["model_details"]["residual_ffn+input_layernorm_cuda"] == ns
