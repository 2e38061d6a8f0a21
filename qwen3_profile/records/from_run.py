"""The timing records of a saved run. No torch: the saved traces are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from statistics import mean
from typing import Any

from qwen3_profile import labels
from qwen3_profile.attribution.collective_times import Collectives
from qwen3_profile.attribution.findings import (
    Finding,
    check_fallbacks,
    check_labels,
    check_log,
    check_loud,
    check_uncounted,
    check_unlabelled,
)
from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.label_parts import packages
from qwen3_profile.passes.known import MeasuredConfig
from qwen3_profile.passes.pass_times import PassTimes, merge_passes
from qwen3_profile.passes.read import read
from qwen3_profile.passes.reading import DeviceTotals, Reading
from qwen3_profile.records.check_wall import check_wall
from qwen3_profile.records.flops import Flops
from qwen3_profile.records.impossible_rates import check_rates
from qwen3_profile.records.part_memory import config_memory
from qwen3_profile.records.pass_energy import config_energy
from qwen3_profile.records.record import (
    EagerStep,
    PassWalls,
    RunFacts,
    TimingRecord,
    TracedStep,
    record_of,
)
from qwen3_profile.records.run_flops import flops_of, lengths_of
from qwen3_profile.run_folder.bytes_moved import Traffic, read_traffic
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.run_json import (
    ConfigResult,
    DevicePass,
    Measurement,
    ModelFacts,
    Run,
    read_run,
)
from qwen3_profile.run_folder.sm_clock import SmClock
from qwen3_profile.system.processes import map_files

_NS_PER_S = 1e9


def collect_raw(path: Path, accept: bool = False) -> tuple[TimingRecord, ...]:
    """The record that a raw trace in its run's folder went into; none where the run has no such.

    That of a decode has the traces of several steps, and is the same whichever is named.
    """
    folder = path.resolve().parent.parent
    run, trace = read_run(folder), f"{RAW_FOLDER}/{path.name}"
    return tuple(
        record
        for result in run.configs
        for index in {each.run_index for each in result.measurements if each.trace == trace}
        for record in collect_config(folder, run, result, accept_damaged=accept)
        if record.run_index == index
    )


def collect_config(
    folder: Path, run: Run, result: ConfigResult, *, accept_damaged: bool = False
) -> tuple[TimingRecord, ...]:
    """The records of one config of a saved run, one per measured run.

    Damage that is accepted stays among the records' findings.

    Raises:
        TraceError: a trace is missing, or does not hold the step that the run recorded.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    return read_config(folder, run, result, accept_damaged=accept_damaged).records


@dataclass(frozen=True, slots=True)
class ConfigReading:
    """What the traces of one config hold.

    records: one per measured run. totals, collectives: of each trace, in their order.
    """

    records: tuple[TimingRecord, ...]
    totals: tuple[DeviceTotals, ...]
    collectives: tuple[Collectives, ...]


def read_config(
    folder: Path,
    run: Run,
    result: ConfigResult,
    ranks: Sequence[ConfigResult] = (),
    *,
    accept_damaged: bool = False,
) -> ConfigReading:
    """As `collect_config`, with what was read besides.

    Args:
        ranks: the results of all ranks, where this is that of one.
    """
    facts = _run_facts(run, result)
    runs: dict[int, list[TracedStep]] = {}
    findings: dict[int, list[Finding]] = {}
    measured = map_files(
        partial(_measured, MeasuredConfig(folder, result), run, accept_damaged),
        result.measurements,
        [folder / measurement.trace for measurement in result.measurements],
    )
    for measurement, (step, found, _, _) in zip(result.measurements, measured, strict=True):
        runs.setdefault(measurement.run_index, []).append(step)
        findings.setdefault(measurement.run_index, []).extend(found)
    memory, told = config_memory(folder, result)
    energy, untold = config_energy(result)
    told = (*told, *untold)
    records = tuple(
        replace(
            _record(
                run, result, facts, index, steps, (*dict.fromkeys(findings[index]), *told), ranks
            ),
            memory=memory,
            energy=energy,
        )
        for index, steps in runs.items()
    )
    return ConfigReading(
        records, tuple(each[2] for each in measured), tuple(each[3] for each in measured)
    )


