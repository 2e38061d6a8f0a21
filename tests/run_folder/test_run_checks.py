"""`run.json` is input like any other: what cannot be is refused, and the figures stay sane."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from make.commands import environment
from make.paths import DATA, ROOT

sys.path.insert(0, str(ROOT / "fuzz"))

import mutate_run

from qwen3_profile.cli.runs import list_runs
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.undisturbed import DEVICE_REFUSED
from qwen3_profile.records.load import load
from qwen3_profile.run_folder.run_json import read_run
from qwen3_profile.views.tensorboard.tab_runs import LogDir

RUN = DATA / "runs/h200-2layers"
PREFILL, DECODE = "configs.0", "configs.1"


def changed(tmp_path: Path, place: str, value: Any) -> Path:
    """A folder whose run.json has another value at `a.0.b`."""
    document = json.loads((RUN / "run.json").read_text())
    *way, last = [int(word) if word.isdecimal() else word for word in place.split(".")]
    holder = document
    for word in way:
        holder = holder[word]
    holder[last] = value
    (tmp_path / "run.json").write_text(json.dumps(document))
    return tmp_path


def test_the_run_as_it_is() -> None:
    assert [result.phase for result in read_run(RUN).configs] == ["prefill", "decode"]


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (f"{PREFILL}.measurements.0.bare_ns", -6_400_000_000, "`int` >= 1"),
        (f"{PREFILL}.measurements.0.bare_ns", 10**18, "`int` <= "),
        (f"{PREFILL}.measurements.0.trace", "../other/raw/x.json.gz", "matching regex"),
        (f"{PREFILL}.measurements.0.trace", "raw/../../x.json.gz", "matching regex"),
        (f"{PREFILL}.measurements.0.clock", "/etc/passwd", "matching regex"),
        (f"{PREFILL}.measurements.0.device.trace", "..\\x.json.gz", "matching regex"),
        (f"{DECODE}.traffic", "..", "matching regex"),
        (f"{PREFILL}.measurements.0.position", 1, "position is not 0"),
        (f"{PREFILL}.measurements.1.run_index", 0, "has 1 runs of 2"),
        (f"{PREFILL}.measurements.1.run_index", 2, "a run that there is not"),
        (f"{PREFILL}.phase", "decode", "does not go with"),
        (f"{PREFILL}.phase", "pre\nfill", "Invalid enum value"),
        (f"{PREFILL}.status", "well", "Invalid enum value"),
        (f"{PREFILL}.lengths", [64, 64], "lengths are not"),
        (f"{PREFILL}.lengths", [65], "lengths are not"),
        (f"{PREFILL}.config.input_len", 65, "differ of the index 0"),
        (f"{PREFILL}.routing", [{"layer": 2, "tokens_per_expert": [1]}], "routing has a layer"),
        (f"{DECODE}.index", 1, ""),
        (f"{DECODE}.step_times_ns.0.0", 5000, "not the time of its step"),
        (f"{DECODE}.step_times_ns.0", [5000], "not one for each decode step"),
        (f"{DECODE}.measurements.1.position", 0, "a pass twice"),
        (f"{DECODE}.measurements.1.position", 9, "beyond the decode steps"),
        ("model.num_layers", 10**18, "`int` <= 10000"),
        ("model.num_layers", 3, "shape.num_hidden_layers is not"),
        ("model.num_layers", 99, "num_layers is more than model_layers"),
        ("model.moe_layers", [2], "moe_layers has a layer"),
        ("model.shape.head_dim", -1, "`int` >= 0"),
        ("model.hidden_size", 3, "shape.hidden_size is not"),
        ("model.shape.experts", {"num_experts": 1, "num_experts_per_tok": 1,
         "moe_intermediate_size": 1, "decoder_sparse_step": 0}, "`int` >= 1"),
        ("model.shape.vocab_size", 2**31 - 1, "more weights than"),
        ("model.shape.head_dim", 2**31 - 1, "more weights than"),
        ("model.shape.intermediate_size", 2**31 - 1, "more weights than"),
        ("model.shape.num_key_value_heads", 17, "more than num_attention_heads"),
        ("model.shape.experts", {"num_experts": 1, "num_experts_per_tok": 2,
         "moe_intermediate_size": 1}, "more than num_experts"),
        ("model.shape.experts", {"num_experts": 2**20, "num_experts_per_tok": 2,
         "moe_intermediate_size": 3072}, "experts makes more weights"),
        ("environment.sm_clock_mhz", 10**6, "`int` <= 100000"),
        ("ranks", 0, "`int` >= 1"),
        ("ranks", 2, "a rank twice, or one that there is not"),
        (f"{PREFILL}.rank", 0, "a rank twice, or one that there is not"),
        (f"{PREFILL}.rank", -1, "`int` >= 0"),
        (f"{PREFILL}.memory", "../other.json.gz", "matching regex"),
        (f"{PREFILL}.measurements.0.bare_ns", 999, "`int` >= 1000"),
        (f"{PREFILL}.measurements.0.bare_ns", 10**12, "far more than profiled_ns"),
        (f"{PREFILL}.measurements.0.device.wall_ns", 10**12, "far longer than bare_ns"),
        (f"{PREFILL}.measurements.0.clock_ns", 10**12, "far longer than bare_ns"),
        ("schema_version", 99, "newer qwen3_profile"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, place: str, value: Any, told: str) -> None:
    folder = changed(tmp_path, place, value)
    if not told:  # a config may be there for a phase alone
        assert read_run(folder).configs[1].index == 1
        return
    with pytest.raises(TraceError) as caught:
        read_run(folder)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_config_told_twice(tmp_path: Path) -> None:
    results = json.loads((RUN / "run.json").read_text())["configs"]
    with pytest.raises(TraceError, match="configs has a phase of a config twice"):
        read_run(changed(tmp_path, "configs", [*results, results[0]]))


def nested(folder: Path) -> None:
    (folder / "run.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "run.json")


def endless(folder: Path) -> None:
    (folder / "run.json").symlink_to("/dev/zero")


def large(folder: Path) -> None:
    with open(folder / "run.json", "wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (nested, "nested too deep"),
        (a_pipe, "not a plain file"),
        (endless, "not a plain file"),
        (large, "is larger than 256 MB"),
    ],
)
def test_what_is_no_text_ends_soon_and_the_tab_goes_on(
    tmp_path: Path, make: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    make(bad)
    shutil.copytree(RUN, tmp_path / "good", ignore=shutil.ignore_patterns("raw"))
    with pytest.raises(TraceError, match=told):
        read_run(bad)
    found = {run.name: run.facts for run in LogDir(str(tmp_path)).runs()}
    assert found["good"].startswith("Qwen/Qwen3-0.6B")
    assert found.get("bad", "") == ""
    assert list_runs([str(tmp_path)]) == (0 if make in (a_pipe, endless) else 2)
    out, err = capsys.readouterr()
    assert "h200-2layers" in out
    assert len(err.splitlines()) == (0 if make in (a_pipe, endless) else 1)


def test_threads_may_read_their_first_run_at_once() -> None:
    """As requests to TensorBoard do; it crashed the process, four times of five."""
    code = f"""
