"""Models in wrappers of others: where the head is, what is compiled, what is packed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

from qwen3_profile import label, trace_forward
from qwen3_profile.errors import RunError
from qwen3_profile.measure.executions import user_model
from qwen3_profile.measure.ranges import phase_of

IDS = torch.arange(16)[None]


@pytest.fixture
def model() -> Iterator[Any]:
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=512, max_position_embeddings=256,
    )  # fmt: skip
    yield Qwen3ForCausalLM(config).eval()
    torch._dynamo.reset()


class Wrapper(nn.Module):
    """As those of torch that run a model on several devices."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def test_the_head_is_found_below_a_wrapper(model: Any) -> None:
    with label(Wrapper(model)) as found:
        assert "lm_head" in found.hooked
        assert not found.missing
    record = trace_forward(Wrapper(model), IDS, num_runs=1).record
    assert {"lm_head", "select_last"} <= set(record.to_json()["model_details"])
    assert not record.findings


def test_a_lora_model_has_the_parts_of_its_base(model: Any) -> None:
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, lora).eval()
    records = [trace_forward(each, IDS, num_runs=1).record for each in (wrapped, model)]
    ours, base = (list(each.to_json()["model_details"]) for each in records)
    assert ours == base
    assert "lm_head" in ours


def test_a_head_of_another_kind_is_told(model: Any) -> None:
    model.score = nn.Linear(64, 2)
    with label(model) as found:
        assert any("model: no label for module score" in line for line in found.missing)


@pytest.mark.parametrize("way", ["wrapped", "in place", "by layer"])
def test_no_measured_pass_compiles(model: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = torch.compile(model, backend="eager") if way == "wrapped" else model
    if way == "in place":
        model.compile(backend="eager")
    for layer in model.model.layers if way == "by layer" else ():
        layer.compile(backend="eager")
    seen: list[int] = []
    settle = user_model.UserModelExecution._settle_compiler

    def settled(execution: user_model.UserModelExecution) -> int:
        seen.append(settle(execution))
        return seen[-1]

    monkeypatch.setattr(user_model.UserModelExecution, "_settle_compiler", settled)
    record = trace_forward(called, IDS, num_runs=2, warmup_runs=1).records[-1]
    assert user_model._compiles() == seen[-1] > 1
    layers = record.to_json()["layer_details"]
    assert len(layers) == (2 if way == "by layer" else 0)
    told = {finding.code for finding in record.findings}
    assert ("labels-missing" in told) == (way != "by layer")


def test_a_pass_that_compiles_is_an_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 1000))
    monkeypatch.setattr(user_model, "_compiles", lambda: next(numbers))
    with pytest.raises(RunError, match="compiled anew in a measured pass"):
        trace_forward(torch.compile(model, backend="eager"), IDS, num_runs=1)


@pytest.mark.filterwarnings("ignore")
def test_of_packed_weights_bytes_are_not_known_and_parameters_are_counted(model: Any) -> None:
    parameters = sum(each.numel() for each in model.parameters())
    packed = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    entry = trace_forward(packed, IDS, num_runs=1).record.to_json()
    assert entry["traffic"]["bytes"] is None
    assert entry["traffic"]["parts"]["q_proj"]["bytes"] is None
    assert entry["traffic"]["parts"]["q_norm"]["bytes"] > 0
    # Tied weights are packed by themselves.
    assert entry["model"]["parameters"] >= parameters


def test_a_phase_is_told_by_what_the_cache_holds(model: Any) -> None:
    cache = DynamicCache()
    one, several = IDS[:, :1], IDS[:, :3]
    assert phase_of((one,), {"past_key_values": cache}) == "prefill"
    with torch.inference_mode():
        model(IDS, past_key_values=cache)
    assert phase_of((one,), {"past_key_values": cache}) == "decode"
    assert phase_of((several,), {"past_key_values": cache}) == "prefill"
    # What an assistant has drafted is verified in one step.
    assert phase_of((several,), {"past_key_values": cache, "logits_to_keep": 3}) == "decode"
    assert phase_of((one,), {}) == "prefill"
