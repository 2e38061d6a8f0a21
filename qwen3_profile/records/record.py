"""Timing records: the times of forward passes with what is known of the run that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from qwen3_profile.attribution.findings import Finding
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.sm_clock import UNKNOWN, SmClock

if TYPE_CHECKING:
    from qwen3_profile.config import RunConfig
    from qwen3_profile.records.collective_sums import CollectiveTimes
    from qwen3_profile.records.flops import Flops
    from qwen3_profile.records.part_memory import PassMemory
    from qwen3_profile.records.pass_energy import PassEnergy
    from qwen3_profile.run_folder.ceilings import Ceilings
    from qwen3_profile.run_folder.gpu_state import GpuState
    from qwen3_profile.run_folder.run_json import Environment, ModelFacts

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a record says of the run besides its times; None where a standalone trace does not tell.

    model_class: the class of the model, where the trace of another program names it.
    rank, world_size: which process of how many wrote the trace.
    process: which one it is, of a trace that holds several.
    parallel: how ranks share the work, "tp", "ep" or "dp".
    lengths: the tokens of each sequence of the input, without its padding.
    execution: how the forward pass got to the device, one of `config.EXECUTIONS`.
    compile_mode, compile_scope: as in `RunConfig`; None where nothing was compiled.
    compile_time: seconds of the first pass of this phase, which compiles.
    output_error: by how much compiled logits differ from eager ones; see `run_json.Compiled`.
    dtype_in_place_of: as in `run_json.ConfigResult`; None where the config's own dtype ran.
    ceilings: what the device does at most in the dtype; None where it was not measured.
    """

    run: str
    trace: str
    model: ModelFacts | None = None
    environment: Environment | None = None
    requested_device: str | None = None
    device: str | None = None
    attn_implementation: str | None = None
    experts_implementation: str | None = None
    seed: int | None = None
    logits_to_keep: int | None = None
    use_cache: bool | None = None
    inference_mode: bool | None = None
    warnings: tuple[str, ...] = ()
    model_class: str | None = None
    rank: int | None = None
    world_size: int | None = None
    process: str | None = None
    parallel: str | None = None
    lengths: tuple[int, ...] = ()
    execution: str | None = None
    compile_mode: str | None = None
    compile_scope: str | None = None
    compile_time: float | None = None
    output_error: float | None = None
    dtype_in_place_of: str | None = None
    ceilings: Ceilings | None = None


@dataclass(frozen=True, slots=True)
class PassWalls:
    """Wall-clock of one pass as it was taken by each way of watching, in ns; None where it was not.

    bare: nothing of ours. clock: labels read the host's clock. device: the device's work alone was
    recorded. traced: under the profiler, with labels.
    """

    bare_ns: int
    traced_ns: int
    clock_ns: int | None = None
    device_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Overhead:
    """How many times as long as bare a pass takes when it is watched; None where it was not."""

    clock: float | None
    device: float | None
    traced: float