import sys, threading
from pathlib import Path
from qwen3_profile.run_folder.run_json import read_run
sys.setswitchinterval(1e-6)
begin, found = threading.Barrier(4), []
def work():
    begin.wait()
    found.append(read_run(Path({str(RUN)!r})).id)
threads = [threading.Thread(target=work) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
print(*found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [read_run(RUN).id] * 4


def results_in_results(folder: Path) -> None:
    (folder / "run.json").write_text('[{"others":' * 100_000)


@pytest.mark.parametrize("make", [results_in_results, a_pipe, endless, large])
def test_what_is_no_result_of_a_rank_keeps_nobody_from_the_run(tmp_path: Path, make: Any) -> None:
    """The file of rank 1, which a killed run leaves beside its run.json."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run, ignore=shutil.ignore_patterns("raw"))
    made = tmp_path / "made"
    made.mkdir()
    make(made)
    (made / "run.json").rename(run / ".bs1.rank1.json")
    assert len(read_run(run).configs) == len(read_run(RUN).configs)
    assert [found.name for found in LogDir(str(tmp_path)).runs()] == ["run"]


def a_run(tmp_path: Path, place: str, value: Any) -> Path:
    shutil.copytree(RUN, tmp_path, dirs_exist_ok=True)
    return changed(tmp_path, place, value)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        pytest.param("profiled_ns", 1000, "has a step", id="traced"),
        pytest.param("profiled_ns", 4_000_000, "has a step", id="less than the pass"),
        pytest.param("profiled_ns", 62 * 10**9, "has a step", id="traced for a minute"),
        pytest.param("clock_ns", 1000, "holds a clock pass", id="clock"),
    ],
)
def test_what_the_traces_contradict_is_refused(
    tmp_path: Path, place: str, value: int, told: str
) -> None:
    folder = a_run(tmp_path, f"{PREFILL}.measurements.0.{place}", value)
    with pytest.raises(TraceError, match=rf"{told}.* of \d+ ns, and run\.json says {value}"):
        load(folder)


@pytest.mark.parametrize("wall_ns", [5 * 10**9, 52_000_000])
def test_a_pass_that_waited_for_a_core_is_kept(tmp_path: Path, wall_ns: int) -> None:
    """The wall-clock begins before the trace's step, and a busy machine may come in between."""
    folder = a_run(tmp_path, f"{PREFILL}.measurements.0.profiled_ns", wall_ns)
    assert load(folder).groups[0][0].profiled_ns == wall_ns


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param("started_ns", 7, id="long before"),
        pytest.param("started_ns", 10**18, id="another day"),
    ],
)
def test_events_outside_of_their_pass_are_not_taken(tmp_path: Path, place: str, value: int) -> None:
    """They would make the device idle for thirty years."""
    folder = a_run(tmp_path, f"{PREFILL}.measurements.0.device.{place}", value)
    (first, second), _ = load(folder).groups
    assert [finding.code for finding in first.findings] == [DEVICE_REFUSED]
    assert "do not lie in the time" in first.findings[0].message
    assert not first.times.has_device
    assert second.times.has_device
    assert first.times.gap_ns < 10**9


def test_a_packed_file_that_unpacks_to_too_much(tmp_path: Path) -> None:
    clock = json.loads((RUN / "run.json").read_text())["configs"][0]["measurements"][0]["clock"]
    folder = a_run(tmp_path, "name", "x")
    (folder / clock).write_bytes(gzip.compress(b" " * (300 << 20), compresslevel=1))
    with pytest.raises(TraceError, match="is larger than 256 MB"):
        load(folder)


def test_no_mutant_survives() -> None:
    counts, survivors = mutate_run.campaign(RUN, 66, seed=0)
    assert survivors == []
    assert all(each["refused"] for kind, each in counts.items() if kind != "shuffle")


def test_a_survivor_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qwen3_profile.run_folder.run_json.check_run", lambda *_: None)
    monkeypatch.setattr(mutate_run, "load", lambda _: 1 / 0)
    assert mutate_run.main([str(RUN), "--mutants", "1", "--seed", "5"]) == 1
    assert "--mutants 1 --seed 5: ZeroDivisionError" in capsys.readouterr().out