def _record(
    run: Run,
    result: ConfigResult,
    facts: RunFacts,
    run_index: int,
    steps: list[TracedStep],
    findings: tuple[Finding, ...],
    ranks: Sequence[ConfigResult],
) -> TimingRecord:
    """One measured run of one phase: a prefill, or the traced steps of a decode.

    Its totals are those of the slowest rank.
    """
    # A mean over passes that the profiler lost device events of would be too small.
    steps = [step for step in steps if not step.times.lost_launches] or steps
    mine = [each for each in result.measurements if each.run_index == run_index]
    is_decode = bool(result.step_times_ns)
    own_ns = _bare_ns(result, run_index)
    all_ns = [own_ns, *filter(None, (_bare_ns(each, run_index) for each in ranks))]
    bare_ns = tuple(map(max, zip(*all_ns, strict=False)))
    times = merge_passes([step.times for step in steps])
    facts = replace(facts, trace=mine[0].trace)
    slow = check_fallbacks(
        result.fallbacks,
        times.forward,
        packages(),
        passes=len(steps),
        on_device=not run.device.startswith("cpu"),
    )
    flops = _summed_flops(steps)
    findings = (*slow, *findings, *check_rates(times, flops, facts.ceilings))
    return replace(
        record_of(run.id, result.index, run_index, times, findings, facts),
        id=_record_id(run, result, run_index),
        timestamp=mine[0].started,
        config=result.config,
        total_ns=mean(bare_ns),
        profiled_ns=mean(step.profiled_ns for step in steps),
        traced=tuple(steps) if is_decode else (),
        eager=_mean_eager(steps),
        step_times_ns=bare_ns if is_decode else (),
        routing=result.routing,
        walls=tuple(step.walls for step in steps if step.walls is not None),
        flops=flops,
        own_total_ns=mean(own_ns) if ranks else None,
        sm_clock=_sm_clock(mine),
        gpu=next((each for each in result.gpu if each.run_index == run_index), None),
    )


def _sm_clock(measurements: Sequence[Measurement]) -> SmClock:
    """Around the passes of one run; bare and clock passes are of one series, and told in each."""
    first, each = measurements[0].sm_clock, [one.sm_clock for one in measurements]
    return replace(
        first,
        device=tuple(mhz for one in each for mhz in one.device),
        traced=tuple(mhz for one in each for mhz in one.traced),
    )


def _bare_ns(result: ConfigResult, run_index: int) -> tuple[int, ...]:
    """The bare passes of a run; of a decode all its steps. None of one that was not taken."""
    if result.step_times_ns:
        return result.step_times_ns[run_index] if run_index < len(result.step_times_ns) else ()
    return tuple(m.bare_ns for m in result.measurements if m.run_index == run_index)


def _record_id(run: Run, result: ConfigResult, run_index: int) -> str:
    """Rank 0 has the ids of a run of one process."""
    rank = f"-rank{result.rank}" if result.rank else ""
    return f"{run.id}-c{result.index}{rank}-r{run_index}-{result.phase}"


def _mean_eager(steps: Sequence[TracedStep]) -> EagerStep | None:
    """The eager passes next to some replays; times are sums, as those of the replays are."""
    eager = [step.eager for step in steps if step.eager is not None]
    if not eager:
        return None
    return EagerStep(
        bare_ns=mean(each.bare_ns for each in eager),
        profiled_ns=mean(each.profiled_ns for each in eager),
        times=merge_passes([each.times for each in eager]),
    )


def _measured(
    known: MeasuredConfig, run: Run, accept_damaged: bool, measurement: Measurement
) -> tuple[TracedStep, tuple[Finding, ...], DeviceTotals, Collectives]:
    """One traced forward pass, what is odd in its trace, and what is of all of that."""
    folder, result = known.folder, known.result
    reading = read(folder / measurement.trace, known, accept_damaged=accept_damaged)
    # The tokens that its attention sees: its own and those before them.
    context_len = result.config.input_len
    if result.phase == "decode":
        context_len += measurement.position + 1
    times = _pass_of(reading, run, result, measurement.step, accept_damaged)
    check_wall(reading, result.phase, measurement)
    times = replace(times, traffic=_traffic(folder, result, measurement))
    traced = TracedStep(
        position=measurement.position,
        context_len=context_len,
        bare_ns=measurement.bare_ns,
        profiled_ns=measurement.profiled_ns,
        times=times,
        eager=_eager(reading, run, result, measurement, accept_damaged),
        walls=_walls(measurement),
        flops=flops_of(times, run, result, measurement.position),
    )
    findings = (
        *_findings(reading, measurement),
        *_missing(reading, times, run, result),
        *check_unlabelled(result.unlabelled),
        *check_uncounted(result.uncounted),
        *check_log(measurement.profiler_messages),
        *_of_device_pass(measurement.device),
    )
    return traced, findings, reading.totals, reading.collectives


def _summed_flops(steps: Sequence[TracedStep]) -> Flops | None:
    known = [step.flops for step in steps if step.flops is not None]
    return reduce(add, known) if len(known) == len(steps) else None


def _of_device_pass(device: DevicePass | None) -> tuple[Finding, ...]:
    """What went amiss while the device's work alone was to be recorded."""
    if device is None:
        return ()
    return (*check_loud(device.loud), *check_log(device.profiler_messages))


