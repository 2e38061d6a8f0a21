"""Both command lines from argv to the files on disk, on models of two layers."""

from __future__ import annotations

import csv
import gc
import gzip
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import pytest
from make.commands import Commands, Done, environment, wait
from make.paths import ROOT

from qwen3_profile.attribution.parts import Part
from qwen3_profile.records.from_run import collect_config
from qwen3_profile.run_folder import run_json as runs
from qwen3_profile.run_folder.clocked import read_clocked

FIELDS = [
    "timestamp",
    "batch_size",
    "input_len",
    "total_time",
    "layer_details",
    "schema_version",
    "id",
    "run",
    "run_index",
    "phase",
    "steps",
    "model",
    "dtype",
    "device",
    "attn_implementation",
    "profiled_time",
    "disturbance",
    "cuda_total",
    "cuda_busy",
    "unattributed_cuda",
    "unattributed",
    "model_details",
    "environment",
    "seed",
    "use_cache",
    "inference_mode",
    "logits_to_keep",
]
LAYER_FIELDS = [
    "attn",
    "attn_cuda",
    "ffn",
    "ffn_cuda",
    "attn_details",
    "ffn_details",
    "input_layernorm",
    "input_layernorm_cuda",
    "post_attention_layernorm",
    "post_attention_layernorm_cuda",
    "other",
    "other_cuda",
]
ATTN_PARTS = [
    "q_proj",
    "k_proj",
    "v_proj",
    "q_norm",
    "k_norm",
    "rope",
    "kv_cache",
    "attn_forward",
    "o_proj",
    "other",
]


def write_configs(folder: Path, *entries: dict[str, Any]) -> str:
    (folder / "configs.json").write_text(json.dumps({"configs": entries}))
    return "configs.json"


def times(record: dict[str, Any]) -> tuple[Any, Any]:
    return record["layer_details"], record["model_details"]


# --- the main job


@pytest.mark.parametrize(
    ("argv", "path", "expected"),
    [
        pytest.param(
            "--batch-size 2 --input-len 16", "timing_results/timing_records.json",
            {"batch_size": 2, "input_len": 16, "dtype": "bfloat16"}, id="one config by flags",
        ),
        pytest.param(
            "--output-dir ./my_results --output-file my_benchmark.json",
            "my_results/my_benchmark.json", {"batch_size": 1}, id="another place and name",
        ),
        pytest.param(
            "--num-runs 5 --warmup-runs 2 --dtype bfloat16", "timing_results/timing_records.json",
            {"num_runs": 5, "warmup_runs": 2}, id="more runs",
        ),
        pytest.param(
            "--dtype float32", "timing_results/timing_records.json",
            {"dtype": "float32", "attn_implementation": "sdpa"}, id="float32",
        ),
        pytest.param(
            "--dtype float16", "timing_results/timing_records.json",
            {"dtype": "float16"}, id="float16",
        ),
        pytest.param(
            "--attn-implementation eager", "timing_results/timing_records.json",
            {"attn_implementation": "eager"}, id="eager attention",
        ),
        pytest.param(
            "--num-layers 1 --seed 7", "timing_results/timing_records.json",
            {"seed": 7}, id="fewer layers and a seed",
        ),
    ],
)  # fmt: skip
def test_a_run_by_flags(
    commands: Commands, tmp_path: Path, argv: str, path: str, expected: dict[str, Any]
) -> None:
    done = commands.profile(tmp_path, *argv.split())
    records = done.records(path)
    assert (done.code, done.err) == (0, "")
    assert {key: records[0][key] for key in expected} == expected
    assert len(records) == records[0]["num_runs"]
    assert len(records[0]["layer_details"]) == records[0]["model"]["num_layers"]
    assert records[0]["model"]["shape"]["num_key_value_heads"] == 2
    assert all(record["findings"] == [] for record in records)
    assert "lm_head" in done.out
    assert path in done.out


