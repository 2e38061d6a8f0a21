"""Findings: each provoked by a small trace, at and beside its threshold; and who is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make.kineto import (
    document,
    driver,
    event,
    forward_pass,
    host,
    kernel,
    label,
    launch,
    split,
    step,
    write,
)

from qwen3_profile import export
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import (
    DAMAGE,
    NOTE,
    WARNING,
    Finding,
    check_labels,
    check_log,
)
from qwen3_profile.attribution.fold import fold
from qwen3_profile.trace import read_trace

BEGIN = [step(0, 0, 9_000_000), label("prefill", 10, 8_000_000)]
MS = 1_000_000
DAY = 86_400 * 10**9


def findings(*events: str) -> dict[str, Finding]:
    return {finding.code: finding for finding in check_trace(split(*events))}


def call(name: str, correlation: int, start: int, end: int) -> str:
    return host("cuda_runtime", name, start, end, correlation=correlation)


def later(correlation: int, start: int, dur: int, stream: int = 7) -> list[str]:
    """A kernel and its launch, 50 ns before it."""
    return [
        launch(correlation, start - 50, start - 40),
        kernel(correlation, start, start + dur, stream),
    ]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(forward_pass(2), id="a labelled pass"),
        pytest.param(forward_pass(1, cuda=False), id="of the CPU alone"),
        pytest.param([], id="nothing at all"),
        pytest.param([label("a", 0, 5)], id="one label"),
        pytest.param(
            [*BEGIN, call("cudaGraphLaunch", 1, 20, 30), kernel(1, 40, 60), kernel(1, 50, 70)],
            id="a graph's kernels share an id and overlap",
        ),
        pytest.param(
            [*BEGIN, launch(1, 20, 30), driver(1, 22, 28), kernel(1, 40, 60)],
            id="a driver call inside its runtime call",
        ),
        pytest.param(
            [*BEGIN, call("cudaDeviceSynchronize", 1, 20, 30), *later(2, 100, 5)],
            id="what launches nothing needs no event",
        ),
        pytest.param([*BEGIN, *later(1, 100, 50), *later(2, 150, 5)], id="one after the other"),
        pytest.param([*BEGIN, *later(1, 100, 50), *later(2, 120, 5, 8)], id="on two streams"),
        pytest.param([*BEGIN, launch(1, 20, 30), kernel(1, 20, 25)], id="starts with its launch"),
    ],
)
def test_a_clean_trace_has_none(events: list[str]) -> None:
    assert findings(*events) == {}


@pytest.mark.parametrize(
    ("code", "severity", "count", "ns", "example", "events"),
    [
        pytest.param(
            "no-timestamps", DAMAGE, 2, 0, "k1",
            [label("prefill", 5, 900), launch(1, 20, 30), launch(2, 40, 50), *later(3, 100, 9),
             kernel(1, 0, 0), kernel(2, 0, 0)],
            id="kernels at 0 of no length",
        ),
        pytest.param(
            "endless", DAMAGE, 1, 9_999_000, "k2", [*later(1, 100, 50), *later(2, 200, 9_999_000)],
            id="one longer than all the trace",
        ),
        pytest.param(
            "clock-jump", DAMAGE, 1, 101 * DAY, "k2",
            [*later(1, 100, 50), *later(2, 101 * DAY, 50)],
            id="over a hundred days apart",
        ),
        pytest.param(
            "clock-jump", DAMAGE, 1, 7, "k2",
            [*BEGIN, *later(1, 100, 50), launch(2, 3 * MS, 3 * MS + 9), kernel(2, 200, 207)],
            id="milliseconds before its launch",
        ),
        pytest.param(
            "before-launch", WARNING, 1, 7, "k2",
            [*BEGIN, *later(1, 100, 50), launch(2, 300, 310), kernel(2, 200, 207)],
            id="a little before its launch",
        ),
        pytest.param(
            "duplicate-launch", DAMAGE, 1, 9, "k1",
            [*BEGIN, launch(1, 20, 30), launch(1, 40, 50), kernel(1, 60, 69)],
            id="two launches of one id",
        ),
        pytest.param(
            "duplicate-launch", DAMAGE, 1, 9, "k1",
            [*BEGIN, launch(1, 20, 50), launch(1, 25, 30, thread=2), kernel(1, 60, 69)],
            id="two launches of one id on two threads",
        ),
        pytest.param(
            "shared-launch", DAMAGE, 2, 9 + 5, "k1",
            [*BEGIN, launch(1, 20, 30), kernel(1, 60, 69), kernel(1, 80, 85)],
            id="two kernels of one launch",
        ),
        pytest.param(
            "launch-without-event", WARNING, 2, 10 + 15, "cudaLaunchKernel",
            [*BEGIN, *later(1, 100, 50), launch(2, 300, 310), launch(3, 400, 415)],
            id="launches whose kernels were lost",
        ),
        pytest.param(
            "launch-without-event", NOTE, 1, 10, "cudaLaunchKernel",
            [*BEGIN, call("cudaStreamBeginCapture", 8, 20, 25), *later(1, 100, 50),
             launch(2, 300, 310)],
            id="launches that a graph records",
        ),
        pytest.param(
            "event-without-launch", WARNING, 1, 11, "k9",
            [*BEGIN, *later(1, 100, 50), kernel(9, 400, 411)],
            id="a kernel whose launch was lost",
        ),
        pytest.param(
            "before-window", WARNING, 1, 11, "k2",
            [*BEGIN, *later(5, 100, 50), kernel(2, 400, 411)],
            id="a kernel launched before the window",
        ),
        pytest.param(
            "longer-than-step", WARNING, 1, 101, "k1",
            [step(0, 0, 100), step(1, 100, 5000), *later(1, 60, 101), *later(2, 300, 100)],
            id="a kernel longer than its step",
        ),
        pytest.param(
            "overlap", NOTE, 1, 20, "k2",
            [*BEGIN, *later(1, 100, 50), *later(2, 149, 20), *later(3, 300, 5)],
            id="two kernels at once on one stream",
        ),
        pytest.param(
            "ranges-cross", WARNING, 1, 1001, "norm",
            [step(0, 0, 9000), label("prefill", 0, 5000), label("norm", 4000, 6001)],
            id="a range that outlives the one around it",
        ),
        pytest.param(
            "unknown-category", WARNING, 2, 0, "kernem",
            [*BEGIN, *later(1, 100, 50), event("kernem", "k", 0, 7, "1.0", "2.0"),
             event("odd", "k", 0, 7, "1.0", "2.0")],
            id="categories that nobody knows",
        ),
    ],
)  # fmt: skip
def test_a_finding(
    code: str, severity: str, count: int, ns: int, example: str, events: list[str]
) -> None:
    found = findings(*events)[code]
    assert (found.severity, found.count, found.ns, found.example) == (severity, count, ns, example)
    assert found.message


@pytest.mark.parametrize(
    ("code", "events"),
    [
        pytest.param(
            "clock-jump",
            [launch(2, 1 * MS + 200, 1 * MS + 300), kernel(2, 200, 207)],
            id="one millisecond before its launch is two clocks that disagree, no jump",
        ),
        pytest.param(
            "clock-jump", [*later(1, 100, 50), *later(2, 99 * DAY, 50)], id="99 days are one trace"
        ),
        pytest.param("endless", [*later(1, 100, 9999)], id="one kernel stands alone"),
        pytest.param(
            "endless", [*later(1, 50, 179), *later(2, 120, 59)], id="as long as all the rest"
        ),
        pytest.param(
            "no-timestamps",
            [label("a", 0, 9), launch(1, 0, 1), kernel(1, 0, 0)],
            id="a clock that begins at 0 has a first event there",
        ),
        pytest.param(
            "longer-than-step", [step(0, 0, 100), *later(1, 60, 100)], id="as long as its step"
        ),
        pytest.param(
            "before-window", [*later(5, 100, 50), kernel(9, 400, 411)], id="an id above all calls"
        ),
        pytest.param(
            "duplicate-launch",
            [*BEGIN, launch(1, 20, 30), launch(1, 40, 50), *later(2, 100, 9)],
            id="two launches of an id that no event has",
        ),
        pytest.param(
            "shared-launch",
            [*BEGIN, call("cudaMemcpyAsync", 1, 20, 30), kernel(1, 60, 69), kernel(1, 80, 85)],
            id="a copy may be more than one event",
        ),
        pytest.param(
            "shared-launch",
            [*BEGIN, call("hipExtLaunchMultiKernelMultiDevice", 1, 20, 30), kernel(1, 60, 69),
             kernel(1, 60, 85, device=1)],
            id="a launch on several devices",
        ),
    ],
)  # fmt: skip
def test_beside_the_threshold_it_is_silent(code: str, events: list[str]) -> None:
    assert code not in findings(*events)


def test_the_gravest_comes_first() -> None:
    severities = [
        finding.severity
        for finding in check_trace(
            split(*BEGIN, *later(1, 100, 50), *later(2, 149, 20), launch(3, 20, 30),
                  kernel(4, 700, 705), launch(5, 3 * MS, 3 * MS), kernel(5, 200, 205))
        )
    ]  # fmt: skip
    assert severities == [DAMAGE, WARNING, WARNING, NOTE]


def test_what_the_profiler_wrote_into_its_log_is_told(tmp_path: Path) -> None:
    data = document(*later(1, 100, 5)).replace(
        b'"schemaVersion": 1',
        b'"schemaVersion": 1, "WARNING": ["dropped 3 buffers"], "INFO": ["x"]',
    )
    trace = read_trace(write(tmp_path / "t.json", data))
    found = check_trace(attribute(trace, build_scopes(trace, select_labels(trace))))
    assert [finding.code for finding in found] == ["profiler-log"]
    assert "dropped 3 buffers" in found[0].message
    assert check_log(()) == ()


def test_labels_that_a_model_must_write_are_missed() -> None:
    parts = fold(split(*forward_pass(1)))
    assert check_labels(parts, ["layer.0.attn", "norm"]) == ()
    (found,) = check_labels(parts, ["norm", "layer.1", "layer.2"])
    assert (found.severity, found.count, found.example) == (WARNING, 2, "layer.1")


# --- refusal ------------------------------------------------------------------------------------

TWICE = [*BEGIN, launch(1, 20, 30), kernel(1, 60, 69), kernel(1, 80, 85)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(document(*TWICE), "2 of 2 device events share", id="a finding of damage"),
        pytest.param(document(*later(1, 100, 5))[:-9], "is cut off", id="a file that is cut off"),
    ],
)
def test_damage_is_refused_unless_it_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, told: str
) -> None:
    argv = [str(write(tmp_path / "t.json", data)), "--ledger", str(tmp_path / "ledger.json")]
    assert export.main(argv) == 3
    shown = capsys.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert told in shown.err
    assert not (tmp_path / "ledger.json").exists()
    assert export.main([*argv, "--accept-damaged"]) == 0
    text = json.loads((tmp_path / "ledger.json").read_text())
    (finding,) = (each for each in text["findings"] if each["severity"] == DAMAGE)
    assert told in finding["message"]
    assert capsys.readouterr().out.count(finding["message"]) == 1


def test_a_warning_refuses_nothing_and_is_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = document(*BEGIN, *later(1, 100, 50), kernel(9, 400, 411))
    argv = [str(write(tmp_path / "t.json", data)), "--ledger", str(tmp_path / "ledger.json")]
    assert export.main(argv) == 0
    assert capsys.readouterr().out.count("no launch record (such as k9)") == 1


def test_records_are_refused_and_accepted_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [*forward_pass(1), kernel(1, 9000, 9005)]
    argv = [str(write(tmp_path / "t.json", document(*events))), "--output-dir", str(tmp_path)]
    assert export.main(argv) == 3
    assert "share the id" in capsys.readouterr().err
    assert export.main([*argv, "--accept-damaged"]) == 0
    assert "share the id" in (tmp_path / "timing_records.json").read_text()
