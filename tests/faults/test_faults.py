"""A sample of the fault campaign; `python fuzz/faults.py --every 1` runs all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from make.commands import environment
from make.paths import ROOT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs forks")
def test_after_a_fault_at_a_file_operation_nothing_is_lost() -> None:
    done = subprocess.run(
        [sys.executable, "fuzz/faults.py", "--every", "120", "--first", "7"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 not as they should be") == 12
