"""Adapters of peft round a model's Linears: each part is shown by what it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from make.labelled_models import TOKENS, tiny

from qwen3_profile import label, to_table, trace_forward
from qwen3_profile.analysis.part_rows import part_rows
from qwen3_profile.attribution.parts import Part, sum_times
from qwen3_profile.labels import parse
from qwen3_profile.measure.inductor.module_labels import module_labels

peft = pytest.importorskip("peft")

LORA = ("base", "lora_input", "lora_A", "lora_B", "lora_add")
ALONE = ("base",)


def adapted(kind: str = "dense", **options: Any) -> Any:
    options = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(tiny(kind), peft.LoraConfig(**options)).eval()


def two(model: Any) -> Any:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model.add_adapter("two", config)
    model.base_model.set_adapter(["default", "two"])
    return model


def merged(model: Any) -> Any:
    model.merge_adapter()
    return model


def parts_called(forward: Part, name: str) -> list[Part]:
    return [part for part in forward.each() if part.name.rpartition(".")[2] == name]


def adds_up(part: Part) -> bool:
    """Whether all below it and what is its own make it up, in whole nanoseconds."""
    inner = sum_times(each.total for each in part.parts)
    both = part.own + inner
    return both._replace(calls=0) == part.total._replace(calls=0)


@pytest.mark.parametrize(
    ("model", "pieces", "calls"),
    [
        pytest.param(adapted, LORA, 1, id="one"),
        pytest.param(lambda: adapted(lora_dropout=0.1), LORA, 1, id="with dropout"),
        pytest.param(lambda: two(adapted()), LORA, 2, id="two at once"),
        pytest.param(lambda: merged(adapted()), ALONE, 0, id="merged"),
        pytest.param(lambda: adapted(use_dora=True), LORA, 2, id="dora"),
    ],
)
def test_a_part_is_shown_by_its_pieces(
    model: Callable[[], Any], pieces: tuple[str, ...], calls: int
) -> None:
    profile = trace_forward(model(), TOKENS, num_runs=1)
    forward = profile.record.times.forward
    shown = parts_called(forward, "q_proj")
    assert len(shown) == 2
    for part in shown:
        names = tuple(piece.name.removeprefix(f"{part.name}.") for piece in part.parts)
        assert names == pieces
        assert dict(zip(names, (each.total.calls for each in part.parts), strict=True)).get(
            "lora_A", 0
        ) == calls  # fmt: skip
    assert all(map(adds_up, forward.each()))
    entry = profile.record.to_json()["layer_details"][1]["attn_details"]
    assert list(entry["q_proj_details"])[::2] == [*pieces, "other"]
    inner = sum(entry["q_proj_details"][name] for name in (*pieces, "other"))
    assert inner == pytest.approx(entry["q_proj"])
    assert not profile.record.findings
    assert "The adapters take" in " ".join(profile.table().split())


def test_without_adapters_nothing_is_said() -> None:
    profile = trace_forward(tiny("dense"), TOKENS, num_runs=1)
    assert "adapters" not in profile.table()
    assert "q_proj_details" not in profile.record.to_json()["layer_details"][0]["attn_details"]


def test_a_head_with_adapters_has_rows_of_its_own() -> None:
    record = trace_forward(adapted(target_modules=["lm_head"]), TOKENS, num_runs=1).record
    rows = {row.path[1:]: row.times for row in part_rows(record.times.forward)}
    inner = [rows["lm_head", name] for name in (*LORA, "other")]
    assert sum_times(inner)[1:] == rows["lm_head",][1:]
    assert parse("lm_head.lora_A") is not None
    assert set(record.to_json()["model_details"]["lm_head_details"]) >= set(LORA)


def test_bytes_of_the_pieces_are_those_of_the_part() -> None:
    plain, with_lora = (
        trace_forward(model, TOKENS, num_runs=1).record.to_json()["traffic"]
        for model in (tiny("dense"), adapted(target_modules=["q_proj"]))
    )
    assert list(plain["parts"]) == list(with_lora["parts"])
    more = with_lora["parts"]["q_proj"]["bytes"] - plain["parts"]["q_proj"]["bytes"]
    assert more == with_lora["bytes"] - plain["bytes"] > 0


def test_a_training_step_has_the_pieces_backward_too() -> None:
    model = adapted().train()
    with label(model), torch.profiler.profile() as profiler, torch.enable_grad():
        logits = model(TOKENS, use_cache=False).logits
        logits.float().sum().backward()
    names = {event.name for event in profiler.events()}
    assert {"layer.0.attn.q_proj.lora_A", "layer.1.ffn.down_proj.base"} <= names


@pytest.mark.parametrize("is_on", [True, False])
def test_only_what_runs_is_expected(is_on: bool) -> None:
    model = adapted()
    with nullcontext() if is_on else model.disable_adapter(), label(model) as found:
        pass
    assert any("lora_A" in name for name in found.expected) == is_on
    assert "layer.0.attn.q_proj.base" in found.expected


def test_experts_with_adapters_are_experts() -> None:
    record = trace_forward(adapted("sparse"), TOKENS, num_runs=1).record
    assert not record.findings
    assert "experts" in record.to_json()["layer_details"][0]["ffn_details"]


def test_a_compiled_graph_has_the_labels_of_pieces() -> None:
    found = module_labels(adapted().get_base_model()).labels
    path = "model.layers.*.self_attn.q_proj"
    assert found[path] == "layer.*.attn.q_proj"
    assert found[f"{path}.base_layer"] == "layer.*.attn.q_proj.base"
    assert found[f"{path}.lora_A.default"] == "layer.*.attn.q_proj.lora_A"


def test_tables_of_a_trace_alone(tmp_path: Any) -> None:
    from qwen3_profile import to_records

    model = adapted()
    with label(model), torch.profiler.profile() as profiler, torch.inference_mode():
        model(TOKENS)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    (record,) = to_records(tmp_path / "trace.json")
    assert all(map(adds_up, record.times.forward.each()))
    assert len(parts_called(record.times.forward, "lora_add")) == 14
    assert "lora_add" in to_table([record])
