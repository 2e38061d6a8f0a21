"""Runs of two processes under torchrun, joined by gloo: sound ones, and those that go wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from make.commands import Commands, Done, environment
from make.paths import ROOT
from make.rank_faults import SLEEP_S

from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.errors import ConfigError
from qwen3_profile.run_folder.run_json import read_run

MAKE = Path(__file__).parents[1] / "make"
# Rank 1 hangs for good; all other runs have the default.
TIMEOUT_S = 10
LONGEST_S = 600
FLAGS = ("--dtype", "float32", "--input-len", "8")
pytestmark = pytest.mark.slow


def started(cwd: Path, *argv: str, told: str | None = None) -> Done:
    """A process that can import the helpers of the tests."""
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env=environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}"),
        input=told,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr, cwd)


def ours(done: Done) -> list[str]:
    """What this program has told; torchrun tells the rest."""
    return [line for line in done.err.splitlines() if line.startswith(("error: ", "interrupted"))]


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, commands: Commands, sparse_commands: Commands
) -> dict[str, Done]:
    """All runs, each with its fault: they share what it costs to start."""
    steps = ("--decode-steps", "2", "--trace-steps", "2", "--num-runs", "2")
    hanging = ("--num-runs", "3", "--rank-timeout", str(TIMEOUT_S))
    asked = {
        "planted": ("sleep", commands.arguments((*FLAGS, *steps))),
        "experts": ("none", sparse_commands.arguments((*FLAGS, "--decode-steps", "1"))),
        "whole experts": ("none", sparse_commands.arguments((*FLAGS, "--parallel", "ep"))),
        "first killed": ("first killed", commands.arguments((*FLAGS, "--num-runs", "3"))),
        "replicas": ("none", commands.arguments((*FLAGS, "--parallel", "dp"))),
        "killed": ("killed", commands.arguments((*FLAGS, "--num-runs", "3"))),
        "hanging": ("hanging", commands.arguments((*FLAGS, *hanging))),
        "full": ("full", commands.arguments((*FLAGS, "--num-runs", "3"))),
        "refused": ("none", commands.arguments(("--no-such-flag",))),
        "outputs": ("outputs", []),
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in asked}
    jobs = [(str(folders[name]), *job) for name, job in asked.items()]
    done = started(folders["outputs"], str(MAKE / "rank_runs.py"), told=json.dumps(jobs))
    assert done.code == 0, done.err
    return {name: finished(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def planted(runs: dict[str, Done]) -> Done:
    """A prefill and two decode steps; on rank 1 each pass sleeps in `layer.1.ffn`."""
    return runs["planted"]


def finished(folder: Path) -> Done:
    code, out, err = ((folder / name).read_text() for name in ("code", "out", "err"))
    return Done(int(code), out, err, folder)


def test_a_run_of_two_ranks_is_one_run(planted: Done) -> None:
    assert planted.code == 0, planted.err
    folder = planted.cwd / "traces" / "run1"
    run = read_run(folder)
    assert (run.ranks, run.parallel, [each.phase for each in run.configs]) == (
        2, "tp", ["prefill", "decode"],
    )  # fmt: skip
    traces = [m.trace for r in run.configs for one in r.of_all_ranks for m in one.measurements]
    assert len(traces) == len(set(traces)) == 2 * (2 + 2 * 2)
    assert all((folder / trace).is_file() for trace in traces)
    assert not list(folder.glob(".*"))
    # Rank 0 prints, once.
    assert planted.out.count("collectives of") == 2
    assert planted.out.count("records  ") == 1


def test_records_of_both_ranks_balance(planted: Done) -> None:
    records = planted.records()
    assert [(r["rank"], r["world_size"], r["parallel"]) for r in records] == (
        [(rank, 2, "tp") for _ in range(2) for rank in (0, 0, 1, 1)]
    )
    assert len({record["id"] for record in records}) == len(records)
    for record in records:
        ledger = record["ledger_ns"]
        assert ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
        # Embedding and head, and two in each of two layers.
        assert sum(row["count"] for row in record["collectives"]) == 6
        for row in record["collectives"]:
            assert row["time"] == pytest.approx(row["transfer_at_most"] + row["waiting"])
    for at in (0, 1, 4, 5):
        one, other = records[at], records[at + 2]
        slowest = max(one["rank_time"], other["rank_time"])
        assert one["total_time"] == other["total_time"]
        if one["phase"] == "prefill":
            assert one["total_time"] == slowest
        else:  # step by step, that may be one rank or the other
            assert one["total_time"] >= slowest
            assert one["step_times"] == other["step_times"]


def test_a_sleep_on_one_rank_is_the_others_waiting(planted: Done) -> None:
    for record in planted.records():
        passes = record["collectives"]
        (late,) = [row for row in passes if row["label"] == "layer.1.ffn.down_proj"]
        if record["rank"] == 0:
            assert late["waiting"] > 0.8 * SLEEP_S
            assert late["waiting"] == max(row["waiting"] for row in passes)
    shown = " ".join(planted.out.split())
    assert shown.count("straggler: rank 1, last to") == 2
    assert shown.count("largest single loss layer.1.ffn ") == 2


def test_an_export_says_the_same(planted: Done, commands: Commands, tmp_path: Path) -> None:
    again = commands.export(tmp_path, planted.cwd / "traces" / "run1", "--report", "r.html")
    assert again.code == 0, again.err
    assert again.records() == planted.records()
    for block in again.out.split("\n\n"):
        assert block.startswith(("records", "=== ")) or block in planted.out


def test_a_mixture_of_experts_on_two_ranks(runs: dict[str, Done]) -> None:
    done = runs["experts"]
    assert done.code == 0, done.err
    assert ours(done) == []
    parts = [row["label"] for row in done.records()[0]["collectives"]]
    assert parts == [
        "embed_tokens",
        *(f"layer.{n}.{part}" for n in (0, 1) for part in ("attn.o_proj", "ffn.experts")),
        "lm_head",
    ]


def test_whole_experts_on_each_rank(runs: dict[str, Done]) -> None:
    done = runs["whole experts"]
    assert done.code == 0, done.err
    assert {record["parallel"] for record in done.records()} == {"ep"}
    kinds = {row["label"]: row["kind"] for row in done.records()[0]["collectives"]}
    assert kinds["layer.0.ffn.experts"] == "all_reduce"


def test_replicas_exchange_nothing(runs: dict[str, Done]) -> None:
    done = runs["replicas"]
    assert done.code == 0, done.err
    assert [r["parallel"] for r in done.records()] == ["dp", "dp"]
    assert all("collectives" not in record for record in done.records())


def test_ranks_together_compute_what_one_process_does(runs: dict[str, Done]) -> None:
    done = runs["outputs"]
    assert done.code == 0, done.err
    found = json.loads(done.out.strip().splitlines()[-1])
    assert list(found) == ["dense", "tied", "experts", "whole experts"]
    for far, largest, held, of_all in found.values():
        assert far <= 1e-5 * largest
        # Each rank holds half of what is split, and that is nearly all.
        assert 0.4 * of_all < held < 0.55 * of_all


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("killed", ["rank 1 is gone|torchrun ends all ranks so when one of them has ended"]),
        ("hanging", ["rank 1 is gone, or did not come within 10 s", "rank 1: has met no other"]),
        ("full", ["rank 1 failed: cannot be written", "error: rank 1: config"]),
    ],
)
def test_what_was_measured_before_a_rank_failed_is_kept(
    fault: str, told: Sequence[str], runs: dict[str, Done], commands: Commands
) -> None:
    """It fails in the third of three runs; both of those before are there, of both ranks."""
    done = runs[fault]
    assert done.code == 1  # torchrun's own
    for line in told:
        assert any(re.search(line, each) for each in ours(done)), done.err
    assert not [line for line in ours(done) if line.startswith("interrupted")]
    records = done.records()
    assert [(r["rank"], r["run_index"]) for r in records if r["run_index"] < 2] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    again = commands.export(done.cwd, "traces/run1", "--output-dir", "again")
    assert again.code == 0, again.err
    assert again.records("again/timing_records.json") == records


def test_what_ranks_kept_is_read_though_rank_0_was_killed(
    runs: dict[str, Done], commands: Commands
) -> None:
    """It dies in the third of three runs, and saves nothing of its own."""
    done = runs["first killed"]
    assert done.code == 1
    assert not (done.cwd / "timing_results/timing_records.json").exists()
    again = commands.export(done.cwd, "traces/run1")
    assert again.code == 0
    assert "prefill: rank 0 was ended; this is what the ranks had kept by then" in again.err
    kept = [(r["rank"], r["run_index"]) for r in again.records()]
    assert kept == [(0, 0), (0, 1), (1, 0), (1, 1)]
    (result,) = read_run(done.cwd / "traces/run1").configs
    assert result.status == "interrupted"


def test_why_a_pipeline_is_not_measured() -> None:
    with pytest.raises(ConfigError, match="runs one stage at a time"):
        parse_arguments(["--parallel", "pp"])


def test_rank_0_alone_says_what_is_wrong(runs: dict[str, Done]) -> None:
    done = runs["refused"]
    assert done.code == 1
    # The other one may be ended by torchrun before it comes to say nothing.
    assert [line for line in ours(done) if line.startswith("error: ")] == [
        "error: --no-such-flag: is not a known argument; see --help"
    ]
    assert {path.name for path in done.cwd.iterdir()} == {"out", "err", "code"}


def test_ranks_are_asked_for_by_torchrun_alone() -> None:
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node N -m qwen3_profile"):
        parse_arguments(["--parallel", "tp"])


@pytest.mark.parametrize("flags", [["--cuda-graph"], ["--backward"], ["--quantize", "int8"]])
def test_what_is_not_measured_of_a_shared_model(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for name, value in (told | {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="give --parallel dp"):
        parse_arguments(flags)
    with pytest.raises(ConfigError, match="give --parallel dp"):
        parse_arguments([*flags, "--parallel", "ep"])
    assert parse_arguments([*flags, "--parallel", "dp"]).model.parallel == "dp"
    assert parse_arguments(["--compile"]).configs[0].execution == "compiled"
