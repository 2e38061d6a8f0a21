"""Runs of hybrids that the program recorded on an NVIDIA H200: one period of layers of each.

Three layers whose mixer is a gated delta net and one with attention, dense (9B) and with experts
(Next). The account by plain reading is not ours.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands
from make.paths import ROOT
from make.plain import Plain, Range, plain

RUNS = {name: ROOT / "tests/data/runs" / f"hybrid-{name}-h200" for name in ("9b", "next")}
KINDS = ["linear_attention"] * 3 + ["attention"]
MIXER = ("conv1d", "delta_rule", "gated_norm", "out_proj")
ATTENTION = ("q_proj", "rope", "kv_cache", "attn_forward", "o_proj")
# Its kernels run between two labels: to a plain reading they are the container's own.
GAP = "output_gate"
EXPERTS = ("shared_experts", "router", "experts", "shared_expert_gate", "combine")
DENSE = ("gate_proj", "up_proj", "act_fn", "down_proj")


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest) -> Path:
    return RUNS[request.param]


@pytest.fixture(scope="module")
def records(
    run: Path, commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    done = commands.export(tmp_path_factory.mktemp("exported"), run)
    assert done.code == 0, done.err
    return done.records()


def device_ns_by_label(run: Path, record: dict[str, Any]) -> dict[str, float]:
    """By label: device time, the mean of a record's steps.

    Each event's time is from the device pass, its label from the traced pass: both run the same
    kernels in the same order, on one stream.
    """
    paths = sorted(run.glob(f"raw/*_{record['phase']}.*.device.kineto.json.gz"))
    found: Counter[str] = Counter()
    for path in paths:
        alone = plain(path.read_bytes())
        traced = plain(path.with_name(path.name.replace(".device.", ".")).read_bytes())
        labels = dict(zip(map(id, traced.device), traced.innermost(), strict=True))
        for event, undisturbed in zip(in_order(traced), in_order(alone), strict=True):
            label = labels[id(event)]
            assert label is not None
            assert event.name == undisturbed.name
            found[label] += undisturbed.dur
    return {label: ns / len(paths) for label, ns in found.items()}


def in_order(trace: Plain) -> list[Range]:
    return sorted(trace.device, key=lambda event: event.start)


def test_each_layer_is_of_its_kind_with_the_parts_of_that_kind(
    run: Path, records: list[dict[str, Any]]
) -> None:
    assert {record["phase"] for record in records} == {"prefill", "decode"}
    for record in records:
        layers = record["layer_details"]
        assert [layer["kind"] for layer in layers] == KINDS
        for layer in layers:
            mixer = MIXER if layer["kind"] == "linear_attention" else (*ATTENTION, GAP)
            assert all(layer["attn_details"][f"{part}_cuda"] > 0 for part in mixer)
            ffn = EXPERTS if run.name == "hybrid-next-h200" else DENSE
            assert all(layer["ffn_details"][f"{part}_cuda"] > 0 for part in ffn)


def test_of_the_layers_at_most_2_percent_has_no_label(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert record["ledger_ns"]["unattributed"] == 0
        for layer in record["layer_details"]:
            inside = (layer, layer["attn_details"], layer["ffn_details"])
            other = sum(each["other_cuda"] for each in inside)
            assert other <= 0.02 * sum(v for k, v in layer.items() if k.endswith("_cuda"))


def test_parts_have_the_device_time_of_plain_reading(
    run: Path, records: list[dict[str, Any]]
) -> None:
    for record in records:
        expected = device_ns_by_label(run, record)
        assert 1e9 * record["cuda_total"] == pytest.approx(sum(expected.values()), abs=1)
        for part in (*MIXER, *ATTENTION):
            layers = (layer["attn_details"] for layer in record["layer_details"])
            found = sum(1e9 * layer.get(f"{part}_cuda", 0) for layer in layers)
            assert found == pytest.approx(ns_of(expected, part), abs=1), part


def test_the_slow_fallback_is_told_with_the_time_it_took(
    run: Path, records: list[dict[str, Any]]
) -> None:
    for record in records:
        (told,) = [each for each in record["findings"] if each["code"] == "torch-fallback"]
        expected = device_ns_by_label(run, record)
        took = ns_of(expected, "conv1d") + ns_of(expected, "delta_rule")
        assert told["ns"] == pytest.approx(took, abs=1)


def ns_of(by_label: dict[str, float], part: str) -> float:
    return sum(ns for label, ns in by_label.items() if label.endswith(f".{part}"))
