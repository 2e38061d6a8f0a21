"""Records and runs for tests, made from hand-made traces."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from make.kineto import LEAF_NS, cpu_op, forward_pass, host, kernel, label, launch, split, step
from qwen3_profile.attribution.backward import split_backward
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.config import RunConfig
from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.passes.pass_times import PassTimes, merge_passes, read_steps
from qwen3_profile.records.record import EagerStep, PassWalls, RunFacts, TimingRecord, TracedStep
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic
from qwen3_profile.run_folder.ceilings import Ceilings, ProductRate
from qwen3_profile.run_folder.run_json import (
    SCHEMA_VERSION,
    ConfigResult,
    Environment,
    Measurement,
    ModelFacts,
    Run,
    write_run,
)

ENVIRONMENT = Environment(
    qwen3_profile="0.1.0",
    python="3.11.9",
    torch="2.13.0",
    transformers="5.23.0",
    cuda="13.0",
    driver="580.1",
    device_name="NVIDIA H100 80GB HBM3",
    device_memory_bytes=85_000_000_000,
    sm_clock_mhz=1980,
    memory_clock_mhz=2619,
    cpu="A Processor With a Rather Long Name at 2.70 GHz",
    cpu_threads=16,
    system="Linux",
    kernels_replaced=(),
)


# 100 FLOPs and 10 bytes in each ns.
CEILINGS = Ceilings(
    "GPU-1", "580", "2.11", "bfloat16", "2026-01-01T00:00:00+00:00",
    (ProductRate(8, 8, 8, 50e9), ProductRate(64, 64, 64, 100e9)), 10e9, 8e9, 1500.0, (1980, 1980),
)  # fmt: skip


def model_facts(num_layers: int) -> ModelFacts:
    return ModelFacts(
        requested_name="Qwen/Qwen3-0.6B",
        name="Qwen/Qwen3-0.6B",
        weights="random",
        weights_source="published shape",
        num_layers=num_layers,
        model_layers=28,
        moe_layers=(),
        hidden_size=1024,
        parameters=596_049_920,
        shape=replace(PUBLISHED["Qwen/Qwen3-0.6B"], num_hidden_layers=num_layers, sources=()),
    )


def facts(num_layers: int, *, cuda: bool = True) -> RunFacts:
    return RunFacts(
        run="run1",
        trace="raw/bs2_len256_bfloat16_prefill.run0.kineto.json.gz",
        model=model_facts(num_layers),
        environment=ENVIRONMENT,
        requested_device=None,
        device="cuda:0" if cuda else "cpu",
        attn_implementation="sdpa",
        seed=0,
        logits_to_keep=1,
        use_cache=True,
        inference_mode=True,
        lengths=(256, 256),
    )


def step_times(
    num_layers: int, *, cuda: bool = True, leaf_ns: int = LEAF_NS, phase: str = "prefill"
) -> PassTimes:
    (step,) = read_steps(split(*forward_pass(num_layers, cuda=cuda, leaf_ns=leaf_ns, phase=phase)))
    return step


def record(
    num_layers: int = 2,
    *,
    run: str = "A",
    config: int = 0,
    index: int = 0,
    cuda: bool = True,
    leaf_ns: int = LEAF_NS,
    total_ns: int | None = 40_000,
    findings: tuple[Finding, ...] = (),
) -> TimingRecord:
    return TimingRecord(
        id=f"{run}-c{config}-r{index}-prefill",
        timestamp="2026-01-02T03:04:05+00:00",
        config_index=config,
        run_index=index,
        phase="prefill",
        config=RunConfig(batch_size=2, input_len=256),
        total_ns=total_ns,
        profiled_ns=None if total_ns is None else 2 * total_ns,
        times=step_times(num_layers, cuda=cuda, leaf_ns=leaf_ns),
        findings=findings,
        facts=facts(num_layers, cuda=cuda),
        walls=() if total_ns is None else (PassWalls(total_ns, 2 * total_ns),),
    )


# What the operators of `counted_record` move in each layer, and outside.
ACCESSED = {"attn.q_proj": 200_000, "attn.rope": 30_000, "ffn.down_proj": 400_000}


def counted_record(labels: dict[str, Moved] | None = None, *, cuda: bool = True) -> TimingRecord:
    """An eager record whose operators were counted; by default every part that has device events.

    In `record` each part takes 100 ns on the device in each of two layers.
    """
    whole = record(cuda=cuda)
    if labels is None:
        names = {part.name for part in whole.times.forward.each() if not part.parts}
        labels = {name: Moved(1, 10_000) for name in sorted(names)}
        for part, size in ACCESSED.items():
            labels |= {f"layer.{layer}.{part}": Moved(1, size) for layer in (0, 1)}
    return replace(whole, times=replace(whole.times, traffic=Traffic(labels)))


def decode_record(
    num_layers: int = 2,
    *,
    index: int = 0,
    cuda: bool = True,
    leaves_ns: dict[int, int],
    step_times_ns: tuple[int, ...],
) -> TimingRecord:
    """A decode after 256 tokens; each traced pass took 3 times as long as the bare one.

    leaves_ns: for the position of each traced step, how long a part of it takes on the host.
    step_times_ns: the bare time of every step.
    """
    traced = tuple(
        TracedStep(
            position=position,
            context_len=256 + position + 1,
            bare_ns=step_times_ns[position],
            profiled_ns=3 * step_times_ns[position],
            times=step_times(num_layers, cuda=cuda, leaf_ns=leaf_ns, phase="decode"),
            walls=PassWalls(step_times_ns[position], 3 * step_times_ns[position]),
        )
        for position, leaf_ns in leaves_ns.items()
    )
    config = RunConfig(
        batch_size=2,
        input_len=256,
        decode_steps=len(step_times_ns),
        trace_steps=len(traced),
    )
    return replace(
        record(num_layers, index=index, cuda=cuda),
        id=f"A-c0-r{index}-decode",
        phase="decode",
        config=config,
        total_ns=sum(step_times_ns) / len(step_times_ns),
        profiled_ns=sum(step.profiled_ns for step in traced) / len(traced),
        times=merge_passes([step.times for step in traced]),
        traced=traced,
        step_times_ns=step_times_ns,
        walls=tuple(step.walls for step in traced if step.walls is not None),
    )


def training_record() -> TimingRecord:
    """Of a training step: one operator in `lm_head`, and the node that is its backward."""
    ids = {"Sequence number": 3, "Fwd thread id": 0}
    node = "autograd::engine::evaluate_function: MmBackward0"
    events = (
        step(0, 0, 100), label("train_step", 0, 100), cpu_op("lm_head", 10, 20),
        host("cpu_op", "aten::mm", 12, 18, **ids), label("backward", 50, 90),
        host("cpu_op", node, 60, 80, 2, **(ids | {"Fwd thread id": 1})),
        launch(1, 65, 66, 2), kernel(1, 70, 77),
    )  # fmt: skip
    (times,) = read_steps(split_backward(split(*events)))
    return replace(record(), phase="train_step", times=times)


def graph_record() -> TimingRecord:
    """A prefill of which each kernel takes 100 ns eagerly and 50 ns as a graph."""
    eager = EagerStep(80_000, 90_000, step_times(2, leaf_ns=1000))
    config = RunConfig(batch_size=2, input_len=256, execution="cuda_graph")
    whole = record(leaf_ns=500)
    return replace(
        whole, config=config, eager=eager, facts=replace(whole.facts, execution="cuda_graph")
    )


def lone_record() -> TimingRecord:
    """Of a trace that came without its run."""
    whole = record(total_ns=None)
    return replace(whole, config=None, facts=RunFacts(run="trace", trace="trace.json"))


def run() -> Run:
    config = RunConfig(batch_size=2, input_len=256, num_runs=1)
    trace = f"raw/{config.worker}.run0.kineto.json.gz"
    measurement = Measurement(0, "2026-01-02T03:04:05+00:00", 40_000, 80_000, 0, trace, ())
    result = ConfigResult(
        index=0,
        config=config,
        worker=config.worker,
        phase="prefill",
        status="done",
        error="",
        attn_implementation="sdpa",
        unlabelled=(),
        trace="",
        measurements=(measurement,),
    )
    return Run(
        schema_version=SCHEMA_VERSION,
        id="20260102T030405.000000-run1",
        name="run1",
        started="2026-01-02T03:04:05+00:00",
        argv=("--batch-size", "2"),
        environment=ENVIRONMENT,
        model=model_facts(1),
        requested_device=None,
        device="cuda:0",
        seed=0,
        logits_to_keep=1,
        use_cache=True,
        inference_mode=True,
        warnings=("said once",),
        configs=(result,),
    )


def make_run(folder: Path, report: str = "", *, time_s: int = 1_700_000_000) -> Path:
    folder.mkdir(parents=True)
    write_run(folder, run())
    os.utime(folder / "run.json", (time_s, time_s))
    if report:
        (folder / "report.html").write_text(report)
    return folder
