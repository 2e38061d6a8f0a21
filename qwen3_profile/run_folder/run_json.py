"""The contents of `run.json`, which says what the traces of a run are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from qwen3_profile.config import RunConfig, Seed
from qwen3_profile.errors import TraceError
from qwen3_profile.run_folder.bounds import (
    Amount,
    FileName,
    Index,
    Layers,
    Mhz,
    MomentNs,
    Phase,
    Ranks,
    Share,
    Size,
    SpanNs,
    Status,
    WallNs,
)
from qwen3_profile.run_folder.ceilings import Ceilings
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.run_folder.gpu_state import GpuState
from qwen3_profile.run_folder.layout import RUN_FILE
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.model_weights import WeightFacts
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_checks import check_run
from qwen3_profile.run_folder.side_files import read_json, read_versioned
from qwen3_profile.run_folder.sm_clock import UNKNOWN, SmClock
from qwen3_profile.system.files import write_atomic

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Environment:
    """Where it ran. A field that could not be found out is an empty string or None."""

    qwen3_profile: str
    python: str
    torch: str
    transformers: str
    cuda: str
    driver: str
    device_name: str
    device_memory_bytes: Amount | None
    sm_clock_mhz: Mhz | None
    memory_clock_mhz: Mhz | None
    cpu: str
    cpu_threads: Size
    system: str
    kernels_replaced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model ran.

    requested_name, name: as the user wrote it, and what was taken for it.
    weights: "pretrained" or "random", or "given" with the model itself.
    weights_source: "directory", "cache", "hub" or "generated"; of a given model its class.
    num_layers, model_layers: profiled, and of how many.
    moe_layers: which of the profiled layers are mixtures of experts.
    parameters: of the profiled layers, a tied head counted once.
    shape: as profiled; None where a model's config does not tell, and in older runs.
    packed: of a model whose weights are quantised, or that has adapters.
    """

    requested_name: str
    name: str
    weights: str
    weights_source: str
    num_layers: Layers
    model_layers: Layers
    moe_layers: tuple[Layers, ...]
    hidden_size: Size
    parameters: Amount
    shape: Shape | None = None
    packed: WeightFacts | None = None


@dataclass(frozen=True, slots=True)
class EagerPass:
    """The eager pass that a graph repeats, run and traced next to the replay.

    bare_ns, profiled_ns, step, trace, profiler_messages: as of a `Measurement`.
    captured_step, captured_trace: of one more pass, on the code that the model has for captures,
        which may launch other kernels.
    nodes: node id -> label of the graph, a file relative to the run's folder; empty where torch
        does not tell.
    """

    bare_ns: WallNs
    profiled_ns: WallNs
    step: Index
    trace: FileName
    profiler_messages: tuple[str, ...]
    captured_step: Index
    captured_trace: FileName
    nodes: FileName = ""


