"""Runs that the program recorded on an NVIDIA H100 itself: two layers, and the whole Qwen3-0.6B.

The records beside them were made when they were recorded, the account by plain reading is not ours.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done
from make.paths import ROOT
from make.plain import Plain, plain

from qwen3_profile import export
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.record import TimingRecord

RUNS = {
    "2 layers": ROOT / "tests/data/runs/h100-2layers",
    "28 layers": ROOT / "tests/data/runs/h100",
}
RAW = [
    pytest.param(path, id=path.name.partition(".kineto")[0])
    for run in RUNS.values()
    for path in sorted(run.glob("raw/*.json.gz"))
]
RECORDED = ROOT / "tests/data/runs/records.json"


def read_plain(path: Path) -> Plain:
    return plain(path.read_bytes())


def step_of(path: Path) -> TimingRecord:
    (record,) = collect_trace(path)
    return record


@pytest.fixture(scope="module", params=RUNS)
def exported(
    request: pytest.FixtureRequest, commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    return commands.export(tmp_path_factory.mktemp("exported"), RUNS[request.param])


def test_the_export_gives_the_records_of_then(exported: Done) -> None:
    assert exported.code == 0, exported.err
    then = {record["id"]: record for record in json.loads(RECORDED.read_text())}
    for record in exported.records():
        before = then[record["id"]]
        # Its steps have nothing to do with each other: no idle time is carried over them.
        assert (before.pop("schema_version"), record["schema_version"]) == (1, 2)
        assert (record["cpu_source"], record["idle_source"]) == ("traced", "traced")
        assert record["overhead"] == {
            "clock": None, "device": None, "traced": pytest.approx(record["disturbance"], rel=0.2),
        }  # fmt: skip
        assert {key: known(record[key], before[key]) for key in before} == before


def known(now: Any, before: Any) -> Any:
    """`now` without the fields of dictionaries that `before` did not have yet."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: known(now[key], before[key]) for key in before}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return list(map(known, now, before))
    return now


def test_every_event_has_its_label(exported: Done) -> None:
    for record in exported.records():
        assert record["findings"] == []
        assert record["ledger_ns"]["unattributed"] == 0
        assert record["ledger_ns"]["labels"] == record["ledger_ns"]["device_time"] > 0
        for layer in record["layer_details"]:
            for part in ("q_proj", "k_norm", "rope", "kv_cache", "attn_forward", "o_proj"):
                assert layer["attn_details"][f"{part}_cuda"] > 0, part


def test_the_parts_add_up_to_the_pass(exported: Done) -> None:
    for record in exported.records():
        parts = sum(v for k, v in record["model_details"].items() if k.endswith("_cuda"))
        for layer in record["layer_details"]:
            parts += sum(
                value
                for key, value in layer.items()
                if key.endswith("_cuda") and isinstance(value, float)
            )
        assert parts == pytest.approx(record["cuda_total"], rel=1e-12)


@pytest.mark.parametrize("path", RAW)
def test_each_label_has_the_device_time_of_plain_reading(path: Path) -> None:
    expected = read_plain(path).self_ns()
    found: dict[str, int] = {}
    for _, part in step_of(path).times.forward.walk():
        # A gap between labels is its container's own time to the plain reading.
        name = part.name if part.name in expected else _container(part.name)
        found[name] = found.get(name, 0) + part.own.device_ns
    assert sum(found.values()) == sum(expected.values())
    labelled = {name: ns for name, ns in expected.items() if found.get(name) == ns}
    assert len(labelled) > 0.9 * len(expected)


def _container(name: str) -> str:
    return name.rpartition(".")[0]


@pytest.mark.parametrize("path", RAW)
def test_totals_are_those_of_plain_reading(path: Path) -> None:
    expected, times = read_plain(path), step_of(path).times
    assert times.device_ns == sum(event.dur for event in expected.device)
    assert times.device_events == len(expected.device)
    assert times.busy_ns == sum(expected.busy().values())
    assert None not in expected.launch_of()


def test_passes_of_one_kind_launch_the_same_kernels() -> None:
    for run in RUNS.values():
        for phase in ("prefill", "decode"):
            paths = sorted(run.glob(f"raw/*_{phase}.*"))
            names = [sorted(event.name for event in read_plain(path).device) for path in paths]
            assert len(paths) > 1 or run == RUNS["2 layers"]
            assert all(each == names[0] for each in names)


def test_an_export_writes_beside_the_run_and_repeats_no_warning_as_of_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(ROOT / "tests/data/runs/h100-2layers", run)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"warnings": ["it was hot that day"]}))
    assert export.main([str(run)]) == 0
    told = capsys.readouterr()
    assert "warnings when it ran:\n- it was hot that day\n" in told.out
    assert told.err == ""
    assert len(json.loads((run / "timing_records.json").read_text())) > 0
    # Read again, what was written is taken for nothing else than records.
    (raw, *_) = sorted((run / "raw").glob("*.kineto.json.gz"))
    assert export.main([str(raw)]) == 0
    assert sorted(path.name for path in tmp_path.rglob("timing_*.json")) == [
        "timing_records.json", "timing_summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "csv"])
def test_records_can_be_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """The same text as in a file of their own, and nothing else on stdout."""
    run = str(ROOT / "tests/data/runs/h100-2layers")
    assert export.main([run, "--format", form, "--output-dir", str(tmp_path)]) == 0
    saved = (tmp_path / f"timing_records.{form}").read_text()
    capsys.readouterr()
    assert export.main([run, "--format", form, "--output-file", "-"]) == 0
    printed = capsys.readouterr()
    assert printed.out == saved
    assert "cuda_busy" in printed.err
