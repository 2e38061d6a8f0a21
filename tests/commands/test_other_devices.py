"""Device work of backends other than CUDA and ROCm: read, whatever its events are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make.kineto import document, event, label, launch, write
from make.kineto_texts import check_same, document_of
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace

CASES = DATA / "cases"


def ledger_of(path: Path) -> Ledger:
    return make_ledger(read_trace(path))


def own(ledger: Ledger) -> dict[str, int]:
    return {path[-1]: part.own.device_ns for path, part in ledger.rows}


def test_mtia() -> None:
    found = ledger_of(CASES / "device_mtia" / "trace.json")
    assert own(found) == {"A": 30_000}
    assert found.times.unattributed == ()


def test_privateuse1_as_torch_neuronx_writes_it() -> None:
    found = ledger_of(CASES / "device_privateuse1" / "trace.json")
    assert found.times.device_ns == 30_000
    assert [(each.reason, each.ns) for each in found.times.unattributed] == [
        ("no launch record", 30_000)
    ]
    assert "event-without-launch" in {finding.code for finding in found.findings}


@pytest.mark.parametrize("case", ["device_mtia", "device_privateuse1"])
def test_records_and_report(case: str, tmp_path: Path) -> None:
    path = CASES / case / "trace.json"
    report = tmp_path / "r.html"
    argv = [str(path), "--output-dir", str(tmp_path), "--report", str(report)]
    assert export.main(argv) == 0
    assert report.exists()


@pytest.mark.parametrize(
    ("pid", "args", "table"),
    [
        pytest.param(0, {"device": 0, "correlation": 1}, "device", id="on its device"),
        pytest.param("0", {"device": 0}, "device", id="its number as text"),
        pytest.param(100, {"device": 0, "correlation": 1}, "launches", id="in a process"),
        pytest.param(0, {"correlation": 1}, "launches", id="no device named"),
        pytest.param(0, {"device": [0]}, "launches", id="odd args"),
    ],
)
@pytest.mark.parametrize("cat", ["privateuse1_driver", "privateuse1_runtime"])
def test_either_side_of_privateuse1(
    cat: str, pid: object, args: dict[str, object], table: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.json", document(event(cat, "x", pid, 7, "1.0", "2.0", **args)))
    trace = read_trace(path)
    assert {name: len(getattr(trace, name)) for name in ("launches", "device")} == {
        "launches": 0, "device": 0, table: 1,
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["new", "old"])
def test_the_fast_reading_sees_them(layout: str, tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "privateuse1_driver", "name": f"op{number % 3}", "pid": number % 2,
         "tid": 7, "ts": 10 + number, "dur": 0.5, "args": {"device": 0, "External id": 5}}
        for number in range(40)
    ]  # fmt: skip
    path = tmp_path / "t.json"
    path.write_bytes(document_of(events, layout))
    check_same(path)
    trace = read_trace(path)
    assert (len(trace.device), len(trace.launches)) == (20, 20)


@pytest.mark.parametrize("tid", [None, "null"])
def test_a_device_without_streams(tid: str | None, tmp_path: Path) -> None:
    kernel = json.loads(event("kernel", "k", 0, 7, "20.0", "5.0", correlation=1, device=0))
    del kernel["tid"]
    if tid is not None:
        kernel["tid"] = None
    call = launch(1, 11_000, 12_000).replace("cuda_runtime", "xpu_runtime")
    data = document(label("A", 10_000, 30_000), call, json.dumps(kernel))
    found = ledger_of(write(tmp_path / "t.json", data))
    assert own(found) == {"A": 5000}


def test_what_has_no_thread_on_the_host_is_refused(tmp_path: Path) -> None:
    call = json.loads(launch(1, 11_000, 12_000))
    del call["tid"]
    path = write(tmp_path / "t.json", document(json.dumps(call)))
    assert export.main([str(path), "--ledger", str(tmp_path / "l.json")]) == 3