@dataclass(frozen=True, slots=True)
class EagerStep:
    """The eager passes of replays of a graph; times are sums where those of the replays are."""

    bare_ns: float
    profiled_ns: float
    times: PassTimes


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One traced forward pass of a decode.

    position: how many decode steps came before it. context_len: tokens that its attention saw.
    eager: where it is the replay of a graph, the eager pass next to it.
    walls: how long it took, however it was watched.
    flops: what it computes; None where the sizes of the model are not known.
    """

    position: int
    context_len: int
    bare_ns: int
    profiled_ns: int
    times: PassTimes
    eager: EagerStep | None = None
    walls: PassWalls | None = None
    flops: Flops | None = None


@dataclass(frozen=True, slots=True)
class TimingRecord:
    """One measured run of one config in one phase.

    A decode record is of several forward passes: its totals are means per pass, and its `times`
    sums over the traced ones.

    id: unique; the run's id, the config's index, the run's index and the phase.
    total_ns: wall-clock of the bare forward pass; None where only a trace is known.
    profiled_ns: the same with profiler and labels.
    phase_source: how the phase is known: "label" of ours, "annotation: " and its text of a serving
        engine, or "unknown".
    traced: of a decode, each traced step; empty for a prefill.
    step_times_ns: of a decode, the bare wall-clock of every step.
    routing: of a mixture of experts, where its tokens went, layer by layer.
    eager: of replays of a graph, the eager passes next to the traced ones.
    walls: of each traced pass, how long it took, however it was watched.
    flops: what the traced passes compute together; None where the model's sizes are not known.
    memory: what one pass like them allocates; None where that was not recorded.
    energy: of one pass like them, by a loop of such; None where that was not measured.
    collectives: of a run of several ranks, what this one exchanged with the others.
    own_total_ns: of several ranks, `total_ns` of this one, and not of the slowest.
    sm_clock: of the GPU around the passes of this run. gpu: what its driver told after them.
    """

    id: str
    config_index: int
    run_index: int
    phase: str
    times: PassTimes
    findings: tuple[Finding, ...]
    facts: RunFacts
    timestamp: str = ""
    config: RunConfig | None = None
    total_ns: float | None = None
    profiled_ns: float | None = None
    phase_source: str = "label"
    traced: tuple[TracedStep, ...] = ()
    step_times_ns: tuple[int, ...] = ()
    routing: tuple[LayerRouting, ...] = ()
    eager: EagerStep | None = None
    walls: tuple[PassWalls, ...] = ()
    flops: Flops | None = None
    memory: PassMemory | None = None
    energy: PassEnergy | None = None
    collectives: tuple[CollectiveTimes, ...] = ()
    own_total_ns: float | None = None
    sm_clock: SmClock = UNKNOWN
    gpu: GpuState | None = None

    @property
    def cpu_source(self) -> str:
        """Which kind of pass the times of the host are of."""
        return "clock" if self.times.has_clock else "traced"

    @property
    def idle_source(self) -> str:
        """Which kind of pass the times of the device are of: its work, and its idle time."""
        return "device" if self.times.has_device else "traced"

    @property
    def overhead(self) -> Overhead | None:
        """The medians over the passes, each held against the bare pass that goes with it."""
        return overhead_of(self.walls)

    @property
    def steps(self) -> int:
        """How many traced forward passes `times` is the sum of."""
        return len(self.traced) or 1

    @property
    def step_numbers(self) -> tuple[int, ...]:
        """Of the `ProfilerStep#k` of its traced passes."""
        return tuple(step.times.number for step in self.traced) or (self.times.number,)

    @property
    def disturbance(self) -> float | None:
        """How many times as long the traced forward passes took as the same ones bare."""
        if self.traced:
            bare = sum(step.bare_ns for step in self.traced)
            return sum(step.profiled_ns for step in self.traced) / bare
        if self.total_ns is None or self.profiled_ns is None:
            return None
        return self.profiled_ns / self.total_ns

    @property
    def tokens_per_second(self) -> float | None:
        """Of the bare pass: real tokens of its input; of a decode, tokens that it chooses.

        All sequences together; of a decode at its median step.
        """
        if self.config is None or not self.total_ns:
            return None
        if self.step_times_ns:
            return self.config.batch_size * _NS_PER_S / median(self.step_times_ns)
        return sum(self.facts.lengths) * _NS_PER_S / self.total_ns

    def one_by_one(self) -> tuple[TimingRecord, ...]:
        """The same with one traced forward pass each, so that each adds up by itself."""
        if not self.traced:
            return (self,)
        return tuple(
            replace(
                self,
                total_ns=step.bare_ns,
                profiled_ns=step.profiled_ns,
                times=step.times,
                traced=(step,),
                eager=step.eager,
                walls=() if step.walls is None else (step.walls,),
                flops=step.flops,
            )
            for step in self.traced
        )

    def to_json(self) -> dict[str, Any]:
        """The record under the names of `timing_records.json`; times in seconds."""
        from qwen3_profile.records.record_json import record_json  # only who writes it needs it

        return record_json(self)


def overhead_of(walls: Sequence[PassWalls]) -> Overhead | None:
    """The median ratios of passes to the bare ones that go with them; None without any."""
    if not walls:
        return None
    return Overhead(
        clock=_ratio((each.clock_ns, each.bare_ns) for each in walls),
        device=_ratio((each.device_ns, each.bare_ns) for each in walls),
        traced=median(each.traced_ns / each.bare_ns for each in walls),
    )


def _ratio(pairs: Iterable[tuple[int | None, int]]) -> float | None:
    known = [ns / bare for ns, bare in pairs if ns is not None]
    return median(known) if known else None


def record_of(
    unique: str,
    config_index: int,
    run_index: int,
    times: PassTimes,
    findings: tuple[Finding, ...],
    facts: RunFacts,
) -> TimingRecord:
    """The record of a forward pass of which no more than its trace is known.

    Args:
        unique: of the run or the trace; all ids of its records begin with it.
    """
    phase = times.forward.name
    return TimingRecord(
        id=f"{unique}-c{config_index}-r{run_index}-{phase}",
        config_index=config_index,
        run_index=run_index,
        phase=phase,
        times=times,
        findings=findings,
        facts=facts,
    )
