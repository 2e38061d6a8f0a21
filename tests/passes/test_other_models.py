"""Traces of models that are not built as Qwen3 is, and of engines that mix passes."""

from __future__ import annotations

import pytest
from make.paths import DATA

from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.records.load import by_config, collect_trace
from qwen3_profile.views.terminal.tables import render

CASES = DATA / "cases"


def test_a_layer_without_attention_has_its_mixer_and_its_own_time() -> None:
    (record,) = collect_trace(CASES / "hybrid_qwen3_next" / "trace.json.gz")
    shown = render([record])
    rows = [line.split() for line in shown.splitlines()]
    assert [row[-1] for row in rows if row[:1] in (["0"], ["1"], ["2"], ["3"])] == [
        "25.8%", "25.1%", "24.1%", "14.3%",
    ]  # fmt: skip
    blocks = [{p.name.partition(f"{layer.name}.")[2] for p in layer.parts}
              for layer in layers(record.times.forward)]  # fmt: skip
    assert ["linear_attn" in each for each in blocks] == [True, True, True, False]
    assert ["attn" in each for each in blocks] == [False, False, False, True]
    details = record.to_json()["layer_details"]
    assert [each["kind"] for each in details] == ["linear_attention"] * 3 + ["attention"]
    for each, layer in zip(details, layers(record.times.forward), strict=True):
        assert each["attn"] > 0
        assert "linear_attn" not in each
        # A layer's entries are the whole of it.
        times = sum(ns for key, ns in each.items() if key.endswith("_cuda"))
        assert times == pytest.approx(layer.total.device_ns / 1e9)
    assert max(map(len, shown.splitlines())) <= 100


def test_passes_of_new_and_of_running_requests_are_told_apart() -> None:
    records = collect_trace(CASES / "vllm_annotations" / "trace.json")
    prefill, decode = by_config(records)
    assert [(each.phase, each.times.device_ns) for each in prefill] == [("prefill", 240_000)]
    assert [(each.phase, each.times.device_ns) for each in decode] == [("decode", 24_000)] * 2
    assert prefill[0].phase_source == "annotation: execute_new_2_cached_0"