@dataclass(frozen=True, slots=True)
class DevicePass:
    """A pass of which the device's work alone was recorded.

    wall_ns: between two synchronisations, as of a bare pass.
    started_ns: when it began, by the clock of its trace: ns since 1970.
    trace, profiler_messages: as of a `Measurement`.
    loud: why calls of driver and runtime were recorded too; empty where they were not.
    """

    wall_ns: WallNs
    started_ns: MomentNs
    trace: FileName
    profiler_messages: tuple[str, ...] = ()
    loud: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One bare forward pass and those that go with it, each watched by more than the one before.

    started: ISO 8601, UTC.
    bare_ns, profiled_ns: wall-clock between two synchronisations, without and with both profiler
        and labels.
    step: k of the `ProfilerStep#k` range in the trace.
    trace: the raw trace, relative to the run's folder.
    profiler_messages: warnings and errors of the profiler's own log, such as of events it lost.
    position: of a decode step, how many came before it; 0 for a prefill.
    eager: of the replay of a graph, the eager pass next to it.
    clock_ns: wall-clock of the pass whose labels read the host's clock; clock: the file of what
        they read, relative to the run's folder. None and empty where there was none.
    device: the pass of which the device's work alone was recorded.
    sm_clock: of the GPU, while these passes ran.
    """

    run_index: Index
    started: str
    bare_ns: WallNs
    profiled_ns: WallNs
    step: Index
    trace: FileName
    profiler_messages: tuple[str, ...]
    position: Index = 0
    eager: EagerPass | None = None
    clock_ns: WallNs | None = None
    clock: FileName = ""
    device: DevicePass | None = None
    sm_clock: SmClock = UNKNOWN


@dataclass(frozen=True, slots=True)
class Compiled:
    """How the model of a config was compiled.

    provenance: the file that says what each kernel was compiled from, relative to the run's folder.
    first_pass_ns: wall-clock of the first pass of each phase, which compiles it.
    output_error: by how much its logits differ from eager's, as a share of their length; the
        largest of all passes that were compared.
    references: phase -> the raw trace of a pass whose kernels were launched one by one, where the
        measured ones replay CUDA graphs; empty where they do not.
    """

    provenance: FileName
    first_pass_ns: dict[str, SpanNs]
    output_error: Share
    references: dict[str, FileName]


@dataclass(frozen=True, slots=True)
class ConfigResult:
    """What became of one config.

    status: "done", "failed" or "interrupted"; error: the one line that says why.
    attn_implementation: what really ran.
    unlabelled: parts of the model that no label could be put on.
    trace: the normalised trace for viewers, relative to the run's folder; empty if there is none.
    step_times_ns: of a decode, the bare wall-clock of every step of each run, traced or not.
    replaced: parts whose code is neither torch's nor transformers', and whose it is.
    labels: what each forward pass must write at least once, as `labels.fold_layers` gives it; empty
        in runs of older versions, which only knew models that have every part.
    experts_implementation: what really ran; empty for a dense model.
    routing: of a mixture of experts, where the tokens of this phase go, layer by layer; counted in
        a pass of its own, padding and all.
    lengths: the tokens of each sequence of the input, without its padding; empty in runs of older
        versions, which never padded.
    compiled: of a compiled execution, how its model was compiled.
    fallbacks: parts for which a package has fast code and transformers slow code of its own, where
        the slow one was called, and what it is.
    traffic: what each traced position moves, a file relative to the run's folder; empty where it
        was not counted, for the reason `uncounted`, and in older runs.
    quantised: the labels of Linears of packed weights, folded as `labels` are.
    memory: what the last traced position allocated, a file relative to the run's folder; empty
        where nobody asked for it.
    energy: of a loop of this phase's passes; None where nobody asked for it, or for the reason
        `no_energy`.
    dtype_in_place_of: the default, which the CPU would only have emulated, where nobody asked for a
        dtype; empty where the config's own ran.
    rank: of several ranks, which one's result this is; None of a process that was alone.
    gpu: what the driver told after each run; empty where NVML is not there, and in older runs.
    others: beside the result of rank 0, those of the other ranks.
    """

    index: Index
    config: RunConfig
    worker: str
    phase: Phase
    status: Status
    error: str
    attn_implementation: str
    unlabelled: tuple[str, ...]
    trace: FileName
    measurements: tuple[Measurement, ...]
    step_times_ns: tuple[tuple[WallNs, ...], ...] = ()
    replaced: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    lengths: tuple[Index, ...] = ()
    experts_implementation: str = ""
    routing: tuple[LayerRouting, ...] = ()
    compiled: Compiled | None = None
    traffic: FileName = ""
    uncounted: str = ""
    fallbacks: tuple[str, ...] = ()
    quantised: tuple[str, ...] = ()
    dtype_in_place_of: str = ""
    memory: FileName = ""
    energy: Energy | None = None
    no_energy: str = ""
    gpu: tuple[GpuState, ...] = ()
    rank: Index | None = None
    others: tuple[ConfigResult, ...] = ()

    @property
    def of_all_ranks(self) -> tuple[ConfigResult, ...]:
        """This one, and those of the other ranks."""
        return (self, *self.others)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that records need besides the traces; the contents of `run.json`.

    id: unique among all runs; begins with the time of the start.
    logits_to_keep, use_cache, inference_mode: how the forward pass was called.
    seed: of token ids and random weights; None where both were given.
    ceilings: what the device does at most, in each dtype of the configs; none where it was not
        measured.
    ranks: how many processes measured together. parallel: how they shared the work, "tp", "ep" or
        "dp"; empty of one process.
    """

    schema_version: int
    id: str
    name: str
    started: str
    argv: tuple[str, ...]
    environment: Environment
    model: ModelFacts
    requested_device: str | None
    device: str
    seed: Seed | None
    logits_to_keep: Size
    use_cache: bool
    inference_mode: bool
    warnings: tuple[str, ...]
    configs: tuple[ConfigResult, ...]
    ceilings: tuple[Ceilings, ...] = ()
    ranks: Ranks = 1
    parallel: str = ""


