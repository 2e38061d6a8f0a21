"""What is odd in the passes of a config, in one line each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import record

from qwen3_profile.analysis.explain import explain
from qwen3_profile.analysis.odd_layers import find_odd_layers, kinds_that_count
from qwen3_profile.analysis.odd_ones import (
    DRIFT,
    FIRST_LAYER,
    ODD_LAYER,
    SHARED,
    THROTTLED,
    odd_ones,
)
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.gpu_state import GpuState
from qwen3_profile.views.terminal.explain import render_explanation, render_explanations


def forward(slow: int | None) -> Part:
    """Ten layers that take 100 us; `slow` takes half as much again."""
    found = []
    for layer in range(10):
        ns = 150_000 if layer == slow else 100_000
        inside = [make_part(f"layer.{layer}.ffn", Times(1, ns, ns), Times(1, ns, ns))]
        found.append(make_part(f"layer.{layer}", Times(1, ns, ns), Times(1), inside))
    return make_part("prefill", Times(1, 1_050_000), Times(1), found)


def runs(slow: int | None, bare_ns: list[float], clock: bool = True) -> list[TimingRecord]:
    base = record()
    times = replace(base.times, forward=forward(slow), has_clock=clock)
    return [
        replace(base, run_index=run, total_ns=ns, times=times) for run, ns in enumerate(bare_ns)
    ]


@pytest.mark.parametrize(("slow", "kind"), [(4, ODD_LAYER), (0, FIRST_LAYER)])
def test_a_layer_in_a_line(slow: int, kind: str) -> None:
    (odd,) = odd_ones(totals_of(runs(slow, [1e6] * 6)))
    where = "layer 0 (the first)" if slow == 0 else "layer 4"
    assert odd.verdict == kind
    assert odd.sentence == (
        f"{where} takes 1.50 times the CUDA time of comparable layers (0.150 ms beside 0.100): "
        "the longest of 10 in each of 6 passes."
    )
    assert odd.rests_on["false_alarm_rate"] == 0.05


def test_nothing_odd_says_nothing() -> None:
    assert odd_ones(totals_of(runs(None, [1e6] * 6))) == ()


def test_one_pass_is_not_judged_and_one_line_says_so_for_all_pages() -> None:
    found = explain(runs(4, [1e6]))
    (claim,) = found.odd
    assert (claim.verdict, claim.sentence, claim.gain_ns) == (ODD_LAYER, "", None)
    assert claim.withheld == "1 traced pass cannot tell an outlier from noise; 4 can"
    assert claim.rests_on == {"passes": 1, "passes_needed": 4}
    assert "odd layer" not in render_explanation(found)
    judged, decode = explain(runs(4, [1e6] * 6)), replace(found, phase="decode")
    page = render_explanations([found, judged, decode, found])
    (line,) = [line for line in page.splitlines() if line.startswith("odd layers")]
    assert line == (
        "odd layers: not judged in prefill, decode; that takes 4 traced passes of each "
        "(--num-runs 4)."
    )
    foreign = replace(found, shown=replace(found.shown, config=None))
    assert render_explanations([foreign]).endswith("that takes 4 traced passes of each.")
    assert "odd layers" not in render_explanations([judged])


@pytest.mark.parametrize(("grow", "expected"), [(0.1, [DRIFT]), (0.0, []), (0.001, [])])
def test_drift_of_bare_passes(grow: float, expected: list[str]) -> None:
    found = odd_ones(totals_of(runs(None, [1e6 * (1 + grow * run) for run in range(8)])))
    assert [each.verdict for each in found] == expected
    for each in found:
        assert each.rests_on["change"] == pytest.approx(1.65 / 1.05 - 1)
        assert "takes 57.1% longer than the first" in each.sentence


def test_drift_of_the_devices_work() -> None:
    passes = [
        replace(one, times=replace(one.times, busy_ns=1_000_000 - 50_000 * one.run_index))
        for one in runs(None, [1e6] * 8)
    ]
    (odd,) = odd_ones(totals_of(passes))
    assert odd.sentence.startswith("the device's work drift: the last third of 8 runs takes 30")


HOT = GpuState(0, 88, 698_000, 700_000, ("the power limit",), 0)


@pytest.mark.parametrize(
    ("states", "kind", "said"),
    [
        ([HOT] * 3, THROTTLED, "after 3 of 3 runs: the power limit (at most 88 C, 698 of 700 W)"),
        ([HOT, HOT, GpuState(0)], THROTTLED, "after 2 of 3 runs"),
        ([HOT, GpuState(0)], "", ""),
        ([GpuState(0, others=0)] * 3, "", ""),
        ([GpuState(0, others=2)] * 3, SHARED, "2 other processes had the GPU open after 3 of 3"),
        ([GpuState(0, others=1), GpuState(0), GpuState(0)], "", ""),
        ([None] * 3, "", ""),
    ],
)
def test_what_the_driver_tells(states: list[GpuState | None], kind: str, said: str) -> None:
    passes = runs(None, [1e6] * len(states))
    told = [replace(one, gpu=state) for one, state in zip(passes, states, strict=True)]
    found = [each for each in odd_ones(totals_of(told)) if each.verdict != ODD_LAYER]
    assert [each.verdict for each in found] == ([kind] if kind else [])
    assert all(said in each.sentence for each in found)


@pytest.mark.parametrize(("clock", "kinds"), [(True, ("cuda", "cpu")), (False, ("cuda",))])
def test_a_profilers_times_of_the_host_do_not_count(clock: bool, kinds: tuple[str, ...]) -> None:
    passes = runs(4, [1e6] * 6, clock)
    assert kinds_that_count(passes) == kinds
    found = {each.kind for each in find_odd_layers(passes[0], passes).outliers}
    assert found == set(kinds)
