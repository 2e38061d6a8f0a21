"""A sweep from the command line, and again from its run."""

from __future__ import annotations

import json
from pathlib import Path

from make.commands import Commands

SCALING = "timing_results/timing_scaling.json"


def test_a_sweep_is_measured_and_told_again(commands: Commands, tmp_path: Path) -> None:
    sizes = ("--batch-size", "1,2", "--input-len", "8,16,32")
    done = commands.profile(tmp_path, *sizes, "--dtype", "float32")
    assert done.code == 0, done.err
    assert "scaling of prefill: 6 sizes" in done.out
    # One line for each config comes last, but for where all of it lies.
    last = done.out[: done.out.index("\n\ntraces ")].splitlines()[-7:]
    assert [line.split()[0] for line in last] == ["all", *["prefill"] * 6]
    (found,) = json.loads((tmp_path / SCALING).read_text())
    records = {(r["batch_size"], r["input_len"]): r for r in done.records()}
    assert [(s["batch_size"], s["input_len"]) for s in found["sizes"]] == [
        (1, 8), (2, 8), (1, 16), (2, 16), (1, 32), (2, 32),
    ]  # fmt: skip
    for size in found["sizes"]:
        one = records[size["batch_size"], size["input_len"]]
        assert size["total_time"] == one["total_time"]
        assert size["tokens_per_second"] == one["tokens_per_second"]
    (tmp_path / SCALING).unlink()
    again = commands.export(tmp_path, "traces/run1")
    for end in (done.out, again.out):  # who has measured many reads from the end
        assert end.index("predicted") < end.index("all configs")
    assert again.code == 0, again.err
    table = done.out[done.out.index("scaling of") : done.out.index("predicted")]
    assert table in again.out
    assert json.loads((tmp_path / SCALING).read_text()) == [found]


def test_what_does_not_fit_is_told_and_the_rest_runs(commands: Commands, tmp_path: Path) -> None:
    sizes = ("--batch-size", "1048576,1,2,4", "--input-len", "8")
    done = commands.profile(tmp_path, *sizes, "--dtype", "float32")
    assert done.code == 1
    assert "bs1048576_len8_float32" in done.err
    assert [each["batch_size"] for each in done.records()] == [4, 2, 1]
    assert "scaling of prefill: 3 sizes" in done.out
