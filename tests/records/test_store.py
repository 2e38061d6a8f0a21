"""Records on disk: merged by id, whole or not at all, and never over what is not ours."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from make.paths import ROOT
from make.samples import decode_record, lone_record, record

from qwen3_profile.errors import EXIT_BAD_INPUT, OutputError
from qwen3_profile.records import store
from qwen3_profile.records.csv_table import check_csv, save_csv
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.store import SUMMARY_FILE, check_json, drop_run, save_json

Save = Callable[[Path, Sequence[TimingRecord]], None]
CHECK = {"json": check_json, "csv": check_csv}
SAVE: dict[str, Save] = {"json": save_json, "csv": save_csv}


def load(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text()))


def load_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- JSON ---------------------------------------------------------------------------------------


def test_records_are_saved_with_their_summary(tmp_path: Path) -> None:
    path = tmp_path / "timing_records.json"
    records = [record(1, index=0, total_ns=1000), record(1, index=1, total_ns=3000)]
    save_json(path, records)
    assert load(path) == json.loads(json.dumps([r.to_json() for r in records]))
    (summary,) = load(tmp_path / SUMMARY_FILE)
    assert (summary["id"], summary["runs"]) == ("A-c0-prefill", 2)
    assert summary["total_time"]["median"] == 2e-6


def test_a_summary_that_a_kill_left_behind_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save_json(path, [record(1, index=0, total_ns=1000)])
    before = (tmp_path / SUMMARY_FILE).read_bytes()
    save_json(path, [record(1, index=1, total_ns=3000)])
    (tmp_path / SUMMARY_FILE).write_bytes(before)  # as if killed before the second file
    save_json(path, [record(1, run="B")])
    told = {each["id"]: (each["runs"], each["total_time"]["max"]) for each in
            load(tmp_path / SUMMARY_FILE)}  # fmt: skip
    assert told["A-c0-prefill"] == (2, 3e-6)
    assert list(told) == ["A-c0-prefill", "B-c0-prefill"]


def test_a_run_is_dropped_from_both_files(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    drop_run(path, "A")
    assert not list(tmp_path.iterdir())
    save_json(path, [record(1), record(1, config=1), record(1, run="B"), record(1, run="AB")])
    drop_run(path, "A")
    assert [entry["id"] for entry in load(path)] == ["B-c0-r0-prefill", "AB-c0-r0-prefill"]
    assert [each["id"] for each in load(tmp_path / SUMMARY_FILE)] == [
        "B-c0-prefill", "AB-c0-prefill",
    ]  # fmt: skip


def test_what_is_in_the_file_stands_as_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    compact = '{"id":"mine","schema_version":1,"x":[1,  2]}'
    path.write_text(f"[{compact}]")
    save_json(path, [record(1)])
    assert compact in path.read_text()
    assert [entry["id"] for entry in load(path)] == ["mine", "A-c0-r0-prefill"]


def test_what_a_merge_costs_is_told_where_it_is_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    save_json(path, [record(1)])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("qwen3_profile.records.store._DEAR_CPU_S", 0)
    save_json(path, [record(1)])
    assert re.search(
        r"warning: .*r\.json: is \d+ MB with its summary, and to add to it took \d\.\d s of CPU.*"
        r"another --output-file",
        capsys.readouterr().err,
    )


def test_later_records_join_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for new in (record(1, index=0), record(1, index=1), record(1, run="B"), record(1, config=1)):
        save_json(path, [new])
    assert [entry["id"] for entry in load(path)] == [
        "A-c0-r0-prefill", "A-c0-r1-prefill", "B-c0-r0-prefill", "A-c1-r0-prefill",
    ]  # fmt: skip
    assert {entry["id"]: entry["runs"] for entry in load(tmp_path / SUMMARY_FILE)} == {
        "A-c0-prefill": 2, "B-c0-prefill": 1, "A-c1-prefill": 1,
    }  # fmt: skip


def test_the_same_id_is_replaced_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save_json(path, [record(1, index=i, total_ns=1000) for i in range(3)])
    save_json(path, [record(1, index=1, total_ns=7000)])
    assert [(e["run_index"], e["total_time"]) for e in load(path)] == [
        (0, 1e-6), (1, 7e-6), (2, 1e-6),
    ]  # fmt: skip
    (summary,) = load(tmp_path / SUMMARY_FILE)
    assert summary["total_time"]["max"] == 7e-6


def test_saving_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save_json(path, [record(1), lone_record()])
    before = path.read_bytes(), (tmp_path / SUMMARY_FILE).read_bytes()
    save_json(path, [record(1), lone_record()])
    assert (path.read_bytes(), (tmp_path / SUMMARY_FILE).read_bytes()) == before


def test_keys_of_our_records_that_we_do_not_know_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('[{"id": "old-c0-r0-prefill", "schema_version": 1, "note": "mine"}]')
    save_json(path, [record(1)])
    assert load(path)[0] == {"id": "old-c0-r0-prefill", "schema_version": 1, "note": "mine"}


def test_an_empty_file_is_free(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.touch()
    save_json(path, [record(1)])
    assert len(load(path)) == 1


def test_nothing_is_left_beside_the_files(tmp_path: Path) -> None:
    save_json(tmp_path / "r.json", [record(1)])
    shown = {file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")}
    assert shown == {"r.json", SUMMARY_FILE}


def test_records_of_the_first_schema_stay_beside_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    shutil.copy(ROOT / "tests/data/runs/records.json", path)
    then = load(path)
    assert {each["schema_version"] for each in then} == {1}
    check_json(path)
    save_json(path, [record(1)])
    now = load(path)
    assert [each for each in now if each["schema_version"] == 1] == then
    assert [each["schema_version"] for each in now].count(2) == 1


# --- what is not ours ---------------------------------------------------------------------------

FOREIGN = [
    pytest.param(b"not json at all", "is not JSON", id="text"),
    pytest.param(b"\xff\xfe\x00", "is not JSON", id="bytes"),
    pytest.param(b'[{"id": "x", "schema_version": 1}', "is not JSON", id="cut off"),
    pytest.param(b"[" * 100_000, "is not JSON", id="nested without end"),
    pytest.param(b'{"id": "x"}', "something else", id="an object"),
    pytest.param(b"[1, 2]", "something else", id="a list of numbers"),
    pytest.param(b'[{"schema_version": 1}]', "something else", id="no id"),
    pytest.param(b'[{"id": 5, "schema_version": 1}]', "something else", id="an id that is no text"),
    pytest.param(b'[{"id": "x"}]', "something else", id="no schema"),
    pytest.param(b'[{"id": "x", "schema_version": 3}]', "newer qwen3_profile", id="newer schema"),
    pytest.param(
        b'[{"id": "x", "schema_version": 1}, {"id": "y", "schema_version": 9}]', "(schema 9)",
        id="a newer one among ours",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "told"), FOREIGN)
@pytest.mark.parametrize(
    "name", [pytest.param("r.json", id="records"), pytest.param(SUMMARY_FILE, id="summary")]
)
def test_a_foreign_file_is_refused_and_left_as_it_is(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    foreign = tmp_path / name
    foreign.write_bytes(data)
    for attempt in (lambda p: check_json(p), lambda p: save_json(p, [record(1)])):
        with pytest.raises(OutputError) as caught:
            attempt(tmp_path / "r.json")
        assert caught.value.exit_code == EXIT_BAD_INPUT
        assert str(foreign) in str(caught.value)
        assert told in str(caught.value)
        assert foreign.read_bytes() == data


def test_the_name_of_the_summary_is_taken(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the name of a file beside the records"):
        check_json(tmp_path / SUMMARY_FILE)


@pytest.mark.parametrize("format", [pytest.param("json", id="json"), pytest.param("csv", id="csv")])
def test_a_folder_is_no_file(tmp_path: Path, format: str) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        CHECK[format](tmp_path / "r")


@pytest.mark.parametrize("format", [pytest.param("json", id="json"), pytest.param("csv", id="csv")])
def test_a_place_that_is_free_or_ours_passes(tmp_path: Path, format: str) -> None:
    path = tmp_path / "r"
    CHECK[format](path)
    SAVE[format](path, [record(1)])
    CHECK[format](path)


# --- CSV ----------------------------------------------------------------------------------------


def test_a_row_for_each_part(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    save_csv(path, [record(1)])
    rows = load_csv(path)
    assert len(rows) == 1 + 2 + 1 + (1 + 9 + 1 + 1 + 4) + 1 + 2
    by_path = {row["path"]: row for row in rows}
    assert by_path["prefill"] == {
        "id": "A-c0-r0-prefill", "run": "run1", "model": "Qwen/Qwen3-0.6B", "device": "cuda:0",
        "phase": "prefill", "batch_size": "2", "total_time_s": "0.000040000",
        "input_len": "256", "dtype": "bfloat16", "run_index": "0", "path": "prefill",
        "position": "", "context_len": "256",
        "calls": "1", "cpu_s": "0.000019000", "cpu_self_s": "0.000000000",
        "cuda_s": "0.000001900", "cuda_self_s": "0.000000000", "device_events": "19",
        "launch_s": "0.000000190", "gap_s": f"0.0000{30 + 18 * 900}",
        "queue_s": "0.000000190", "bytes_self": "",
        "energy_j": "", "energy_per_token_j": "",
    }  # fmt: skip
    q_proj = by_path["prefill/layer.0/layer.0.attn/layer.0.attn.q_proj"]
    assert (q_proj["cpu_s"], q_proj["cpu_self_s"], q_proj["cuda_self_s"]) == (
        "0.000001000", "0.000001000", "0.000000100",
    )  # fmt: skip


def test_a_decode_has_its_rows_for_each_traced_step(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    leaves_ns = {0: 1000, 3: 2000}
    decode = decode_record(1, leaves_ns=leaves_ns, step_times_ns=(5000,) * 4)
    for _ in range(2):  # saved again it takes the place of what was there
        save_csv(path, [decode])
    rows = load_csv(path)
    assert len(rows) == 2 * 23
    attn = [row for row in rows if row["path"] == "decode/layer.0/layer.0.attn"]
    assert [(r["position"], r["context_len"], r["cpu_s"], r["cuda_s"]) for r in attn] == [
        ("0", "257", "0.000009000", "0.000000900"),
        ("3", "260", "0.000018000", "0.000001800"),
    ]  # fmt: skip
    assert {(row["id"], row["phase"], row["input_len"]) for row in rows} == {
        ("A-c0-r0-decode", "decode", "256")
    }


def test_rows_are_replaced_by_id(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    save_csv(path, [record(2), record(1, index=1)])
    save_csv(path, [record(1)])
    ids = [row["id"] for row in load_csv(path)]
    assert {name: ids.count(name) for name in ids} == {"A-c0-r0-prefill": 23, "A-c0-r1-prefill": 23}


def test_saving_the_same_csv_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    save_csv(path, [record(1)])
    before = path.read_bytes()
    save_csv(path, [record(1)])
    assert path.read_bytes() == before


def test_a_lone_trace_leaves_its_config_empty(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    save_csv(path, [lone_record()])
    assert {(row["batch_size"], row["dtype"]) for row in load_csv(path)} == {("", "")}


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    """Names are of whoever wrote the trace; numbers may be less than none."""
    path = tmp_path / "r.csv"
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "fine"]
    facts = record(1).facts
    assert facts.model is not None
    records = [
        replace(
            record(1, run=name),
            facts=replace(facts, run=name, device=name, model=replace(facts.model, name=name)),
        )
        for name in names
    ]
    save_csv(path, records)
    save_csv(path, records)
    rows = load_csv(path)
    for column in ("run", "model", "device"):
        shown = {row[column] for row in rows}
        assert shown == {*(f"'{name}" for name in names[:-1]), "fine"}
    assert len(rows) == len(names) * len({row["path"] for row in rows})
    for row in rows:
        assert not any(cell.startswith(("=", "+", "@")) for cell in row.values())


def test_a_csv_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    ours = tmp_path / "ours.csv"
    save_csv(ours, [record(1)])
    text = ours.read_bytes()
    for data in (
        b"a,b\n1,2\n",
        b"\n",
        text + b"A-c0-r1-prefill,too,short\n",
        text + text.splitlines()[-1] + b",one more\n",
        text + b"\xff\n",
        text + b'"' + b"x" * 200_000 + b'"\n',
        b'[{"id": "x", "schema_version": 1}]',
    ):
        path = tmp_path / "r.csv"
        path.write_bytes(data)
        for attempt in (lambda p: check_csv(p), lambda p: save_csv(p, [record(1)])):
            with pytest.raises(OutputError) as caught:
                attempt(path)
            assert str(path) in str(caught.value)
            assert path.read_bytes() == data


# --- two at once --------------------------------------------------------------------------------


def _save_many(save: Save, path: Path, run: str, start: Any) -> None:
    records = [record(1, run=run, index=i) for i in range(8)]
    start.wait()
    for one in records:
        save(path, [one])


@pytest.mark.parametrize(
    ("save", "read"),
    [
        pytest.param(save_json, load, id="json"),
        pytest.param(save_csv, load_csv, id="csv"),
    ],
)
def test_processes_that_save_at_once_lose_nothing(
    tmp_path: Path, save: Save, read: Callable[[Path], list[dict[str, Any]]]
) -> None:
    context = multiprocessing.get_context("fork")
    path, start = tmp_path / "r", context.Barrier(3)
    workers = [context.Process(target=_save_many, args=(save, path, run, start)) for run in "ABC"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert {entry["id"] for entry in read(path)} == {
        f"{run}-c0-r{index}-prefill" for run in "ABC" for index in range(8)
    }
    if save is save_json:
        runs = {entry["id"]: entry["runs"] for entry in load(tmp_path / SUMMARY_FILE)}
        assert runs == {f"{run}-c0-prefill": 8 for run in "ABC"}


def test_nobody_adds_records_before_their_summary_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the summary of one could be written over that of another, who knows of more records."""
    write, is_free = store.write_atomic, []

    def watched(path: Path, data: Any) -> None:
        with contextlib.suppress(Timeout), FileLock(tmp_path / ".r.json.lock", timeout=0):
            is_free.append(path.name)
        write(path, data)

    monkeypatch.setattr(store, "write_atomic", watched)
    save_json(tmp_path / "r.json", [record(1)])
    assert (tmp_path / SUMMARY_FILE).is_file()
    assert is_free == []
