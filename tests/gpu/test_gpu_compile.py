"""torch.compile as only a CUDA device can show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

_ON_GPU = ("--device", "cuda", "--dtype", "bfloat16", "--batch-size", 2, "--input-len", 32)
_DECODE = ("--cache", "static", "--decode-steps", 4, "--num-runs", 2)


def _run(commands: Commands, folder: Path, *argv: object) -> Done:
    return commands.profile(folder, *_ON_GPU, *argv)


@pytest.fixture(scope="module", params=["default", "reduce-overhead"])
def compiled(
    request: pytest.FixtureRequest, commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    folder = tmp_path_factory.mktemp("compiled")
    return _run(commands, folder, "--compile", request.param, *_DECODE)


def test_the_run_ends_well(compiled: Done) -> None:
    assert compiled.code == 0, compiled.err
    assert compiled.errors == []
    found = [(r["phase"], r["execution"]) for r in compiled.records()]
    assert found == [("prefill", "compiled")] * 2 + [("decode", "compiled")] * 2


def test_every_kernel_is_matched_and_the_ledger_balances(compiled: Done) -> None:
    for record in compiled.records():
        _check(record)
        assert record["compile_time"] > 0
        assert record["output_error"] < 0.05


def test_kernels_have_the_devices_time(compiled: Done) -> None:
    for record in compiled.records():
        kernels = record["compiled"]["kernels"]
        assert all(kernel["labels"] != [""] for kernel in kernels)
        assert sum(kernel["cuda"] for kernel in kernels) > 0.5 * record["cuda_total"]
        for part in ("q_proj", "o_proj", "gate_proj", "down_proj"):
            assert record["compiled"]["parts"][part]["least_cuda"] > 0, part
        for part, times in record["compiled"]["parts"].items():
            assert times["least_cuda"] <= times["anchored_cuda"] <= times["most_cuda"], part


def test_export_gives_the_same_records(commands: Commands, compiled: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, compiled.cwd / "traces" / "run1")
    assert done.code == 0, done.err
    assert done.records() == compiled.records()


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_a_prefill_alone(commands: Commands, tmp_path: Path, mode: str) -> None:
    done = _run(commands, tmp_path, "--compile", mode)
    assert done.code == 0, done.err
    (record,) = done.records()
    _check(record)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_each_layer_by_itself(commands: Commands, tmp_path: Path, mode: str) -> None:
    done = _run(commands, tmp_path, "--compile", mode, "--compile-scope", "layer", *_DECODE)
    assert done.code == 0, done.err
    for record in done.records():
        _check(record)
        assert record["compiled"]["graphs"] == 2
        assert [layer["attn_cuda"] > 0 for layer in record["layer_details"]] == [True, True]


def test_three_ways_side_by_side(commands: Commands, tmp_path: Path) -> None:
    done = _run(commands, tmp_path, "--compile", "--cuda-graph", *_DECODE)
    assert done.code == 0, done.err
    assert done.out.count("executions compared") == 2
    assert {record["execution"] for record in done.records()} == {
        "eager", "compiled", "cuda_graph",
    }  # fmt: skip
    for record in done.records():
        ledger = record["ledger_ns"]
        assert ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
    for phase in ("prefill", "decode"):
        moved = {
            r["execution"]: r["traffic"]["parts"] for r in done.records() if r["phase"] == phase
        }
        for part in ("q_proj", "o_proj", "down_proj", "lm_head"):
            assert moved["compiled"][part] == moved["eager"][part] == moved["cuda_graph"][part]
        for part in ("input_layernorm", "post_attention_layernorm", "norm"):
            assert moved["compiled"][part]["bytes"] < moved["eager"][part]["bytes"]


def test_what_kernels_of_triton_move_is_known(compiled: Done) -> None:
    for record in compiled.records():
        kernels = record["compiled"]["kernels"]
        assert [kernel["labels"] for kernel in kernels if not kernel["bytes"]] == []
        moved = record["traffic"]
        assert sum(kernel["bytes"] for kernel in kernels) <= moved["known_bytes"]


def _check(record: dict[str, Any]) -> None:
    compiled = record["compiled"]
    assert record["findings"] == []
    assert compiled["refusals"] == []
    assert compiled["graphs"] >= 1
    assert compiled["kernel_calls"] > 20
    ledger = record["ledger_ns"]
    assert ledger["labels"] == ledger["device_time"] > 0
    assert ledger["unattributed"] == 0
    assert "graph_replay" not in record["model_details"]
    assert "compiled graph" not in record["model_details"]
