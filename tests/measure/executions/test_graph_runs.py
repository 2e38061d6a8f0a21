"""A config that runs as graphs, from warm-up to record; hand-made traces play the device."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands
from make.graphs import Op, eager, replay, small_pass
from make.kineto import document, write
from make.played_graph import PlayedGraph
from make.recorders import NotingRecorder
from make.report import assert_rows_add_up, data_of
from make.samples import run as sample_run

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.measure import session
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions import cuda_graph
from qwen3_profile.measure.executions.cuda_graph import CudaGraphExecution
from qwen3_profile.measure.measurement import MeasurementLoop
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model
from qwen3_profile.measure.profiler import Recorder, Traced
from qwen3_profile.measure.run_config import RunContext, run_config
from qwen3_profile.records.from_run import collect_config
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.run_json import read_run, write_run
from qwen3_profile.views.terminal.tables import render

STEPS = 5
CONFIG = RunConfig(
    2, 4, "float32", num_runs=1, decode_steps=STEPS, cache="static", execution="cuda_graph"
)
# What the model launches where it knows that it is captured: a mask more.
MASKED = [Op("causal_mask", "void CompareFunctor", "aten::le"), *small_pass()]
Ran = Callable[[list[Op], list[Op], list[Op]], list[TimingRecord]]


@pytest.fixture(scope="module")
def loaded(commands: Commands) -> LoadedModel:
    request = ModelRequest(str(commands.model), "random")
    return load_model(request, "float32", None, torch.device("cpu"))


@contextmanager
def played(of_eager: list[Op], of_captured: list[Op], of_graph: list[Op]) -> Iterator[None]:
    """Inside, passes run on the CPU, and their traces are of the given launches."""

    really = Recorder.traced

    def traced(
        self: Recorder,
        forward: Any,
        lead_in: Any,
        phase: Any,
        step: int,
        path: Path,
        memory: bool = False,
    ) -> Traced:
        if memory:
            return really(self, forward, lead_in, phase, step, path, memory=True)
        forward()
        if ".eager." in path.name:
            events = eager(of_eager, phase, step)
        elif ".captured." in path.name:
            events = eager(of_captured, phase, step)
        else:
            events = replay(of_graph, phase, number=step)
        path.parent.mkdir(exist_ok=True)
        write(path, document(*events))
        return Traced(9000, ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graph, "Graph", PlayedGraph)
        patch.setattr(Recorder, "traced", traced)
        patch.setattr(session, "_check_device", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def ran(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Runs CONFIG; the traces of its eager passes and its replays are of the given launches."""

    def run(of_eager: list[Op], of_captured: list[Op], of_graph: list[Op]) -> list[TimingRecord]:
        folder = tmp_path_factory.mktemp("run")
        cpu = torch.device("cpu")
        with played(of_eager, of_captured, of_graph):
            context = RunContext(loaded, cpu, 0, folder)
            results = run_config(context, 0, CONFIG, CONFIG.worker, lambda what: None)
        assert [each.error for each in results] == ["", ""]
        write_run(folder, replace(sample_run(), configs=results))
        written = read_run(folder)
        names = tuple(dict.fromkeys(op.label for op in of_eager))
        return [
            record
            for result in written.configs
            for record in collect_config(folder, written, replace(result, labels=names))
        ]

    return run


@pytest.fixture(scope="module")
def same(ran: Ran) -> list[TimingRecord]:
    """The records where graph and eager pass launch the same."""
    return ran(small_pass(), small_pass(), small_pass())


def parts(record: TimingRecord) -> dict[str, int]:
    return {
        part.name: part.total.device_ns
        for _, part in record.times.forward.walk()
        if not part.parts and part.total.device_ns
    }


def test_replays_have_the_labels_of_the_eager_pass(
    same: list[TimingRecord],
) -> None:
    records = same
    assert [(r.phase, r.run_index, r.steps) for r in records] == [
        ("prefill", 0, 1),
        ("decode", 0, 3),
    ]
    for record in records:
        assert record.findings == ()
        assert record.facts.execution == "cuda_graph"
        assert record.times.balances
        assert record.eager is not None
        eager_parts = parts(replace(record, times=record.eager.times))
        assert parts(record) == eager_parts
        assert parts(record)["layer.1.attn.q_proj"] == 50 * record.steps


def test_a_decode_has_a_bare_replay_of_every_step_and_an_eager_pass_beside_each(
    same: list[TimingRecord],
) -> None:
    record = same[-1]
    assert len(record.step_times_ns) == STEPS
    assert [step.position for step in record.traced] == [0, 2, 4]
    assert all(step.eager is not None and step.eager.bare_ns > 0 for step in record.traced)
    entry = record.to_json()
    assert entry["execution"] == "cuda_graph"
    assert entry["eager"]["device_events"] == entry["device_events"] == 21 * 3
    assert entry["saved"]["total_time"] == pytest.approx(
        entry["eager"]["total_time"] - entry["total_time"]
    )
    q_proj = next(p for p in entry["saved"]["parts"] if p["part"] == "layer.*.attn.q_proj")
    assert q_proj["cuda"] == q_proj["eager_cuda"] == pytest.approx(3 * 50e-9)