def test_everything_is_on_disk(finished: Done) -> None:
    run = finished.cwd / "traces" / "run1"
    workers = ["bs2_len8_bfloat16_prefill", "bs1_len5_float32_prefill"]
    saved = json.loads((run / "run.json").read_text())
    raw = {path.name for path in (run / "raw").iterdir()}
    assert finished.code == 0
    assert raw == {
        f"{worker}.run{k}.{kind}.json.gz"
        for worker in workers for k in (0, 1) for kind in ("kineto", "clock")
    }  # fmt: skip
    assert [config["worker"] for config in saved["configs"]] == workers
    for config in saved["configs"]:
        assert config["status"] == "done"
        assert config["trace"].endswith(".pt.trace.json.gz")
        assert json.loads(gzip.decompress((run / config["trace"]).read_bytes()))["traceEvents"]
    assert len(json.loads((finished.cwd / "timing_results/timing_summary.json").read_text())) == 2
    assert not [path for path in finished.cwd.rglob(".*") if path.suffix != ".lock"]
    # TensorBoard lists a run for each folder that has such files.
    assert {path.parent for path in run.rglob("*tfevents*")} == {run}


def test_records_are_printed_and_all_else_goes_to_stderr(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.profile(tmp_path, "--output-file", "-")
    (record,) = json.loads(done.out)
    assert (done.code, record["run"], record["input_len"]) == (0, "run1", 8)
    for shown in ("plan     ", "lm_head", "report     traces/run1/report.html"):
        assert shown in done.err
    assert "records  " not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["traces"]
    again = commands.export(tmp_path, "traces/run1", "--output-file", "-")
    assert json.loads(again.out) == [record]
    assert "lm_head" in again.err


def test_fields_of_a_record(finished: Done) -> None:
    for record in finished.records():
        assert set(FIELDS) <= set(record)
        for layer in record["layer_details"]:
            assert set(LAYER_FIELDS) <= set(layer)
            expected = {f"{part}{suffix}" for part in ATTN_PARTS for suffix in ("", "_cuda")}
            assert expected <= set(layer["attn_details"])
            assert layer["attn"] > layer["attn_details"]["q_proj"] > 0
            assert layer["attn_cuda"] == 0.0
        ratio = record["profiled_time"] / record["total_time"]
        assert math.isclose(record["disturbance"], ratio, rel_tol=1e-12)
        assert record["requested_device"] == "cpu"
    assert len({record["id"] for record in finished.records()}) == 4


def test_parts_and_other_are_the_whole(finished: Done) -> None:
    folder = finished.cwd / "traces" / "run1"
    run = runs.read_run(folder)
    for result in run.configs:
        for record in collect_config(folder, run, result):
            assert record.times.balances
            check_sums(record.times.forward)


def check_sums(part: Part) -> None:
    """To the nanosecond: what the parts take and what is left is what the whole takes."""
    assert part.total.cpu_ns == part.own.cpu_ns + sum(p.total.cpu_ns for p in part.parts)
    assert part.own.cpu_ns >= 0
    assert part.total.device_ns == part.own.device_ns + sum(p.total.device_ns for p in part.parts)
    for child in part.parts:
        check_sums(child)


def test_a_mixture_of_experts(sparse_commands: Commands, tmp_path: Path) -> None:
    done = sparse_commands.profile(tmp_path)
    (record,) = done.records()
    assert (done.code, done.err) == (0, "")
    assert record["model"]["moe_layers"] == [0, 1]
    assert record["findings"] == []
    for layer in record["layer_details"]:
        assert layer["ffn_details"]["router"] > 0
        assert layer["ffn_details"]["experts"] > 0


def test_runs_are_numbered_and_records_are_merged(commands: Commands, tmp_path: Path) -> None:
    first = commands.profile(tmp_path).records()
    second = commands.profile(tmp_path, "--run-name", "mine").records()
    third = commands.profile(tmp_path).records()
    assert [record["run"] for record in third] == ["run1", "mine", "run2"]
    assert third[:2] == second
    assert second[:1] == first


def test_force_replaces_a_run_and_its_records(commands: Commands, tmp_path: Path) -> None:
    commands.profile(tmp_path, "--run-name", "mine")
    commands.profile(tmp_path, "--run-name", "other")
    refused = commands.profile(tmp_path, "--run-name", "mine")
    replaced = commands.profile(tmp_path, "--run-name", "mine", "--force", "--input-len", 4)
    assert (refused.code, len(refused.errors)) == (2, 1)
    for file in ("timing_records.json", "timing_summary.json"):
        left = replaced.records(f"timing_results/{file}")
        assert [(each["run"], each["input_len"]) for each in left] == [("other", 8), ("mine", 4)]
    assert sorted(path.name for path in (tmp_path / "traces").iterdir()) == ["mine", "other"]
    assert (replaced.code, replaced.err) == (0, "")


def test_a_run_that_is_not_replaced_keeps_its_records(commands: Commands, tmp_path: Path) -> None:
    before = commands.profile(tmp_path, "--run-name", "mine").records()
    failed = commands.profile(
        tmp_path, "--run-name", "mine", "--force", "--attn-implementation", "flash_attention_2"
    )
    assert failed.code == 1
    assert failed.records() == before
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["mine"]


def test_a_missing_device_is_a_warning_unless_it_was_asked_for(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = commands.profile(tmp_path, "--device", "cuda")
    assert (asked.code, len(asked.err.splitlines())) == (2, 1)
    assert "--device cuda: is not there" in asked.err
    assert not list((tmp_path / "traces").iterdir())
    monkeypatch.setattr(Commands, "arguments", lambda self, argv: argv)
    left = commands.profile(
        tmp_path, "--model-name", str(commands.model), "--weights", "random", "--input-len", "4"
    )
    assert (left.code, len(left.err.splitlines())) == (0, 1)
    assert left.err.startswith("warning: no CUDA device")
    assert "no CUDA device" not in left.out
    assert left.records()[0]["warnings"] == [left.err.removeprefix("warning: ").rstrip()]


def test_the_model_that_was_never_published(commands: Commands, tmp_path: Path) -> None:
    name = "Qwen/Qwen3-0.5B"
    done = commands.profile(
        tmp_path, "--model-name", name, "--num-layers", 1, "--input-len", 4, "--dtype", "float32"
    )
    (record,) = done.records()
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith(f"warning: {name} was never published")
    assert record["model"]["requested_name"] == name
    assert record["model"]["name"] == "Qwen/Qwen3-0.6B"
    assert (record["model"]["num_layers"], record["model"]["model_layers"]) == (1, 28)


def test_an_unknown_model_names_the_nearest(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--model-name", "Qwen/Qwen3-0.66B")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "did you mean Qwen/Qwen3-0.6B" in done.err


def test_the_model_is_loaded_once_for_all_configs_of_a_dtype(
    commands: Commands, tmp_path: Path
) -> None:
    from qwen3_profile.measure import session

    dtypes = ["float32", "bfloat16", "float32", "bfloat16"]
    entries = ({"batch_size": n, "dtype": dtype} for n, dtype in enumerate(dtypes, 1))
    configs = write_configs(tmp_path, *entries)
    with mock.patch.object(session, "load_model", wraps=session.load_model) as load:
        done = commands.profile(tmp_path, "--configs", configs)
    assert done.code == 0
    assert [call.args[1] for call in load.call_args_list] == ["float32", "bfloat16"]
    assert [(r["config_index"], r["batch_size"], r["dtype"]) for r in done.records()] == [
        (0, 1, "float32"), (2, 3, "float32"), (1, 2, "bfloat16"), (3, 4, "bfloat16"),
    ]  # fmt: skip
    again = commands.export(tmp_path, "traces/run1", "--output-dir", "again")
    assert again.records("again/timing_records.json") == done.records()


@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
def test_a_name_that_only_transformers_knows_is_refused_before_anything_runs(
    commands: Commands, tmp_path: Path, key: str
) -> None:
    configs = write_configs(tmp_path, {"batch_size": 1}, {key: "eagre"})
    done = commands.profile(tmp_path, "--configs", configs)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"error: configs.json: configs[1].{key}: eagre is not")
    assert "did you mean eager? there is eager" in done.err


EMULATES = "this CPU has no bfloat16 instructions and"


def test_an_emulated_dtype_that_nobody_asked_for_does_not_run(
    commands: Commands, tmp_path: Path
) -> None:
    plain = replace(commands, cpu_flags=frozenset({"avx2", "avx512f"}))
    configs = write_configs(
        tmp_path, {"batch_size": 1}, {"batch_size": 2}, {"batch_size": 3, "dtype": "float32"}
    )
    done = plain.profile(tmp_path, "--configs", configs)
    line = (
        f"{EMULATES} would emulate them: running in float32; --dtype bfloat16 asks for it all the "
        "same"
    )
    assert done.code == 0
    assert done.err == f"warning: {line}\n"
    records = done.records()
    assert {tuple(record["warnings"]) for record in records} == {(line,)}
    assert {record["dtype"] for record in records} == {"float32"}
    told = [record.get("dtype_in_place_of") for record in records]
    assert told == ["bfloat16", "bfloat16", None]


def test_an_emulated_dtype_that_is_asked_for_runs_with_a_warning(
    commands: Commands, tmp_path: Path
) -> None:
    plain = replace(commands, cpu_flags=frozenset({"avx2", "avx512f"}))
    done = plain.profile(tmp_path, "--dtype", "bfloat16")
    line = f"{EMULATES} emulates them, several times as slow as --dtype float32"
    assert (done.code, done.err) == (0, f"warning: {line}\n")
    (record,) = done.records()
    assert record["dtype"] == "bfloat16"
    assert "dtype_in_place_of" not in record


# --- decode

DECODE_STEPS, POSITIONS, PROMPT = 12, (0, 6, 11), 8


@pytest.fixture(scope="module", params=["dynamic", "static"])
def decoded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, commands: Commands
) -> Done:
    """Two runs of a prefill and twelve decode steps each, three of them traced, by cache."""
    cwd = tmp_path_factory.mktemp("decoded")
    return commands.profile(
        cwd, "--batch-size", 2, "--decode-steps", DECODE_STEPS, "--trace-steps", 3,
        "--cache", request.param, "--num-runs", 2,
    )  # fmt: skip


def test_a_decode_has_records_of_both_phases(decoded: Done) -> None:
    assert (decoded.code, decoded.err) == (0, "")
    records = decoded.records()
    assert [(r["phase"], r["run_index"], r["steps"]) for r in records] == [
        ("prefill", 0, 1), ("prefill", 1, 1), ("decode", 0, 3), ("decode", 1, 3),
    ]  # fmt: skip
    assert len({record["id"] for record in records}) == 4
    for record in records:
        assert record["findings"] == []
        assert record["decode_steps"] == DECODE_STEPS
        assert set(FIELDS) <= set(record)
        assert record["model_details"]["sample"] > 0
        assert len(record["layer_details"]) == 2
        assert all(layer["attn_details"]["kv_cache"] > 0 for layer in record["layer_details"])


def test_a_decode_times_every_step_and_traces_a_few(decoded: Done) -> None:
    prefills, decodes = decoded.records()[:2], decoded.records()[2:]
    for record in prefills:
        assert record["ttft"] == record["total_time"] > 0
        assert "step_times" not in record
    for record in decodes:
        assert len(record["step_times"]) == DECODE_STEPS
        assert record["total_time"] == pytest.approx(sum(record["step_times"]) / DECODE_STEPS)
        assert min(record["step_times"]) > 0
        assert record["tpot"]["median"] <= record["tpot"]["p90"] <= record["tpot"]["p99"]
        traced = record["traced_steps"]
        assert tuple(step["position"] for step in traced) == POSITIONS
        assert [step["context_len"] for step in traced] == [PROMPT + p + 1 for p in POSITIONS]
        for step in traced:
            assert step["total_time"] == record["step_times"][step["position"]]
            assert len(step["layers"]) == 2
        ratio = sum(s["profiled_time"] for s in traced) / sum(s["total_time"] for s in traced)
        assert record["disturbance"] == pytest.approx(ratio)


def test_a_decode_adds_up(decoded: Done) -> None:
    folder = decoded.cwd / "traces/run1"
    run = runs.read_run(folder)
    assert [result.phase for result in run.configs] == ["prefill", "decode"]
    for result in run.configs:
        for record in collect_config(folder, run, result):
            for single in record.one_by_one():
                assert single.times.balances
                assert single.times.forward.total.calls == 1
                check_sums(single.times.forward)
            check_sums(record.times.forward)
            assert record.times.forward.total.cpu_ns == sum(
                single.times.forward.total.cpu_ns for single in record.one_by_one()
            )


def test_the_files_of_a_decode(decoded: Done) -> None:
    run = decoded.cwd / "traces/run1"
    first, second = runs.read_run(run).configs
    assert first.worker.removesuffix("_prefill") == second.worker.removesuffix("_decode")
    assert {path.name for path in (run / "raw").iterdir()} == {
        *(f"{first.worker}.run{k}.kineto.json.gz" for k in (0, 1)),
        *(f"{second.worker}.run{k}.step{p}.kineto.json.gz" for k in (0, 1) for p in POSITIONS),
        # Of all steps, in one file.
        *(f"{each.worker}.run{k}.clock.json.gz" for k in (0, 1) for each in (first, second)),
    }
    for result in (first, second):
        viewed = json.loads(gzip.decompress((run / result.trace).read_bytes()))["traceEvents"]
        steps = {e["name"] for e in viewed if str(e.get("name")).startswith("ProfilerStep#")}
        assert len(steps) == len(result.measurements)


def test_the_page_and_the_summary_of_a_decode(decoded: Done) -> None:
    first, second = json.loads((decoded.cwd / "timing_results/timing_summary.json").read_text())
    assert (first["phase"], second["phase"]) == ("prefill", "decode")
    assert first["ttft"]["runs"] == 2
    times = [seconds for record in decoded.records()[2:] for seconds in record["step_times"]]
    assert second["tpot"]["steps"] == len(times) == 2 * DECODE_STEPS
    assert second["tpot"]["median"] == pytest.approx(median(times))
    assert decoded.out.count("TPOT") == 1
    (line,) = (line for line in decoded.out.splitlines() if line.startswith("TTFT"))
    assert f"{first['ttft']['median'] * 1e3:.3f}" in line
    (line,) = (line for line in decoded.out.splitlines() if line.startswith("TPOT"))
    assert f"{second['tpot']['median'] * 1e3:.3f}" in line
    lines = decoded.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:2] == ["context", "step"])
    shown = [int(line.split()[0]) for line in lines[head + 1 : head + 4]]
    assert shown == [PROMPT + p + 1 for p in POSITIONS]


