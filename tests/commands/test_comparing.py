"""The comparison as a user runs it: on runs, files of records, ledgers and traces."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from make.commands import Commands, Done, environment
from make.forking import Forked
from make.kineto import cpu_op, document, kernel, launch, write
from make.paths import ROOT
from make.sides import side

from qwen3_profile.cli import fresh_processes

H200 = ROOT / "traces" / "h200"
SAMPLES = ROOT / "tests" / "data"
QUIET = [[1.00, 1.01, 0.99], [1.01, 1.02, 1.00], [0.99, 1.00, 0.98], [1.00, 1.01, 1.01]]


def write_side(folder: Path, name: str, factor: float, first: int) -> Path:
    """A folder with a file of records for each process."""
    folder = folder / name
    folder.mkdir()
    slower = [[factor * each for each in passes] for passes in QUIET]
    for process in side(name, slower, first=first):
        records = [record.to_json() for group in process.groups for record in group]
        for each in records:
            each["id"] = each["id"].replace("A-", f"{process.id}-", 1)
        (folder / f"{process.name}.json").write_bytes(msgspec.json.encode(records))
    return folder


@pytest.mark.parametrize(
    ("factor", "argv", "code", "told"),
    [
        (1.0, (), 0, "no regression of more than 5% was found"),
        (1.2, (), 1, "regression: prefill / total_time: 1.200 times as long, more than 5%"),
        (1.2, ("--fail-on", "50%"), 0, "no regression of more than 50% was found"),
        (0.8, (), 0, "no regression of more than 5% was found"),
        (1.0, ("--fail-on", "0.5"), 0, "total_time: a regression of 0.5% would not have been seen"),
        (1.0, ("--fail-on", "0.5", "--require-power"), 1, "would not have been seen"),
    ],
)
def test_the_exit_code_is_that_of_a_gate(
    commands: Commands, tmp_path: Path, factor: float, argv: tuple[str, ...], code: int, told: str
) -> None:
    base, new = write_side(tmp_path, "a", 1.0, 0), write_side(tmp_path, "b", factor, 1)
    done = commands.compare(tmp_path, base, new, *argv)
    assert (done.code, done.err) == (code, "")
    assert told in done.out.replace("\n  ", " ")
    assert max(map(len, done.out.splitlines())) <= 100


def test_json_has_what_the_table_says(commands: Commands, tmp_path: Path) -> None:
    base, new = write_side(tmp_path, "a", 1.0, 0), write_side(tmp_path, "b", 1.2, 1)
    found = json.loads(commands.compare(tmp_path, base, new, "--format", "json").out)
    (config,) = found["configs"]
    assert config["total_time"]["ratio"] == pytest.approx(1.2)
    assert config["total_time"]["verdict"] == "slower"
    assert ["total_time"] in [each["row"] for each in found["regressions"]]
    table = commands.compare(tmp_path, base, new).out
    for row in config["rows"]:
        assert f"{row['base_ns'] / 1e6:.3f}" in table
    markdown = commands.compare(tmp_path, base, new, "--format", "markdown").out
    assert "| total_time | 1.002 | 1.203 | +0.200 | 1.200 |" in markdown
    assert all(line.count("|") == 9 for line in markdown.splitlines() if line.startswith("|"))


def test_real_runs_and_their_records_say_the_same(
    commands: Commands, finished: Done, tmp_path: Path
) -> None:
    run, records = finished.cwd / "traces" / "run1", finished.cwd / "timing_results"
    itself = commands.compare(tmp_path, run, records / "timing_records.json")
    assert itself.code == 0
    assert "both sides are the same processes: nothing was compared" in itself.out
    assert "what differs" not in itself.out.replace("host times", "")


@pytest.mark.parametrize("by", ["part", "layer", "kernel"])
def test_two_runs_explain_each_other_by_kernels(
    commands: Commands, tmp_path: Path, by: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(H200, other)
    run = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(run | {"id": "other"}))
    found = json.loads(commands.compare(tmp_path, H200, other, "--by", by, "--format", "json").out)
    for config in found["configs"]:
        assert {row["ratio"] for row in config["rows"]} == {1.0}
        assert config["undecided"].startswith("one process a side")
        if by != "part":
            continue
        own = {tuple(row["path"]): row for row in config["rows"]}
        for part in config["kernels"]:
            total = sum(kernel["base_ns"] for kernel in part["kernels"])
            assert total == pytest.approx(own[tuple(part["path"])]["base_ns"], abs=1)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("no", "no"), "error: no: is not there; give a run's folder"),
        ((H200, ROOT / "README.md"), "README.md: is not a Kineto trace"),
        ((H200, H200, "--fail-on", "x"), "--fail-on: 'x' is no number"),
        ((H200, H200, "--alpha", "5"), "--alpha: 5 is not between 0 and 1"),
        ((H200,), "BASE NEW: are not both there"),
        ((H200, H200, "--by", "head"), "--by: invalid choice"),
    ],
)
def test_bad_input_is_one_line(
    commands: Commands, tmp_path: Path, argv: tuple[object, ...], told: str
) -> None:
    done = commands.compare(tmp_path, *argv)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert told in line


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that need not import torch first; tests/cli starts some of the usual kind."""

    def start(command: list[str], **_: object) -> Forked:
        return Forked(command[1:], Path.cwd(), environment())

    made = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(fresh_processes, "subprocess", made)


