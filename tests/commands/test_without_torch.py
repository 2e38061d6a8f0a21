"""The reading half where nothing but numpy, msgspec and filelock is installed beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from make.commands import environment
from make.paths import EXPERTS, ROOT

# As after `pip install --no-deps`: of other packages, every import fails.
_ALONE = """
import importlib.abc, sys

THESE = {*sys.stdlib_module_names, "numpy", "msgspec", "filelock", "qwen3_profile"}

class OnlyThese(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in THESE:
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyThese())
from qwen3_profile.cli.program import main
sys.exit(main(sys.argv[1:]))
"""
RUN = str(ROOT / "tests/data/runs/h100-2layers")


def alone(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _ALONE, *argv],
        cwd=cwd, env=environment(), capture_output=True, text=True,
    )  # fmt: skip


def test_nothing_else_can_be_imported(tmp_path: Path) -> None:
    code = _ALONE.replace("from qwen3_profile.cli.program import main", "import torch")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "No module named 'torch'" in done.stderr


@pytest.mark.parametrize("path", [RUN, str(EXPERTS)], ids=["a run", "a lone trace"])
def test_records_tables_and_report(tmp_path: Path, path: str) -> None:
    done = alone(tmp_path, "export", path, "--output-dir", "out", "--report", "out/page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "part, all layers" in done.stdout
    records = json.loads((tmp_path / "out/timing_records.json").read_text())
    assert all(record["cuda_total"] > 0 for record in records)
    assert (tmp_path / "out/page.html").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    "argv",
    [
        ["export", RUN, "--output-file", "-", "--format", "csv"],
        ["export", str(EXPERTS), "--ledger", "ledger.json"],
        ["list", str(ROOT / "tests/data/runs")],
    ],
    ids=["as csv", "a ledger", "the runs"],
)
def test_other_commands(tmp_path: Path, argv: list[str]) -> None:
    done = alone(tmp_path, *argv)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    ("argv", "needs"),
    [
        (["run"], "torch"),
        (["compare", RUN, RUN], "scipy"),
        (["--print-completion", "bash"], "shtab"),
    ],
)
def test_what_needs_more_says_so_in_a_line(tmp_path: Path, argv: list[str], needs: str) -> None:
    done = alone(tmp_path, *argv)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: {needs}: is not installed; pip install")
