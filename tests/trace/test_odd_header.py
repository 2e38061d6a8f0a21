"""Headers whose fields are of other types than Kineto's: taken where they mean the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make.kineto import forward_pass, write
from make.kineto_texts import text_of
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.trace import Trace, TraceInfo, read_trace

CASES = DATA / "cases"
EVENTS = [json.loads(text) for text in forward_pass(1)]


def read_with(folder: Path, **header: Any) -> Trace:
    document = {**header, "traceEvents": EVENTS}
    return read_trace(write(folder / "t.json", json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("header", "field", "expected"),
    [
        ({"schemaVersion": "1"}, "schema_version", 1),
        ({"schemaVersion": 1.0}, "schema_version", 1),
        ({"baseTimeNanoseconds": "1700000000000000000"}, "base_time_ns", 1_700_000_000_000_000_000),
        ({"distributedInfo": {"rank": "3", "world_size": "8"}}, "rank", 3),
        ({"distributedInfo": {"rank": 3.0, "world_size": " 8 "}}, "world_size", 8),
        ({"distributedInfo": None, "schemaVersion": "1"}, "rank", None),
        ({"cuda_runtime_version": "12.4"}, "versions", (("cuda_runtime_version", 12040),)),
        ({"cuda_driver_version": 12.4}, "versions", (("cuda_driver_version", 12040),)),
        ({"cuda_driver_version": "12040"}, "versions", (("cuda_driver_version", 12040),)),
        ({"hip_runtime_version": "6.3.42131"}, "versions", (("hip_runtime_version", 60342131),)),
        ({"WARNING": "lost events"}, "messages", ("lost events",)),
        ({"WARNING": ["a", 5, {"b": 1}], "ERROR": "c"}, "messages", ("c", "a", "5", '{"b":1}')),
        ({"WARNING": {"a": 1}}, "messages", ('{"a":1}',)),
        ({"deviceProperties": {"id": 0, "name": "X"}}, "devices", ("X",)),
        ({"deviceProperties": {"0": {"name": "X"}, "1": {"name": "Y"}}}, "devices", ("X", "Y")),
        ({"deviceProperties": ["X", "Y"]}, "devices", ("X", "Y")),
        ({"deviceProperties": [{"name": 7}, None]}, "devices", ("7",)),
        ({"deviceProperties": "X"}, "devices", ("X",)),
        ({"traceName": 5, "displayTimeUnit": None, "schemaVersion": "1"}, "schema_version", 1),
    ],
)  # fmt: skip
def test_what_means_the_same_is_taken(
    header: dict[str, Any], field: str, expected: object, tmp_path: Path
) -> None:
    info = read_with(tmp_path, **header).info
    assert getattr(info, field) == expected
    assert info.ignored == ()


@pytest.mark.parametrize(
    ("header", "ignored"),
    [
        ({"distributedInfo": {"rank": "head"}}, 'distributedInfo.rank: "head"'),
        ({"distributedInfo": {"rank": True}}, "distributedInfo.rank: true"),
        ({"distributedInfo": [1]}, "distributedInfo: [1]"),
        ({"schemaVersion": {}}, "schemaVersion: {}"),
        ({"schemaVersion": 1.5}, "schemaVersion: 1.5"),
        ({"baseTimeNanoseconds": "x" * 99}, f'baseTimeNanoseconds: "{"x" * 39}...'),
        ({"cuda_runtime_version": "new"}, 'cuda_runtime_version: "new"'),
        ({"deviceProperties": [[1]]}, "deviceProperties: [[1]]"),
        ({"deviceProperties": [{"name": []}]}, 'deviceProperties: [{"name":[]}]'),
    ],
)
def test_what_does_not_is_told(header: dict[str, Any], ignored: str, tmp_path: Path) -> None:
    trace = read_with(tmp_path, **header)
    assert trace.info.ignored == (ignored,)
    (finding,) = [each for each in make_ledger(trace).findings if each.code == "odd-header"]
    assert ignored in finding.message
    assert finding.count == 1


def test_an_odd_header_costs_no_speed(tmp_path: Path) -> None:
    text = text_of("old", steps=4, layers=24)
    whole = read_trace(write(tmp_path / "t.json", text.encode()))
    odd = text.replace('"schemaVersion": 1', '"schemaVersion": "1", "WARNING": "x"', 1)
    assert odd != text
    found = read_trace(write(tmp_path / "odd.json", odd.encode()))
    assert found.info.messages == ("x",)
    assert len(found.host) == len(whole.host)
    assert found.host.start_ns.tolist() == whole.host.start_ns.tolist()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"schemaVersion": "1"}', id="no events"),
        pytest.param(b'{"schemaVersion": "1", "traceEvents": 5}', id="events that are none"),
        pytest.param(b'{"schemaVersion": "1", "traceEvents": [5]}', id="an event that is none"),
    ],
)
def test_without_events_it_is_no_trace(text: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", text)
    assert export.main([str(path), "--ledger", str(tmp_path / "l.json")]) == 2


# --- cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "field", "expected"),
    [
        ("header_rank_text", "rank", 0),
        ("header_version_text", "versions", (("cuda_runtime_version", 12040),)),
        ("header_warning_text", "messages", ("lost events",)),
        ("header_deviceproperties_object", "devices", ("X",)),
    ],
)
def test_cases(case: str, field: str, expected: object) -> None:
    trace = read_trace(CASES / case / "trace.json")
    info: TraceInfo = trace.info
    assert getattr(info, field) == expected
    own = {names[-1]: part.own.device_ns for names, part in make_ledger(trace).rows}
    assert own == {"A": 30_000, "B": 20_000}


def test_ranks_as_text_are_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CASES / "folder_rank_text"
    report = tmp_path / "r.html"
    argv = [str(folder), "--output-dir", str(tmp_path), "--report", str(report)]
    assert export.main(argv) == 0
    out = capsys.readouterr()
    assert out.err == ""
    records = json.loads((tmp_path / "timing_records.json").read_bytes())
    assert [record["rank"] for record in records] == [0, 1]
    assert report.exists()
