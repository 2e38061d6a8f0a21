"""Traces of replays with the trace of their capture, from the command line to the records.

tests/data has one replay of a decode step and of a prefill of Qwen3-0.6B on an H100, the captures,
and an eager step of each; in ../shared are the whole traces, and a pair that vLLM wrote on HIP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands, Done
from make.graphs import capture, eager, replay, small_pass
from make.kineto import document, host, kernel, label, launch, write
from make.paths import DATA, SHARED

from qwen3_profile.labels import every_layer
from qwen3_profile.passes.cuda_graphs.read import capture_pair

VLLM = SHARED / "tl_vllm_decode_full_exec.json.gz"
OPS = small_pass()


def graph(phase: str, kind: str, folder: Path = DATA) -> Path:
    return folder / f"qwen3-0.6b_graph_{phase}_{kind}.json.gz"


def parts(record: dict[str, Any]) -> dict[str, float]:
    """The device seconds of each part, summed over the layers."""
    found: dict[str, float] = {}

    def add(prefix: str, entry: dict[str, Any]) -> None:
        for key, value in entry.items():
            if isinstance(value, dict):
                add(f"{prefix}{key}.", value)
            elif key.endswith("_cuda"):
                found[prefix + key] = found.get(prefix + key, 0.0) + value

    add("", record["model_details"])
    for layer in record["layer_details"]:
        add("layer.", layer)
    return found


def exported(commands: Commands, folder: Path, *argv: object) -> tuple[Done, list[Any]]:
    folder.mkdir(exist_ok=True)
    done = commands.export(folder, *argv)
    assert done.code == 0, done.err
    return done, done.records()


# --- the real pairs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", [pytest.param(DATA, id="one replay"), pytest.param(SHARED / "own", id="three")]
)
@pytest.mark.parametrize("kind", ["capture", "eager"])
def test_every_event_of_the_decode_graph_has_its_label(
    commands: Commands, tmp_path: Path, kind: str, folder: Path
) -> None:
    """1,847 events a step; the parts' sum is the eager step's within 5 %, each part's within 8 %.

    Kernels of a few microseconds are up to 7.2 % shorter in a graph, and all in the same way.
    """
    if not graph("decode", "replay", folder).is_file():
        pytest.skip("the recorded traces are not here")
    given = (graph("decode", "replay", folder), "--capture", graph("decode", kind, folder))
    _, records = exported(commands, tmp_path, *given)
    _, (step, *_) = exported(commands, tmp_path / "eager", graph("decode", "eager"))
    for record in records:
        assert record["findings"] == []
        assert (record["phase"], record["execution"]) == ("decode", "cuda_graph")
        assert record["device_events"] == step["device_events"] == 1847
        assert record["ledger_ns"]["unattributed"] == 0
        assert record["ledger_ns"]["labels"] == record["ledger_ns"]["device_time"]
        assert len(record["layer_details"]) == 28
        of_graph, of_eager = parts(record), parts(step)
        assert set(of_graph) == set(of_eager)
        assert record["forward_cuda"] == pytest.approx(step["forward_cuda"], rel=0.05)
        for name, seconds in of_eager.items():
            # of a part of one kernel, a microsecond is more
            assert of_graph[name] == pytest.approx(seconds, rel=0.08, abs=1e-6), name


def test_the_sums_of_the_layers_are_the_eager_steps_within_five_percent(
    commands: Commands, tmp_path: Path
) -> None:
    _, (record,) = exported(
        commands, tmp_path, graph("decode", "replay"), "--capture", graph("decode", "capture")
    )
    _, (step,) = exported(commands, tmp_path / "eager", graph("decode", "eager"))
    for block in ("attn_cuda", "ffn_cuda"):
        ran = sum(layer[block] for layer in record["layer_details"])
        assert ran == pytest.approx(sum(e[block] for e in step["layer_details"]), rel=0.05)


def test_a_prefill_that_launches_otherwise_is_refused_by_its_eager_step(
    commands: Commands, tmp_path: Path
) -> None:
    done, (record,) = exported(
        commands, tmp_path, graph("prefill", "replay"), "--capture", graph("prefill", "eager")
    )
    (finding,) = record["findings"]
    assert finding["code"] == "graph-refused"
    assert "event 10 is " in finding["message"]
    assert "arange_cuda_out" in finding["message"]
    assert record["model_details"]["graph_replay_cuda"] == record["cuda_total"] > 0
    assert "event 10" in done.out


def test_a_prefill_is_labelled_by_its_capture(commands: Commands, tmp_path: Path) -> None:
    _, (record,) = exported(
        commands, tmp_path, graph("prefill", "replay"), "--capture", graph("prefill", "capture")
    )
    assert record["findings"] == []
    assert record["device_events"] == 1752
    assert record["model_details"]["causal_mask_cuda"] > 0
    assert all(layer["attn_details"]["attn_forward_cuda"] > 0 for layer in record["layer_details"])


def test_a_capture_of_another_pass_is_refused(commands: Commands, tmp_path: Path) -> None:
    _, (record,) = exported(
        commands, tmp_path, graph("prefill", "replay"), "--capture", graph("decode", "capture")
    )
    assert [finding["code"] for finding in record["findings"]] == ["graph-refused"]


@pytest.mark.skipif(not VLLM.is_file(), reason="the recorded traces are not here")
def test_every_module_of_the_vllm_pair_has_its_time(commands: Commands, tmp_path: Path) -> None:
    pair = (VLLM, "--capture", SHARED / "tl_vllm_decode_full_capture.json.gz")
    _, (record,) = exported(commands, tmp_path, *pair)
    assert (record["phase"], record["model_class"]) == ("decode", "GptOssForCausalLM")
    assert record["findings"] == []
    assert record["device_events"] == 434
    done = commands.export(tmp_path, *pair, "--ledger", "ledger.json", "--scopes", "modules")
    assert done.code == 0, done.err
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    rows = {tuple(name.removeprefix("nn.Module: ") for name in row["path"]): row
            for row in ledger["rows"]}  # fmt: skip
    model, pieces = ("GptOssForCausalLM_0",), ("GptOssForCausalLM_0", *2 * ("GraphModule_0",))
    assert rows[model]["device_events"] == rows[model]["graph_events"] == 421
    assert rows[pieces]["calls"] == 24
    assert rows[pieces]["device_ns"] > 0


# --- hand-made ones -------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two replays, and their capture."""
    later = replay(OPS, correlation=901, start=9000)
    return (
        write(tmp_path / "a_replay.json", document(*replay(OPS), *later)),
        write(tmp_path / "a_capture.json", document(*capture(OPS))),
    )