@pytest.mark.usefixtures("forks")
def test_sides_are_measured_in_turn_and_compared(commands: Commands, tmp_path: Path) -> None:
    # What is asked for here is the order, and two processes a side show it.
    same = shlex.join(commands.arguments(["--dtype", "float32", "--num-runs", "3"]))
    eager = f"{same} --attn-implementation eager"
    done = commands.compare(
        tmp_path, "--run", same, "--run", eager, "--num-processes", 2, "--format", "json"
    )
    assert done.code in (0, 1), done.err
    (config,) = json.loads(done.out)["configs"]
    assert config["undecided"].startswith("2 processes a side")
    assert {"name": "attention", "base": "sdpa", "new": "eager"} in config["differs"]
    starts = [[each["started"] for each in config[side]] for side in ("base", "new")]
    order = sorted((start, side) for side in (0, 1) for start in starts[side])
    assert [side for _, side in order] == [0, 1, 1, 0]
    again = commands.compare(tmp_path, "traces/compare1/base", "traces/compare1/new")
    assert "BASE: 2 processes; NEW: 2 processes" in again.out


@pytest.mark.usefixtures("forks")
def test_a_run_in_several_processes_tells_how_much_they_differ(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.profile(tmp_path, "--num-processes", 2, "--dtype", "float32", "--num-runs", 3)
    assert done.code == 0, done.err
    records = done.records()
    middle = [
        sorted(each["total_time"] for each in records if each["run"] == run)[1]
        for run in ("process1", "process2")
    ]
    (line,) = (line for line in done.out.splitlines() if line.startswith("total_time"))
    _, processes, ms, between, *_ = line.split()
    assert (processes, ms) == ("2", f"{1e3 * math.sqrt(middle[0] * middle[1]):.3f}")
    # Of two values the standard deviation is their distance over the root of 2.
    distance = abs(math.log(middle[0] / middle[1])) / math.sqrt(2)
    assert float(between.rstrip("%")) == pytest.approx(100 * distance, abs=0.6)


def test_traces_without_a_range_are_held_against_each_other_by_kernels(
    commands: Commands, tmp_path: Path
) -> None:
    for name, end in (("a", 20), ("b", 25)):
        work = [launch(1, 5, 6), kernel(1, 10, end), launch(2, 25, 26), kernel(2, 30, 45)]
        write(tmp_path / f"{name}.json", document(cpu_op("aten::mm", 0, 40), *work))
    found = json.loads(commands.compare(tmp_path, "a.json", "b.json", "--format", "json").out)
    (config,) = found["configs"]
    (row,) = (row for row in config["rows"] if row["path"] == ["unattributed"])
    assert (row["base_ns"], row["new_ns"], row["verdict"]) == (25, 30, "undecided")
    (part,) = config["kernels"]
    assert (part["change_ns"], part["explained_ns"], part["unexplained_ns"]) == (5, 5, 0)
