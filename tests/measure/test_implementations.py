"""Whose code ran as the parts that transformers takes from other packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from make.commands import Commands
from make.labelled_models import (
    has_hybrid,
    hybrid_config,
    modeling,
    prefill_and_decode,
    recorded,
    tiny_hybrid,
)
from torch import nn

from qwen3_profile.attribution.findings import FALLBACK, NOTE, WARNING, check_fallbacks
from qwen3_profile.attribution.parts import Times, make_part
from qwen3_profile.label_parts import packages
from qwen3_profile.measure import instrument
from qwen3_profile.measure.implementations import (
    CalledFunctions,
    compiled_functions,
    implementation,
    is_fallback,
)

needs_3_5 = pytest.mark.skipif(not has_hybrid("qwen3_5_text"), reason="no Qwen3.5 in it")
OWN = "transformers.models.qwen3_5.modeling_qwen3_5"


@needs_3_5
def test_what_was_called_is_noted_phase_by_phase(tmp_path: Path) -> None:
    model = tiny_hybrid("qwen3_5_text")
    with instrument.labelled(model) as found, recorded(tmp_path):
        prefill_and_decode(model)
    called = found.called.take()
    assert set(called) == {
        f"linear_attn.conv1d: {OWN}.causal_conv1d_fn",
        f"linear_attn.conv1d: {OWN}.causal_conv1d_update",
        f"linear_attn.delta_rule: {OWN}.torch_chunk_gated_delta_rule",
        f"linear_attn.delta_rule: {OWN}.torch_recurrent_gated_delta_rule",
    }
    assert all(map(is_fallback, called))
    assert found.called.take() == ()
    assert set(compiled_functions(model.model.layers)) == set(called)


@pytest.fixture
def fla(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that is there when the source of a model is imported."""
    hub = pytest.importorskip("transformers.integrations.hub_kernels")
    if not hasattr(hub, "use_kernel_func_from_hub_with_fallback"):
        pytest.skip("an older transformers")
    package = ModuleType("fla_stub")

    def chunk_gated_delta_rule(query: torch.Tensor, key: Any, value: Any, **rest: Any) -> Any:
        return value, torch.zeros(2, 4, 8, 8)

    chunk_gated_delta_rule.__module__ = "fla.ops.gated_delta_rule"
    chunk_gated_delta_rule.__qualname__ = "chunk_gated_delta_rule"
    inner = ModuleType("fla_stub.ops.gated_delta_rule")
    inner.chunk_gated_delta_rule = chunk_gated_delta_rule  # type: ignore[attr-defined]
    package.ops = ModuleType("fla_stub.ops")  # type: ignore[attr-defined]
    package.ops.gated_delta_rule = inner
    monkeypatch.setitem(sys.modules, "fla_stub", package)
    return hub.use_kernel_func_from_hub_with_fallback(
        "chunk_gated_delta_rule", "fla_stub", internal_path="ops.gated_delta_rule"
    )


@needs_3_5
def test_code_of_a_package_is_told_from_transformers_own(
    fla: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each function is chosen by itself: here one is the package's, and the others are not."""
    model = tiny_hybrid("qwen3_5_text")
    names = vars(modeling(model))
    name = "torch_chunk_gated_delta_rule"
    monkeypatch.setitem(names, name, fla(names[name]))
    with instrument.labelled(model) as found, recorded(tmp_path):
        prefill_and_decode(model)
    called = found.called.take()
    theirs = [line for line in called if not is_fallback(line)]
    assert len(called) == 4
    assert theirs == ["linear_attn.delta_rule: fla.ops.gated_delta_rule.chunk_gated_delta_rule"]


class Kernel(nn.Module):
    """What kernels of a hub are put into."""


def test_whose_code_a_function_is() -> None:
    def outer(implementation: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            return implementation(*args)

        return wrapped

    assert implementation(outer(torch.softmax)).endswith("softmax")
    assert implementation(outer(outer(json.dumps))) == "json.dumps"
    kernel = Kernel()
    kernel.forward = json.loads  # type: ignore[method-assign]
    assert implementation(kernel) == "json.loads"
    assert implementation(Path("x").exists).startswith("pathlib")
    assert not is_fallback("linear_attn.conv1d: causal_conv1d.interface.causal_conv1d_fn")
    assert is_fallback("linear_attn.conv1d: torch.nn.modules.conv.Conv1d.forward")


def test_compiled_code_is_always_told() -> None:
    called = CalledFunctions(("a: b",))
    assert called.take() == called.take() == ("a: b",)


def made(device: bool) -> Any:
    """Two layers with a mixer, 10 of 40 us in its delta rule and 6 in a kernel of both."""
    layers = []
    for layer in range(2):
        prefix = f"layer.{layer}.linear_attn"
        inside = [
            make_part(f"{prefix}.delta_rule", Times(1, 5000, 5000 if device else 0)),
            make_part(f"{prefix}.conv1d+gates", Times(1, 3000, 3000 if device else 0)),
            make_part(f"{prefix}.norm", Times(1, 2000, 2000 if device else 0)),
        ]
        layers.append(make_part(f"layer.{layer}", Times(1, 10000), Times(), inside))
    total = Times(1, 40_000, 40_000 if device else 0)
    return make_part("prefill", total, Times(), layers)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param((), "", id="nothing"),
        pytest.param(
            ("linear_attn.delta_rule: transformers.x", "linear_attn.delta_rule: transformers.y"),
            "delta_rule ran in transformers' own torch code, not in the kernels of "
            "flash-linear-attention: 0.010 ms, 25% of the pass",
            id="one part, two functions",
        ),
        pytest.param(
            ("linear_attn.conv1d: transformers.x", "linear_attn.delta_rule: transformers.y"),
            "of causal-conv1d and flash-linear-attention: 0.016 ms, 40% of the pass",
            id="both, one in a fused kernel",
        ),
    ],
)
@pytest.mark.parametrize("on_device", [True, False])
def test_what_it_cost(lines: tuple[str, ...], told: str, on_device: bool) -> None:
    found = check_fallbacks(lines, made(on_device), packages(), on_device=on_device)
    assert [told in each.message for each in found] == [True] * bool(told)
    assert all(each.code == FALLBACK for each in found)
    assert all(each.severity == (WARNING if on_device else NOTE) for each in found)


@needs_3_5
def test_a_run_says_it_in_its_first_lines(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hybrid_config("qwen3_5_text")))
    done = commands.profile(
        tmp_path, "--model-name", tmp_path, "--dtype", "float32", "--input-len", 6,
        "--decode-steps", 2,
    )  # fmt: skip
    assert done.code == 0, done.err
    head = " ".join(done.out[:500].split())
    assert "conv1d and delta_rule in plain torch code" in head
    assert "note: conv1d and delta_rule ran in transformers' own torch code" in done.out
    for record in done.records():
        (finding,) = record["findings"]
        assert finding["code"] == FALLBACK
        assert record["environment"]["kernels_replaced"] == []
