"""Records come back from their file with the times that went into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from make.paths import ROOT
from make.samples import decode_record, graph_record, lone_record, record, training_record

from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.errors import TraceError
from qwen3_profile.records.load import load
from qwen3_profile.records.read_records import read_records
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.sm_clock import SmClock

FILE = Path("timing_records.json")
H200 = [each for group in load(ROOT / "traces" / "h200").groups for each in group]


def read_back(one: TimingRecord) -> TimingRecord:
    (found,) = read_records(FILE, msgspec.json.encode([one.to_json()]))
    return found


@pytest.mark.parametrize(
    "one",
    [
        record(), record(cuda=False), training_record(), graph_record(), lone_record(),
        decode_record(leaves_ns={0: 100, 2: 100}, step_times_ns=(5, 7, 6)), *H200,
    ],
)  # fmt: skip
def test_every_time_comes_back(one: TimingRecord) -> None:
    found = read_back(one)
    rows = {row.path: row.times for row in part_tree(one.times.forward)}
    back = {row.path: row.times for row in part_tree(found.times.forward)}
    assert list(back) == list(rows)
    for path, times in rows.items():
        assert back[path].cpu_ns == round(times.cpu_ns / one.steps)
        assert back[path].device_ns == round(times.device_ns / one.steps)
    assert found.step_times_ns == one.step_times_ns
    assert found.total_ns == pytest.approx(one.total_ns)
    assert (found.cpu_source, found.idle_source) == (one.cpu_source, one.idle_source)
    if one.overhead is None:
        assert found.overhead is None
    else:
        assert found.overhead is not None
        assert found.overhead.traced == pytest.approx(one.overhead.traced, rel=1e-3)


@pytest.mark.parametrize("one", [record(), training_record(), graph_record(), *H200])
def test_what_is_known_of_the_run_comes_back(one: TimingRecord) -> None:
    found = read_back(one)
    assert found.facts == one.facts
    assert found.findings == one.findings
    assert found.config is not None
    assert one.config is not None
    same = ("batch_size", "input_len", "dtype", "decode_steps", "cache", "execution", "num_runs")
    assert all(getattr(found.config, name) == getattr(one.config, name) for name in same)
    assert found.config.attn_implementation == one.facts.attn_implementation


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[", "is not a file of records"),
        (b"{}", "is not a file of records"),
        (b"[3]", "is not a file of records"),
        (b'[{"schema_version": 99}]', "was written by a newer qwen3_profile (schema 99)"),
        (b'[{"schema_version": 2}]', "holds a record that is not one of ours"),
        (b'[{"id": "x"}]', "holds a record that is not one of ours"),
    ],
)
def test_what_is_no_file_of_records_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_records(FILE, text)
    assert str(caught.value).startswith(f"timing_records.json: {told}")


def test_the_clock_of_a_run_goes_into_its_records_and_comes_back(tmp_path: Path) -> None:
    """Of bare and clock passes of one series once; of each session that was traced or not."""
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "tests/data/runs/h200-2layers", folder)
    run = json.loads((folder / "run.json").read_text())
    for result in run["configs"]:
        for each in result["measurements"]:
            at = 10 * each["run_index"] + each["position"]
            each["sm_clock"] = {
                "bare": [1980, 1970], "clock": [1960], "device": [1900 + at], "traced": [1800 + at],
            }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    prefill, decode = load(folder).groups
    assert [each.sm_clock for each in prefill] == [
        SmClock((1980, 1970), (1960,), (1900 + at,), (1800 + at,)) for at in (0, 10)
    ]
    assert decode[1].sm_clock == SmClock(
        (1980, 1970), (1960,), (1910, 1912, 1913), (1810, 1812, 1813)
    )
    assert decode[1].sm_clock.of("device") == 1912
    assert read_back(decode[1]).sm_clock == decode[1].sm_clock
    assert decode[1].to_json()["sm_clock_mhz"]["bare"] == [1980, 1970]
    assert "sm_clock_mhz" not in record().to_json()
    run["configs"][0]["measurements"][0]["sm_clock"]["bare"] = [-1]
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(TraceError, match="sm_clock"):
        load(folder)