def test_no_graph_outlives_the_kind_of_pass_that_it_was_captured_for(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(cuda_graph, "Graph", PlayedGraph)
    monkeypatch.setattr(PlayedGraph, "events", events)
    recorder = NotingRecorder(events)
    batch = config_inputs(CONFIG, loaded.facts.shape.vocab_size, 0, torch.device("cpu"))
    config = replace(CONFIG, decode_steps=0, warmup_runs=0)
    execution = CudaGraphExecution(loaded.model, batch, config, recorder)
    MeasurementLoop(execution, recorder, ConfigFiles(tmp_path, "w"), lambda what: None).measure()
    assert events == [
        "settle", "timed", "capture", "timed", "release",
        "traced", "settle", "traced",  # the eager pass, and one on the code for captures
        "attached", "capture, marked", "settle", "traced", "release", "detached",
    ]  # fmt: skip


def test_a_graph_of_other_kernels_is_matched_with_the_code_for_captures(ran: Ran) -> None:
    records = ran(small_pass(), MASKED, MASKED)
    for record in records:
        assert record.findings == ()
        assert parts(record)["causal_mask"] == 50 * record.steps
        assert "graph_replay" not in parts(record)


def test_a_graph_that_nothing_matches_is_one_row(ran: Ran) -> None:
    records = ran(small_pass(), MASKED, small_pass()[::-1])
    for record in records:
        (finding,) = record.findings
        assert finding.code == "graph-refused"
        assert "event 0 is nvjet_384x8 in the replay and indexSelect" in finding.message
        assert parts(record) == {"graph_replay": 21 * 50 * record.steps}
        assert record.times.balances


def test_the_table_says_what_the_graph_saves(
    same: list[TimingRecord],
) -> None:
    shown = render(same[1:])
    assert "replayed as a CUDA graph" in shown
    assert "as fast" in shown
    lines = [line.split() for line in shown.splitlines() if line.split()[:1] == ["q_proj"]]
    assert ["q_proj", "0.000", "0.000"] in [line[:3] for line in lines]
    assert max(map(len, shown.splitlines())) <= 100


def drawn_labels(path: Path) -> list[str]:
    """What the trace for viewers has above the kernels."""
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [e["name"] for e in events if e.get("cat") == "gpu_user_annotation"]


def test_the_command_runs_graphs_from_flags_to_tables(commands: Commands, tmp_path: Path) -> None:
    with played(small_pass(), MASKED, small_pass()):
        done = commands.profile(
            tmp_path, "--cuda-graph", "--cache", "static", "--decode-steps", 2, "--num-runs", 2,
            "--memory",
        )  # fmt: skip
    assert done.code == 0, done.err
    records = done.records()
    assert [(r["phase"], r["execution"]) for r in records] == [
        ("prefill", "cuda_graph"), ("prefill", "cuda_graph"),
        ("decode", "cuda_graph"), ("decode", "cuda_graph"),
    ]  # fmt: skip
    assert "replayed as a CUDA graph" in done.out
    assert done.out.count("CUDA graph: its own pool holds 3.146 MB") == 2
    for record in records:
        memory = record["memory"]
        assert memory["graph_pool_bytes"] == 3 << 20
        assert memory["labels"]["layer.1.attn.q_proj"]["retained_bytes"] > 0
    (shown,) = tmp_path.glob("traces/run1/*_static_cuda_graph_decode.*.pt.trace.json.gz")
    drawn = Counter(drawn_labels(shown))
    # Of each of the two runs' traced steps, over the kernels that the graph replayed.
    assert drawn["decode"] == drawn["layer.1.attn"] == 4
    run = tmp_path / "traces" / "run1"
    assert len(list(run.glob("*_static_cuda_graph_decode.*.pt.trace.json.gz"))) == 1
    for config in data_of((run / "report.html").read_text())["configs"]:
        assert_rows_add_up(config)
        saved = {each["part"]: each for each in config["savings"]}
        assert saved["layers.attn.q_proj"]["graph"] == 3 * 50
        assert any("Replayed as a CUDA graph" in line for line in config["answers"]["time"])
    again = commands.export(tmp_path, run, "--output-dir", "again")
    assert again.code == 0, again.err
    assert again.records("again/timing_records.json") == records


def test_a_graph_needs_a_cuda_device(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--cuda-graph")
    assert done.code == 2
    assert done.errors == [
        "error: --cuda-graph: needs a CUDA device, and this is cpu; leave it out, or give "
        "--device cuda"
    ]
    assert not list((tmp_path / "traces").iterdir())
