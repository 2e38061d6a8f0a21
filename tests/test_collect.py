"""A lone trace becomes records; one whose sums would be wrong becomes an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from kineto import cpu_op, document, kernel, label, launch, step, write

from qwen3_profile.collect import collect_trace
from qwen3_profile.errors import EXIT_DAMAGED, DamagedTraceError, TraceError

WORK = [launch(1, 5, 6), kernel(1, 10, 20), launch(2, 55, 56), kernel(2, 60, 75)]


def trace(folder: Path, *events: str) -> Path:
    return write(folder / "t.pt.trace.json", document(*events, base_time_ns=1_000_000))


def test_a_record_for_each_forward_pass(tmp_path: Path) -> None:
    path = trace(tmp_path, label("prefill", 0, 40), label("decode", 50, 90), *WORK)
    first, second = collect_trace(path)
    assert (first.phase, first.times.device_ns) == ("prefill", 10)
    assert (second.phase, second.times.device_ns) == ("decode", 15)
    assert first.id == "t.pt.trace.json@1000000-c0-r0-prefill"
    assert second.id == "t.pt.trace.json@1000000-c0-r1-decode"
    assert (first.facts.run, first.facts.trace) == ("t", "t.pt.trace.json")


def test_a_trace_without_labels_of_ours(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="labels of qwen3_profile"):
        collect_trace(trace(tmp_path, step(0, 0, 99), cpu_op("aten::mm", 0, 90), *WORK))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([label("prefill", 0, 40), label("decode", 50, 90)], id="two passes in a step"),
        pytest.param([label("prefill", 0, 40), label("norm", 50, 90)], id="a label beside a pass"),
    ],
)
def test_sums_that_do_not_balance_are_refused_with_the_figures(
    tmp_path: Path, events: list[str]
) -> None:
    path = trace(tmp_path, step(3, 0, 99), *events, *WORK)
    with pytest.raises(DamagedTraceError) as caught:
        collect_trace(path)
    assert caught.value.exit_code == EXIT_DAMAGED
    line = str(caught.value)
    assert str(path) in line
    assert "step 3" in line
    assert "10 ns" in line
    assert "25 ns" in line
