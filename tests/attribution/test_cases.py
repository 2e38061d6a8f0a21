"""Small traces with one thing odd in each, and what must come out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.kineto import cpu_op, host, kernel, label, launch, split, step
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace

MS = 1_000_000


def path_of(case: str) -> Path:
    return DATA / "cases" / case / "trace.json"


def ledger_of(case: str) -> Ledger:
    return make_ledger(read_trace(path_of(case)))


def by_label(ledger: Ledger) -> dict[str, int]:
    return {path[-1]: part.own.device_ns for path, part in ledger.rows}


# --- times of 0 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["zero_ts_half", "zero_ts_host", "zero_ts_modules"])
@pytest.mark.parametrize("ledger", [True, False])
def test_events_without_times_are_refused_with_the_reason(
    case: str, ledger: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--ledger", str(tmp_path / "l.json")] if ledger else []
    assert export.main([str(path_of(case)), "--output-dir", str(tmp_path), *more]) == 3
    assert "have neither a start nor a duration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param([label("B", 0, 0)], "1 of 2 host events", id="one label"),
        pytest.param([cpu_op("B", 0, 0), cpu_op("C", 0, 0)], "2 of 3 host events", id="operators"),
        pytest.param([launch(2, 0, 0)], "1 of 2 launches", id="a launch"),
        pytest.param([kernel(2, 0, 0)], "1 of 2 device events", id="a kernel"),
        pytest.param(
            [label("B", 0, 0), launch(2, 0, 0), kernel(2, 0, 0)],
            "1 of 2 host events, 1 of 2 launches, 1 of 2 device events", id="of all kinds",
        ),
    ],
)  # fmt: skip
def test_times_of_zero(events: list[str], told: str) -> None:
    whole = [label("A", MS, 2 * MS), launch(1, MS + 10, MS + 20), kernel(1, MS + 50, MS + 90)]
    (finding,) = [f for f in check_trace(split(*whole, *events)) if f.code == "no-timestamps"]
    assert finding.message == f"{told} have neither a start nor a duration"


def test_all_times_are_zero() -> None:
    found = split(label("A", 0, 0), launch(1, 0, 0), kernel(1, 0, 0))
    assert "no-timestamps" in {finding.code for finding in check_trace(found)}


def test_a_clock_may_begin_at_zero() -> None:
    found = split(cpu_op("aten::empty", 0, 0), label("A", 10, 900), launch(1, 20, 30),
                  kernel(1, 50, 90))  # fmt: skip
    assert check_trace(found) == ()


# --- whose a launch is --------------------------------------------------------------------------


def test_the_launch_is_on_another_thread_than_the_label() -> None:
    found = ledger_of("launch_tid_differs")
    assert by_label(found) == {"A": 30_000, "loader": 0}
    assert (found.times.cross_thread_ns, found.times.cross_thread_events) == (30_000, 3)


def test_two_threads_have_labels_but_one_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = "cross_thread_two_labelled"
    assert by_label(ledger_of(case)) == {"forward": 30_000, "backward": 100_000, "prefetch": 5_000}
    assert export.main([str(path_of(case)), "--ledger", str(tmp_path / "l.json")]) == 0
    (line,) = [
        line.split() for line in capsys.readouterr().out.splitlines() if "other threads" in line
    ]
    assert line[-5:] == ["100000", "ns", "74.07%", "2", "events"]


def test_what_came_across_threads_to_a_framework_counts_too() -> None:
    events = [
        step(0, 0, 1000), host("user_annotation", "Optimizer.step#Adam.step", 10, 900),
        launch(1, 100, 110, thread=2), kernel(1, 200, 250),
    ]  # fmt: skip
    found = make_ledger(split(*events).trace)
    assert (found.times.cross_thread_ns, found.times.cross_thread_events) == (50, 1)


# --- correlation 0 ------------------------------------------------------------------------------


def test_zero_is_no_correlation_id() -> None:
    found = ledger_of("correlation_0_both")
    assert [(each.reason, each.ns) for each in found.times.unattributed] == [
        ("no launch record", 40_000)
    ]
    assert not {finding.code for finding in found.findings} & {
        "duplicate-launch", "launch-without-event", "shared-launch",
    }  # fmt: skip


def test_kernels_with_correlation_zero_are_not_lost() -> None:
    found = ledger_of("correlation_0_nccl")
    assert [(each.reason, each.ns) for each in found.times.unattributed] == [
        ("no launch record", 240_000)
    ]
    codes = [finding.code for finding in found.findings]
    # Its kernels without an id lie on another stream than their args say.
    assert codes == ["event-without-launch", "other-stream"]
