"""A run on an NVIDIA H200 with clock and device passes, and the records that it gave then."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from make.commands import Commands, Done
from make.paths import DATA, ROOT
from make.report import data_of
from test_recorded_runs import known

RUN = DATA / "runs/h200-2layers"
THEN = json.loads((DATA / "runs/h200_records.json").read_text())


@pytest.fixture(scope="module")
def exported(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return commands.export(tmp_path_factory.mktemp("exported"), RUN)


def test_the_export_gives_the_records_of_then(exported: Done) -> None:
    assert exported.code == 0, exported.err
    assert known(exported.records(), THEN) == THEN
    assert {(r["cpu_source"], r["idle_source"]) for r in THEN} == {("clock", "device")}
    assert "CPU times are from clock passes" in exported.out


def test_cpu_times_are_those_that_the_labels_read() -> None:
    clock = json.loads(gzip.decompress(next(RUN.glob("raw/*prefill.run0.clock*")).read_bytes()))
    labels = clock["passes"][0]["labels"]
    names = [labels["names"][number] for number in labels["label"]]
    read = dict(zip(names, labels["dur_ns"], strict=True))
    record = next(r for r in THEN if r["phase"] == "prefill" and r["run_index"] == 0)
    layer = record["layer_details"][1]
    assert record["forward"] == pytest.approx(read["prefill"] / 1e9, abs=1e-15)
    assert layer["attn"] == pytest.approx(read["layer.1.attn"] / 1e9, abs=1e-15)
    assert layer["attn_details"]["rope"] == pytest.approx(
        read["layer.1.attn.rope"] / 1e9, abs=1e-15
    )
    assert sum(ns for key, ns in layer["attn_details"].items() if not key.endswith("_cuda")) == (
        pytest.approx(layer["attn"], abs=1e-15)
    )


def test_device_times_are_those_of_the_device_pass() -> None:
    trace = json.loads(gzip.decompress(next(RUN.glob("raw/*prefill.run0.device*")).read_bytes()))
    events = [
        e for e in trace["traceEvents"] if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    ]
    assert not any(e.get("cat") in ("cuda_runtime", "cuda_driver") for e in trace["traceEvents"])
    record = next(r for r in THEN if r["phase"] == "prefill" and r["run_index"] == 0)
    assert record["device_events"] == len(events)
    assert record["cuda_total"] == pytest.approx(sum(e["dur"] for e in events) / 1e6, abs=1e-9)


def test_the_time_line_of_two_passes_is_told_as_such(commands: Commands, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    done = commands.export(tmp_path, run, "--report")
    assert done.code == 0, done.err
    page = data_of((run / "report.html").read_text())
    config = next(each for each in page["configs"] if each["phase"] == "prefill")
    timeline = config["timeline"]
    measured = json.loads((run / "run.json").read_text())["configs"][0]["measurements"]
    slower = [each["device"]["wall_ns"] / each["clock_ns"] for each in measured]
    assert any(timeline["slower"] == pytest.approx(ratio) for ratio in slower)
    # Launches of one pass and events of another do not say what was in flight.
    assert timeline["queue"]["step"] == []
    assert f"which took {timeline['slower']:.2f}x as long" in str(config["answers"])


def test_what_went_amiss_in_a_device_pass_is_told(commands: Commands, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    text = (run / "run.json").read_text()
    text = text.replace('"loud": ""', '"loud": "torch has loaded no libcupti"', 1)
    (run / "run.json").write_text(text)
    done = commands.export(tmp_path, run)
    assert "which slows it: torch has loaded no libcupti" in done.out + done.err
    codes = [f["code"] for record in done.records() for f in record["findings"]]
    assert codes.count("device-pass-loud") == 1


def test_the_run_that_the_pages_show_is_small() -> None:
    files = [path for path in (ROOT / "traces/h200").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.name != "report.html") < 2_000_000


def test_a_decode_step_computes_two_flops_per_weight_and_its_attention(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.export(tmp_path, ROOT / "traces/h200")
    flops = next(r["flops"] for r in done.records() if r["phase"] == "decode")
    # 28 layers of 16 heads and 8 of keys, 1024 and 3072 wide; a vocabulary of 151936.
    layer = 2 * 1024 * (2 * 2048 + 2 * 1024) + 2 * 3 * 1024 * 3072
    head = 2 * 1024 * 151936
    attention = 4 * 16 * 128 * 132  # keys that step 3 after 128 tokens sees
    assert flops["total"] == flops["known"] == 28 * (layer + attention) + head
    assert flops["parts"]["attn_forward"] == 28 * attention
    assert sum(flops["parts"].values()) == flops["total"]