def _walls(measurement: Measurement) -> PassWalls:
    device = measurement.device
    return PassWalls(
        bare_ns=measurement.bare_ns,
        traced_ns=measurement.profiled_ns,
        clock_ns=measurement.clock_ns,
        device_ns=None if device is None else device.wall_ns,
    )


def _eager(
    reading: Reading, run: Run, result: ConfigResult, measurement: Measurement, accept_damaged: bool
) -> EagerStep | None:
    """The eager pass next to the replay of a graph."""
    beside = measurement.eager
    if beside is None or reading.eager is None:
        return None
    times = _pass_of(reading.eager, run, result, beside.step, accept_damaged)
    return EagerStep(beside.bare_ns, beside.profiled_ns, times)


def _findings(reading: Reading, measurement: Measurement) -> tuple[Finding, ...]:
    """What is odd in the trace of a pass, and of a replay in that of its eager pass before."""
    eager: tuple[Finding, ...] = ()
    if measurement.eager is not None and reading.eager is not None:
        eager = (*reading.eager.findings, *check_log(measurement.eager.profiler_messages))
    return (*eager, *reading.findings)


def _missing(
    reading: Reading, times: PassTimes, run: Run, result: ConfigResult
) -> tuple[Finding, ...]:
    """Compiled graphs and labels that the pass was to have, and has not."""
    graphs: tuple[Finding, ...] = ()
    if times.compiled is not None:
        from qwen3_profile.passes.compiled.read import missing_graphs

        by_layer = result.config.compile_scope == "layer"
        graphs = missing_graphs(times.compiled, run.model.num_layers if by_layer else 1)
    if reading.source != "label":
        from qwen3_profile.passes.cuda_graphs.assign import REFUSED

        if any(finding.code == REFUSED for finding in reading.findings):
            return graphs
    return (*graphs, *_missing_labels(times, run.model, result))


def _traffic(folder: Path, result: ConfigResult, measurement: Measurement) -> Traffic | None:
    """What the pass moves; all replays of a graph what its first one does."""
    if not result.traffic:
        return None
    passes = read_traffic(folder / result.traffic)
    return passes.get(0 if measurement.eager is not None else measurement.position)


def _pass_of(
    reading: Reading, run: Run, result: ConfigResult, number: int, accept_damaged: bool
) -> PassTimes:
    """The one pass of the result's phase in `ProfilerStep#number`."""
    path, phase = reading.path, result.phase
    mine = [p for p in reading.passes if p.number == number and p.forward.name == phase]
    if len(mine) != 1:
        raise TraceError(
            str(path),
            f"holds {len(mine)} {phase} passes in step {number}, not one",
            "it is not the trace of this run; record the run again",
        )
    if run.device.startswith("cuda") and not mine[0].device_events and not accept_damaged:
        raise DamagedTraceError(
            str(path), f"holds no device events of a pass on {run.device}", "record the run again"
        )
    return mine[0]


def _missing_labels(
    step: PassTimes, model: ModelFacts, result: ConfigResult
) -> tuple[Finding, ...]:
    if result.compiled is not None and not result.labels:
        return ()  # a model that was compiled as a whole writes none
    if result.labels:
        expected = labels.unfold_layers(result.labels, model.num_layers)
    else:
        expected = labels.expected_labels(model.num_layers, frozenset(model.moe_layers))
    if step.forward.name == labels.TRAIN_STEP:
        expected = (name for name in expected if not name.endswith(labels.CACHE_PARTS))
    return check_labels((step.forward,), expected)


def _run_facts(run: Run, result: ConfigResult) -> RunFacts:
    return RunFacts(
        run=run.name,
        trace="",
        model=run.model,
        environment=replace(run.environment, kernels_replaced=result.replaced),
        requested_device=run.requested_device,
        device=run.device,
        attn_implementation=result.attn_implementation,
        experts_implementation=result.experts_implementation or None,
        seed=run.seed,
        # All logits, under the number that transformers has for it.
        logits_to_keep=0 if result.config.backward else run.logits_to_keep,
        use_cache=run.use_cache and not result.config.backward,
        inference_mode=run.inference_mode and not result.config.backward,
        warnings=run.warnings,
        lengths=lengths_of(result),
        execution=result.config.execution,
        dtype_in_place_of=result.dtype_in_place_of or None,
        ceilings=next((c for c in run.ceilings if c.dtype == result.config.dtype), None),
        rank=result.rank,
        world_size=None if result.rank is None else run.ranks,
        parallel=run.parallel or None,
        **_compile_facts(result),
    )


def _compile_facts(result: ConfigResult) -> dict[str, Any]:
    if result.compiled is None:
        return {}
    first_pass_ns = result.compiled.first_pass_ns.get(result.phase)
    return {
        "compile_mode": result.config.compile_mode,
        "compile_scope": result.config.compile_scope,
        "compile_time": None if first_pass_ns is None else first_pass_ns / _NS_PER_S,
        "output_error": result.compiled.output_error,
    }
