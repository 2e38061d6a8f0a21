"""What a path holds, as processes; and the kernels of each."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import msgspec
import pytest
from make.kineto import cpu_op, document, kernel, label, launch, write
from make.paths import ROOT
from make.samples import record

from qwen3_profile.errors import TraceError
from qwen3_profile.records import sides
from qwen3_profile.records.ledger import make_long_ledger
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.sides import as_ledgers, is_of_ledgers, kernels_of, load_side

H200 = ROOT / "traces" / "h200"
EVENTS = (
    label("prefill", 0, 40), cpu_op("lm_head", 2, 20), launch(1, 5, 6), kernel(1, 10, 20),
    launch(2, 25, 26), kernel(2, 30, 45),
)  # fmt: skip


def records_file(path: Path, *records: TimingRecord) -> Path:
    path.write_bytes(msgspec.json.encode([each.to_json() for each in records]))
    return path


def trace_file(folder: Path) -> Path:
    return write(folder / "t.pt.trace.json", document(*EVENTS))


def test_a_run_is_one_process_and_a_folder_of_runs_several(tmp_path: Path) -> None:
    (one,) = load_side(H200)
    assert (one.name, len(one.groups), one.source) == ("h200", 2, H200)
    for name in ("run1", "run2"):
        shutil.copytree(H200, tmp_path / name)
    assert [each.name for each in load_side(tmp_path)] == ["run1", "run2"]


def test_a_file_of_records_has_a_process_for_each_run(tmp_path: Path) -> None:
    every = [record(run=run, index=index) for run in "AB" for index in (0, 1)]
    file = records_file(tmp_path / "r.json", *every)
    found = load_side(file)
    assert [(each.id, len(each.groups[0])) for each in found] == [("A", 2), ("B", 2)]
    records_file(tmp_path / "s.json", record(run="C"))
    assert [each.id for each in load_side(tmp_path)] == ["A", "B", "C"]
    assert kernels_of(found[0], found[0].groups[0]) == ()


def test_the_kernels_of_a_run_are_the_device_time_of_its_passes() -> None:
    (one,) = load_side(H200)
    for group in one.groups:
        (kernels,) = kernels_of(one, group)
        assert sum(row.device_ns for row in kernels.rows) == group[0].times.device_ns
        assert kernels.passes == group[0].steps


def test_the_kernels_of_a_trace(tmp_path: Path) -> None:
    (one,) = load_side(trace_file(tmp_path))
    (kernels,) = kernels_of(one, one.groups[0])
    assert {row.path: (row.events, row.device_ns) for row in kernels.rows} == {
        ("prefill", "lm_head"): (1, 10), ("prefill",): (1, 15),
    }  # fmt: skip


@pytest.mark.parametrize("kernels", [True, False])
def test_a_ledger_is_the_whole_trace(tmp_path: Path, kernels: bool) -> None:
    from qwen3_profile.attribution.selection import read_asked_for

    trace = trace_file(tmp_path)
    file = tmp_path / "ledger.json"
    file.write_bytes(make_long_ledger(read_asked_for(trace), kernels=kernels).to_bytes())
    (one,) = load_side(file)
    ((found,),) = one.groups
    assert {path: part.total.device_ns for path, part in found.times.forward.walk()} == {
        ("trace",): 25, ("trace", "prefill"): 25, ("trace", "prefill", "lm_head"): 10,
    }  # fmt: skip
    assert is_of_ledgers((one,))
    assert not is_of_ledgers(load_side(trace))
    (of_trace,) = as_ledgers(trace)
    assert of_trace.groups[0][0].times.forward == found.times.forward
    if kernels:
        assert one.kernels
        assert of_trace.kernels == one.kernels


def test_what_cannot_be_a_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="is not there"):
        load_side(tmp_path / "no")
    with pytest.raises(TraceError, match="cannot be held against a ledger"):
        as_ledgers(H200)
    (tmp_path / "l.json").write_text('{"schema_version": 1, "scopes": "labels"}')
    with pytest.raises(TraceError, match="is not a ledger of ours"):
        load_side(tmp_path / "l.json")
    records_file(tmp_path / "empty.json")
    with pytest.raises(TraceError):
        load_side(tmp_path / "empty.json")


def test_what_unpacks_to_more_than_records_are_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "_MOST_BYTES", 3 << 20)
    path = tmp_path / "records.json.gz"
    path.write_bytes(gzip.compress(b'[{"timestamp": 1, "batch_size": 1}' + b" " * (8 << 20) + b"]"))
    with pytest.raises(TraceError, match="is longer than 3 MB"):
        load_side(path)