def test_each_replay_is_a_record(
    commands: Commands, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    done, records = exported(commands, tmp_path, pair[0], "--capture", pair[1])
    assert [record["run_index"] for record in records] == [0, 1]
    for record in records:
        assert (record["phase"], record["phase_source"]) == ("decode", "label")
        assert record["ledger_ns"] == {
            "device_time": 50 * len(OPS), "labels": 50 * len(OPS), "unattributed": 0,
        }  # fmt: skip
        assert record["layer_details"][1]["attn_details"]["q_proj_cuda"] == 50e-9
    assert "median pass (#0 in the trace, of 2 of its kind)" in done.out


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_with_both_is_recognised(
    commands: Commands, tmp_path: Path, pair: tuple[Path, Path], named: bool
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for path, name in zip(pair, ("replay", "capture") if named else ("b", "a"), strict=True):
        (folder / f"{name}.json").write_bytes(path.read_bytes())
    _, records = exported(commands, tmp_path, folder)
    assert len(records) == 2
    assert all(record["execution"] == "cuda_graph" for record in records)
    done = commands.export(tmp_path, folder, "--ledger", "ledger.json")
    assert done.code == 0, done.err


def test_folders_of_other_traces_are_no_pair(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    twice = write(tmp_path / "c.json", document(*eager(OPS)))
    assert capture_pair([pair[0], pair[0]]) is None
    assert capture_pair([twice, pair[0]]) is None
    assert capture_pair([pair[0]]) is None
    assert capture_pair([twice, write(tmp_path / "d.json", b"no trace")]) is None


def test_the_ledger_of_replays_balances(
    commands: Commands, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    done = commands.export(tmp_path, pair[0], "--capture", pair[1], "--ledger", "ledger.json")
    assert done.code == 0, done.err
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    rows = {"/".join(row["path"]): row for row in ledger["rows"]}
    assert rows["decode"]["device_ns"] == ledger["device_time_ns"] == 2 * 50 * len(OPS)
    q_proj = "decode/layer.1/layer.1.attn/layer.1.attn.q_proj"
    assert (rows[q_proj]["calls"], rows[q_proj]["device_ns"]) == (2, 100)
    assert rows[q_proj]["graph_events"] == 2
    assert ledger["findings"] == []


def test_what_a_serving_engine_launches_around_a_graph_is_other(
    commands: Commands, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    """And the range around it tells the phase."""
    text = "execute_8_context_0(sq0)_generation_8(sq8)"
    events = [
        label(text, 1, 90), *replay(OPS), launch(5, 3, 8), kernel(5, 20, 30), launch(6, 70, 75),
        kernel(6, 9000, 9010),
    ]  # fmt: skip
    path = write(tmp_path / "e.json", document(*events))
    _, (record,) = exported(commands, tmp_path, path, "--capture", pair[1])
    assert (record["phase"], record["phase_source"]) == ("decode", f"annotation: {text}")
    assert record["model_details"]["other_cuda"] == 20e-9
    assert record["ledger_ns"]["unattributed"] == 0


def test_modules_of_a_capture_that_has_no_labels(commands: Commands, tmp_path: Path) -> None:
    """As SGLang and vLLM record it, with stacks; here on HIP, whose launches name the kernels."""

    def module(name: str, start: int, end: int) -> str:
        return host("python_function", f"nn.Module: {name}", start, end)

    def call(name: str, at: int, **args: object) -> str:
        return host("cuda_runtime", name, at, at + 1, correlation=at, **args)

    captured = [
        call("hipStreamBeginCapture", 1),
        module("Qwen3ForCausalLM_0", 5, 90), module("Qwen3DecoderLayer_0", 10, 50),
        module("Qwen3Attention_0", 11, 30), module("QKVParallelLinear_0", 12, 20),
        call("hipModuleLaunchKernel", 14, kernel="gemm"), call("hipLaunchKernel", 25, kernel="fa"),
        module("Qwen3MLP_0", 31, 49), call("hipLaunchKernel", 35, kernel="silu"),
        call("hipStreamEndCapture", 95),
    ]  # fmt: skip
    ran = [
        host("cuda_runtime", "hipGraphLaunch", 10, 15, correlation=7),
        *(
            kernel(7, at, at + 5, name=name)
            for at, name in ((20, "gemm"), (30, "fa"), (40, "silu"))
        ),
    ]
    paths = [
        write(tmp_path / name, document(*events))
        for name, events in (("r.json", ran), ("c.json", captured))
    ]
    _, (record,) = exported(commands, tmp_path, paths[0], "--capture", paths[1])
    assert record["model_class"] == "Qwen3ForCausalLM"
    (layer,) = record["layer_details"]
    assert (layer["attn_cuda"], layer["ffn_cuda"]) == (10e-9, 5e-9)
    assert layer["attn_details"]["qkv_proj_cuda"] == 5e-9


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param(["r.json", "--capture", "none.json"], "none.json: is not there", id="missing"),
        pytest.param(["none.json", "--capture", "c.json"], "none.json: is not there", id="no path"),
        pytest.param(
            ["e.json", "--capture", "c.json"],
            "e.json: holds no launch of a graph with its kernels; leave out --capture", id="eager",
        ),
        pytest.param(
            ["r.json", "--capture", "r.json"], "r.json: holds neither labels", id="no labels"
        ),
        pytest.param(
            ["r.json", "--capture", "l.json"],
            "l.json: launches nothing that a graph could hold", id="nothing launched",
        ),
        pytest.param([".", "--capture", "c.json"], "--capture: goes with one trace", id="folder"),
        pytest.param(
            ["r.json", "--capture", "c.json", "--config", "0"], "--config: goes with", id="config"
        ),
        pytest.param(
            ["r.json", "--capture", "t.txt"], "t.txt: is not a Kineto trace", id="no trace"
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(
    commands: Commands, tmp_path: Path, argv: list[str], told: str
) -> None:
    write(tmp_path / "r.json", document(*replay(OPS)))
    write(tmp_path / "c.json", document(*capture(OPS)))
    write(tmp_path / "e.json", document(*eager(OPS)))
    write(tmp_path / "l.json", document(label("decode", 0, 9)))
    write(tmp_path / "t.txt", b"no trace")
    done = commands.export(tmp_path, *argv)
    assert done.code == 2
    assert len(done.errors) == 1
    assert told in done.errors[0]
    assert not (tmp_path / "timing_results" / "timing_records.json").exists()


def test_labels_of_every_layer_have_one_name() -> None:
    assert every_layer("layer.27.attn.q_proj") == "layer.*.attn.q_proj"
    assert every_layer("lm_head") == "lm_head"
