"""`qwen3-profile rm`: a run and its records go together, and nothing else does."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from make.paths import ROOT

from qwen3_profile import export
from qwen3_profile.cli import runs

SAMPLE = ROOT / "tests/data/runs/h100-2layers"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs and their records in one file."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(SAMPLE, tmp_path / "traces" / name)
        file = tmp_path / "traces" / name / "run.json"
        facts = json.loads(file.read_text())
        file.write_text(json.dumps(facts | {"id": f"id-{name}", "name": name}))
        assert export.main([f"traces/{name}", "--output-dir", "timing_results"]) == 0
    return tmp_path


def ids(here: Path, file: str) -> set[str]:
    return {each["id"].split("-c")[0] for each in json.loads((here / file).read_text())}


@pytest.mark.parametrize("name", ["one", "traces/one"], ids=["by name", "by folder"])
def test_a_run_goes_with_its_records(here: Path, name: str) -> None:
    assert runs.remove_runs([name]) == 0
    assert [path.name for path in (here / "traces").iterdir()] == ["two"]
    assert ids(here, "timing_results/timing_records.json") == {"id-two"}
    assert ids(here, "timing_results/timing_summary.json") == {"id-two"}


def test_records_that_lie_elsewhere_are_told_of(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(here / "timing_results", here / "elsewhere")
    assert runs.remove_runs(["one"]) == 0
    told = "traces/one: timing_results/timing_records.json has no records of it; --output-dir names"
    assert capsys.readouterr().err.startswith(told)
    assert runs.remove_runs(["two", "--output-dir", "elsewhere"]) == 0
    assert (ids(here, "elsewhere/timing_records.json"), capsys.readouterr().err) == ({"id-one"}, "")


def test_all_or_none_where_one_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert runs.remove_runs(["one", "three"]) == 2
    assert "error: three: is no run here or in traces" in capsys.readouterr().err
    assert {path.name for path in (here / "traces").iterdir()} == {"one", "two"}


def test_what_is_no_run_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "precious").mkdir()
    (here / "precious/file").write_text("x")
    assert runs.remove_runs(["precious"]) == 2
    assert "is not a run of ours" in capsys.readouterr().err
    assert (here / "precious/file").exists()


def test_a_run_that_is_being_made_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = os.open(here / "traces/one", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert runs.remove_runs(["one"]) == 2
    finally:
        os.close(lock)
    assert "is still being made" in capsys.readouterr().err
    assert ids(here, "timing_results/timing_records.json") == {"id-one", "id-two"}
