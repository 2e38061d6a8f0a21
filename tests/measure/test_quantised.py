"""Packed Linears: what they hold, their stages in every way of running, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands, Done
from make.labelled_models import TOKENS, tiny
from torch import nn

from qwen3_profile import trace_forward
from qwen3_profile.attribution.parts import Part
from qwen3_profile.measure.model.quantised import (
    parameter_count,
    quantised_kind,
    quantised_linears,
    stored_bytes,
)

torchao = pytest.importorskip("torchao")
STAGES = {"quantise", "gemm", "dequantise"}


def adds_up(forward: Part) -> bool:
    return all(
        part.total.cpu_ns == part.own.cpu_ns + sum(each.total.cpu_ns for each in part.parts)
        for part in forward.each()
    )


def quantised(model: nn.Module) -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    config = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    quantize_(model, config, lambda module, name: "proj" in name)
    return model


def test_what_a_packed_model_holds() -> None:
    model = tiny("dense")
    parameters, size = parameter_count(model), stored_bytes(model)
    quantised(model)
    assert quantised_linears(model) == {"torchao Int8Tensor": 14}
    assert parameter_count(model) == parameters
    linears = [m for m in model.modules() if quantised_kind(m)]
    # A byte each in place of four, and for each row a scale and a byte of what it is moved by.
    saved = sum(3 * m.in_features * m.out_features - 5 * m.out_features for m in linears)
    assert stored_bytes(model) == size - saved


class Int8Params(nn.Parameter):
    """As those of bitsandbytes, which has scales beside them."""

    __module__ = "bitsandbytes.nn.modules"
    SCB: torch.Tensor


class QuantState:
    absmax = torch.ones(2)
    code = torch.ones(16)


class PackedLinear(nn.Module):
    """As one of GPTQ: no weight, but buffers."""

    in_features, out_features, bias = 16, 8, None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(2, 8, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(1, 8, dtype=torch.float16))


def linear_with(weight: Any) -> nn.Linear:
    found = nn.Linear(16, 8, bias=False)
    found.weight = weight
    return found


def eight_bits() -> nn.Module:
    weight = Int8Params(torch.zeros(8, 16, dtype=torch.int8), requires_grad=False)
    weight.SCB = torch.ones(8)
    return linear_with(weight)


def four_bits() -> nn.Module:
    weight = Int8Params(torch.zeros(64, 1, dtype=torch.uint8), requires_grad=False)
    weight.quant_state = QuantState()
    return linear_with(weight)


@pytest.mark.parametrize(
    ("module", "parameters", "size"),
    [
        pytest.param(lambda: nn.Linear(16, 8, bias=False), 128, 512, id="not packed"),
        pytest.param(eight_bits, 128, 128 + 32, id="bitsandbytes, 8 bits"),
        pytest.param(four_bits, 128, 64 + 8 + 64, id="bitsandbytes, 4 bits"),
        pytest.param(PackedLinear, 128, 64 + 16, id="GPTQ"),
    ],
)
def test_what_a_packed_linear_holds(module: Any, parameters: int, size: int) -> None:
    model = nn.Sequential(module())
    assert (parameter_count(model), stored_bytes(model)) == (parameters, size)


def test_stages_of_a_model_of_ones_own() -> None:
    profile = trace_forward(quantised(tiny("dense").to(torch.bfloat16)), TOKENS, num_runs=1)
    forward = profile.record.times.forward
    parts = [each for each in forward.each() if each.name.endswith("down_proj")]
    for part in parts:
        assert {each.name.rpartition(".")[2] for each in part.parts} == STAGES
    assert adds_up(forward)
    entry = profile.record.to_json()
    assert entry["model"]["packed"]["quantised"] == {"torchao Int8Tensor": 14}
    assert entry["traffic"]["parts"]["down_proj"]["bytes"] > 0
    assert entry["cpu_source"] == "clock"
    assert not profile.record.findings


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param("--quantize int8", id="int8"),
        pytest.param("--quantize fp8", id="fp8"),
        pytest.param("--quantize int8 --decode-steps 2 --cache static", id="decode"),
    ],
)
def test_a_model_is_quantised_in_memory(commands: Commands, tmp_path: Path, argv: str) -> None:
    done = commands.profile(tmp_path, *argv.split())
    assert (done.code, done.errors) == (0, [])
    for record in done.records():
        packed = record["model"]["packed"]
        assert sum(packed["quantised"].values()) == 14
        assert 0 < packed["difference"]["relative"] < 0.1
        assert packed["difference"]["max"] > 0
        details = record["layer_details"][1]["ffn_details"]["up_proj_details"]
        assert {"gemm", "dequantise"} <= set(details)
        assert not record["findings"]
    assert "The packed Linears take" in done.out


def test_adapters_round_packed_weights_train(commands: Commands, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    done = commands.profile(
        tmp_path, "--quantize", "int8", "--lora-rank", 2, "--backward", "--dtype", "float32"
    )
    assert (done.code, done.errors) == (0, [])
    (record,) = done.records()
    details = record["layer_details"][0]["attn_details"]["q_proj_details"]
    assert set(details["base_details"]) >= STAGES
    assert details["lora_B_bwd"] > 0
    assert not record["findings"]


def refused(commands: Commands, cwd: Path, *argv: str) -> str:
    done: Done = commands.profile(cwd, *argv)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    return done.err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        pytest.param(["--quantize", "int4"], "--quantize int4: does not run on cpu:", id="int4"),
        pytest.param(
            ["--quantize", "int8", "--backward"], "--quantize: leaves nothing to train", id="train"
        ),
    ],
)
def test_what_cannot_be_quantised(
    commands: Commands, tmp_path: Path, argv: list[str], line: str
) -> None:
    assert refused(commands, tmp_path, *argv).startswith(f"error: {line}")


class Unseen(nn.Linear):
    """One whose kernel is launched past torch's dispatcher."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_empty(*x.shape[:-1], self.out_features)


def test_what_a_kernel_moves_that_torch_does_not_see_is_not_known() -> None:
    model = tiny("dense").to(torch.bfloat16)
    old = model.model.layers[1].mlp.up_proj
    unseen = Unseen(old.in_features, old.out_features, bias=False)
    unseen.weight = nn.Parameter(old.weight.to(torch.float8_e4m3fn), requires_grad=False)
    model.model.layers[1].mlp.up_proj = unseen
    traffic = trace_forward(model, TOKENS, num_runs=1).record.to_json()["traffic"]
    assert traffic["parts"]["up_proj"]["bytes"] is None
    assert traffic["bytes"] is None
    assert traffic["parts"]["gate_proj"]["bytes"] > 0