def test_export_of_a_decode(commands: Commands, decoded: Done, tmp_path: Path) -> None:
    run = decoded.cwd / "traces/run1"
    again = commands.export(tmp_path, run)
    assert (again.code, again.err) == (0, "")
    for name in ("timing_records.json", "timing_summary.json"):
        before = (decoded.cwd / "timing_results" / name).read_bytes()
        assert (tmp_path / "timing_results" / name).read_bytes() == before
    assert again.out.rpartition("records  ")[0] == decoded.tables


@pytest.mark.parametrize("position", POSITIONS)
def test_export_of_one_raw_trace_of_a_decode_is_its_record(
    commands: Commands, decoded: Done, tmp_path: Path, position: int
) -> None:
    (raw,) = (decoded.cwd / "traces/run1/raw").glob(f"*_decode.run1.step{position}.*")
    assert commands.export(tmp_path, raw).records() == [decoded.records()[3]]
    alone = shutil.copy(raw, tmp_path / raw.name)
    (record,) = commands.export(tmp_path, alone, "--output-dir", "alone").records(
        "alone/timing_records.json"
    )
    assert (record["phase"], record["steps"], record["total_time"]) == ("decode", 1, None)


def test_a_decode_as_csv(commands: Commands, decoded: Done, tmp_path: Path) -> None:
    commands.export(tmp_path, decoded.cwd / "traces/run1", "--format", "csv")
    with open(tmp_path / "timing_results/timing_records.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for record in decoded.records()[2:]:
        for step in record["traced_steps"]:
            for layer, times_of in enumerate(step["layers"]):
                (row,) = (
                    row for row in rows
                    if row["id"] == record["id"]
                    and row["context_len"] == str(step["context_len"])
                    and row["path"] == f"decode/layer.{layer}/layer.{layer}.attn"
                )  # fmt: skip
                assert int(row["position"]) == step["position"]
                assert float(row["cpu_s"]) == times_of["attn"]
    assert {row["context_len"] for row in rows if row["phase"] == "prefill"} == {str(PROMPT)}


@pytest.mark.parametrize(
    ("decode_steps", "traces"),
    [
        pytest.param(1, 1, id="one step"),
        pytest.param(2, 2, id="fewer steps than traces"),
        pytest.param(40, 3, id="many steps"),
    ],
)
def test_traces_do_not_grow_with_the_decode(
    commands: Commands, tmp_path: Path, decode_steps: int, traces: int
) -> None:
    with mock.patch("gc.collect", wraps=gc.collect) as collect:
        done = commands.profile(tmp_path, "--decode-steps", decode_steps)
    raw = tmp_path / "traces/run1/raw"
    assert done.code == 0
    # nor does the time between the steps, in which the garbage of a whole process is collected
    assert collect.call_count < 20
    assert len(list(raw.glob("*_prefill.*.kineto.*"))) == 1
    assert len(list(raw.glob("*_decode.*.kineto.*"))) == traces
    assert len(list(raw.glob("*.clock.*"))) == len(list(raw.iterdir())) - traces - 1 == 2
    assert len(done.records()[1]["step_times"]) == decode_steps


def test_without_decode_steps_no_token_is_chosen(finished: Done) -> None:
    for record in finished.records():
        assert record["phase"] == "prefill"
        assert "sample" not in record["model_details"]
        assert {"ttft", "tpot", "step_times", "traced_steps"}.isdisjoint(record)


# --- as processes of their own


@pytest.mark.parametrize("is_fresh", [True, False], ids=["module", "script of the first document"])
def test_the_main_job_as_a_process(commands: Commands, tmp_path: Path, is_fresh: bool) -> None:
    configs = write_configs(tmp_path, {"batch_size": 1}, {"batch_size": 2})
    script = (
        f"import runpy; runpy.run_path({str(ROOT / 'run_model_timing.py')!r}, {{}}, '__main__')"
    )
    process = (
        commands.start_fresh(tmp_path, "--configs", configs)
        if is_fresh
        else commands.start(tmp_path, "--configs", configs, script=["-c", script])
    )
    done = wait(process, tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("lm_head") >= 2
    assert [record["batch_size"] for record in done.records()] == [1, 2]


def test_the_example_of_configs_is_valid() -> None:
    from qwen3_profile.cli.run_options import parse_arguments

    invocation = parse_arguments(["--configs", str(ROOT / "benchmark_configs.json")])
    assert [(c.batch_size, c.input_len) for c in invocation.configs] == [
        (1, 128), (1, 256), (2, 128), (2, 256),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["qwen3-profile", "qwen3-profile-export"])
def test_console_scripts(name: str, tmp_path: Path) -> None:
    script = shutil.which(name, path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed in this environment")
    shown = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--output-dir" in shown.stdout


# --- export


def test_export_gives_the_same_records_without_torch(finished: Done, tmp_path: Path) -> None:
    code = "import sys; from qwen3_profile.export import main; code = main(sys.argv[1:]); "
    code += "sys.exit(code or 10 * ('torch' in sys.modules))"
    argv = [str(finished.cwd / "traces/run1"), "--output-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("timing_records.json", "timing_summary.json"):
        before = (finished.cwd / "timing_results" / name).read_bytes()
        assert (tmp_path / name).read_bytes() == before
    assert done.stdout.rpartition("records  ")[0] == finished.tables


def test_times_of_the_host_are_those_that_the_clock_read(finished: Done) -> None:
    run = finished.cwd / "traces/run1"
    for record, (config, measured) in zip(
        finished.records(),
        [(c, m) for c in runs.read_run(run).configs for m in c.measurements],
        strict=True,
    ):
        assert (record["cpu_source"], record["idle_source"]) == ("clock", "traced")
        clocked = read_clocked(run / measured.clock)[0]
        assert record["overhead"] == {
            "clock": clocked.wall_ns / measured.bare_ns,
            "device": None,
            "traced": measured.profiled_ns / measured.bare_ns,
        }
        labels = clocked.labels
        read = {
            labels.names[number]: ns for number, ns in zip(labels.label, labels.dur_ns, strict=True)
        }
        assert record["forward"] == read[config.phase] / 1e9
        assert record["model_details"]["lm_head"] == read["lm_head"] / 1e9
        for index, layer in enumerate(record["layer_details"]):
            assert layer["attn"] == read[f"layer.{index}.attn"] / 1e9
            assert layer["attn_details"]["q_proj"] == read[f"layer.{index}.attn.q_proj"] / 1e9
            for block in ("attn", "ffn"):
                parts = {k: v for k, v in layer[f"{block}_details"].items() if "_cuda" not in k}
                assert parts["other"] >= 0
                # In whole nanoseconds nothing is rounded off.
                assert round(layer[block] * 1e9) == sum(round(v * 1e9) for v in parts.values())


def test_export_again_changes_nothing(commands: Commands, finished: Done, tmp_path: Path) -> None:
    run = finished.cwd / "traces/run1"
    once = commands.export(tmp_path, run).records()
    assert commands.export(tmp_path, run).records() == once


def test_export_of_one_config(commands: Commands, finished: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, finished.cwd / "traces/run1", "--config", 1)
    assert done.records() == finished.records()[2:]


def test_export_of_a_raw_trace(commands: Commands, finished: Done, tmp_path: Path) -> None:
    raw = "raw/bs1_len5_float32_prefill.run1.kineto.json.gz"
    done = commands.export(tmp_path, finished.cwd / "traces/run1" / raw)
    assert done.records() == [finished.records()[3]]


@pytest.fixture(scope="module")
def traced_only(
    commands: Commands, finished: Done, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The records of the run as if its labels had not read the clock."""
    cwd = tmp_path_factory.mktemp("traced")
    shutil.copytree(finished.cwd / "traces/run1", cwd / "run1")
    run = runs.read_run(cwd / "run1")
    configs = [
        replace(config, measurements=tuple(replace(m, clock="") for m in config.measurements))
        for config in run.configs
    ]
    runs.write_run(cwd / "run1", replace(run, configs=tuple(configs)))
    records = commands.export(cwd, "run1").records()
    assert {record["cpu_source"] for record in records} == {"traced"}
    return records


@pytest.mark.parametrize("index", [0, 1])
def test_export_of_a_trace_alone(
    commands: Commands,
    finished: Done,
    traced_only: list[dict[str, Any]],
    tmp_path: Path,
    index: int,
) -> None:
    raw = finished.cwd / f"traces/run1/raw/bs2_len8_bfloat16_prefill.run{index}.kineto.json.gz"
    alone = shutil.copy(raw, tmp_path / raw.name)
    done = commands.export(tmp_path, alone)
    (record,) = done.records()
    assert times(record) == times(traced_only[index])
    assert (record["total_time"], record["overhead"], record["cpu_source"]) == (
        None, None, "traced",
    )  # fmt: skip


def test_export_of_the_normalised_trace(
    commands: Commands, finished: Done, traced_only: list[dict[str, Any]], tmp_path: Path
) -> None:
    (trace,) = (finished.cwd / "traces/run1").glob("bs2_*.pt.trace.json.gz")
    done = commands.export(tmp_path, trace)
    assert list(map(times, done.records())) == list(map(times, traced_only[:2]))


def test_export_of_a_folder_of_runs(commands: Commands, tmp_path: Path) -> None:
    commands.profile(tmp_path)
    both = commands.profile(tmp_path).records()
    done = commands.export(tmp_path, "traces", "--output-dir", "again")
    assert done.records("again/timing_records.json") == both
    # Each table stands below the name of its run.
    heads = [line for line in done.out.splitlines() if line.startswith(("===", "prefill:"))]
    assert [head[:12] for head in heads] == [
        "=== run1 ===",
        "prefill: bat",
        "=== run2 ===",
        "prefill: bat",
    ]


def test_export_as_csv(commands: Commands, finished: Done, tmp_path: Path) -> None:
    done = commands.export(tmp_path, finished.cwd / "traces/run1", "--format", "csv")
    with open(tmp_path / "timing_results/timing_records.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert done.code == 0
    for record in finished.records():
        mine = {row["path"]: row for row in rows if row["id"] == record["id"]}
        total = Decimal(mine["prefill"]["cpu_s"])
        assert total == sum(Decimal(row["cpu_self_s"]) for row in mine.values())
        assert float(total) == record["forward"]
        attn = mine["prefill/layer.1/layer.1.attn"]["cpu_s"]
        assert float(attn) == record["layer_details"][1]["attn"]
        assert float(mine["prefill"]["total_time_s"]) == record["total_time"]
        moved = sum(int(row["bytes_self"]) for row in mine.values())
        assert moved == record["traffic"]["bytes"]