def write_results(path: Path, results: Sequence[ConfigResult]) -> None:
    """Writes what one rank has of a config so far, for rank 0 to read."""
    write_atomic(path, msgspec.json.encode(results))


def read_results(path: Path) -> tuple[ConfigResult, ...]:
    """What `write_results` wrote; nothing where that rank came to write nothing that is whole."""
    try:
        found: tuple[ConfigResult, ...] = read_json(path, tuple[ConfigResult, ...], RUN_FILE)
    except TraceError:
        return ()
    return found


def rank_results_file(folder: Path, worker: str, rank: int) -> Path:
    """Where a rank keeps what it has of a config, until rank 0 takes it into `run.json`."""
    return folder / f".{worker}.rank{rank}.json"


def _left_results(folder: Path, configs: Sequence[ConfigResult]) -> tuple[ConfigResult, ...]:
    """What ranks have kept of configs and rank 0 has not taken, for it was ended before.

    Of each config and phase that of the first rank, with those of the others in it; "interrupted".

    Args:
        configs: those that it has taken.
    """
    taken = {(each.index, each.phase) for each in configs}
    found = [each for file in folder.glob(".*.rank*.json") for each in read_results(file)]
    by_phase: dict[tuple[int, str], list[ConfigResult]] = {}
    for each in sorted(found, key=lambda each: (each.index, each.rank or 0)):
        by_phase.setdefault((each.index, each.phase), []).append(each)
    return tuple(
        replace(
            first,
            status="interrupted",
            error=first.error or f"config {first.worker}: rank 0 was ended",
            others=tuple(replace(each, status="interrupted") for each in others),
        )
        for key, (first, *others) in by_phase.items()
        if key not in taken
    )


def write_nodes(path: Path, labels: Mapping[int, str]) -> None:
    """Writes the label of each node of a graph."""
    write_atomic(path, msgspec.json.encode({str(node): text for node, text in labels.items()}))


def read_nodes(path: Path) -> dict[int, str]:
    """What `write_nodes` wrote.

    Raises:
        TraceError: it is not there, or not ours.
    """
    found = read_json(path, dict[str, str], "file of nodes")
    try:
        return {int(node): text for node, text in found.items()}
    except ValueError as error:
        raise TraceError(str(path), f"is not a file of nodes of ours: {error}") from error


def write_run(folder: Path, run: Run) -> None:
    """Writes `run.json` whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(run), indent=2)
    write_atomic(folder / RUN_FILE, text + b"\n")


def read_run(folder: Path) -> Run:
    """Reads `run.json`, and with it what ranks have left beside it.

    Raises:
        TraceError: it is not there, not ours, of a newer schema, or says what cannot be.
    """
    return read_run_and_left(folder)[0]


def read_run_and_left(folder: Path) -> tuple[Run, tuple[ConfigResult, ...]]:
    """As `read_run`; and which of its configs ranks have left beside `run.json`, not in it."""
    path = folder / RUN_FILE
    run = read_versioned(path, Run, SCHEMA_VERSION, RUN_FILE, "")
    left = _left_results(folder, run.configs)
    run = replace(run, configs=(*run.configs, *left))
    check_run(str(path), run)
    return run, left
