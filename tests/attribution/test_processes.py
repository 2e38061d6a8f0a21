"""Files of several processes: each is read by itself, or the file is refused by its cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make.kineto import forward_pass, write
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.attribution.processes import split_processes
from qwen3_profile.passes import windows
from qwen3_profile.passes.read import read
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.records.load import collect_trace
from qwen3_profile.trace import read_trace

MERGED = DATA / "cases" / "merged_processes" / "trace.json"


def events(host: object, device: object, shift_ns: int = 0, ids: int = 0) -> list[dict[str, Any]]:
    """A labelled pass of one process, with its pids, its ids and its time."""
    found = [json.loads(text) for text in forward_pass(1)]
    for event in found:
        event["pid"] = device if event["cat"] == "kernel" else host
        event["ts"] += shift_ns / 1000
        if "correlation" in event["args"]:
            event["args"]["correlation"] += ids
    return found


def merged(path: Path, *parts: list[dict[str, Any]]) -> Path:
    both = [event for part in parts for event in part]
    return write(path, json.dumps({"schemaVersion": 1, "traceEvents": both}).encode())


SPLIT = {
    "the rank in front of each pid": [("[TP00] 10", "[TP00] 0"), ("[TP01] 10", "[TP01] 0")],
    "several dimensions": [("[TP00-EP00] 10", "[TP00-EP00] 0"), ("[TP01-EP00] 9", "[TP01-EP00] 0")],
    "ranks as pids": [("rank 0", "rank 0"), ("rank 1", "rank 1")],
    "ranks behind": [("10 (rank0)", "0 (rank0)"), ("11 (rank1)", "0 (rank1)")],
    "one pid for host and device": [(1000, 1000), (1001, 1001)],
}


@pytest.mark.parametrize("pids", [pytest.param(pids, id=name) for name, pids in SPLIT.items()])
def test_each_process_has_its_own_record(pids: list[tuple[object, object]], tmp_path: Path) -> None:
    (alone,) = collect_trace(merged(tmp_path / "one.json", events(10, 0)))
    parts = [events(*each, shift_ns=1700 * at) for at, each in enumerate(pids)]
    found = collect_trace(merged(tmp_path / "both.json", *parts))
    assert [each.times.device_ns for each in found] == [alone.times.device_ns] * 2
    assert [each.times.forward.total for each in found] == [alone.times.forward.total] * 2
    assert len({each.id for each in found}) == len({each.facts.process for each in found}) == 2
    named = [isinstance(host, str) and "-" not in host for host, _ in pids]
    assert [each.facts.rank for each in found] == ([0, 1] if all(named) else [None, None])


def test_ids_that_differ_tell_whose_a_device_event_is(tmp_path: Path) -> None:
    parts = [events(10, 0), events(11, 0, shift_ns=500, ids=10**6)]
    found = collect_trace(merged(tmp_path / "t.json", *parts))
    assert [each.facts.process for each in found] == ["10", "11"]
    assert len({each.times.device_ns for each in found}) == 1
    assert all(not each.times.unattributed for each in found)


@pytest.mark.parametrize("devices", [(0, 0), (0, 1)])
def test_ids_that_clash_are_refused_by_their_cause(
    devices: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = merged(tmp_path / "t.json", events(10, devices[0]), events(11, devices[1], 700))
    for more in ([], ["--ledger", str(tmp_path / "ledger.json")]):
        assert export.main([str(path), "--output-dir", str(tmp_path / "out"), *more]) == 3
        assert "2 processes, 10, 11, whose correlation ids clash" in capsys.readouterr().err


def test_a_range_on_a_pid_of_its_own_is_no_process(tmp_path: Path) -> None:
    step = {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#0", "pid": 77, "tid": 1,
            "ts": 0, "dur": 90, "args": {}}  # fmt: skip
    path = merged(tmp_path / "t.json", events(10, 0), [step])
    assert split_processes(read_trace(path)) == ((), None)


def test_the_sums_of_a_ledger_are_those_of_its_processes(tmp_path: Path) -> None:
    alone = make_ledger(read_trace(merged(tmp_path / "one.json", events(10, 0))))
    parts = [events("[TP00] 10", "[TP00] 0"), events("[TP01] 10", "[TP01] 0")]
    both = make_ledger(read_trace(merged(tmp_path / "both.json", *parts)))
    assert both.times.device_ns == 2 * alone.times.device_ns
    assert both.times.busy_ns == alone.times.busy_ns
    assert [part.total.device_ns for _, part in both.rows] == [
        2 * part.total.device_ns for _, part in alone.rows
    ]
    assert [finding.code for finding in both.findings] == ["several-processes"]


def test_the_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert export.main([str(MERGED), "--output-dir", str(out), f"--report={out}/r.html"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("0.140 of the 0.380 ms") == 2
    found = collect_trace(MERGED)
    assert [each.times.forward.total.cpu_ns for each in found] == [460_000, 460_000]
    assert [each.facts.rank for each in found] == [0, 1]


def test_a_long_file_of_several_processes_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [each.times for each in collect_trace(MERGED)]
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 3)
    assert list(read(MERGED).passes) == expected
