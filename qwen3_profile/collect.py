"""A saved run or a lone trace in, its timing records out. No torch: a saved trace is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution import attribute
from qwen3_profile.checks import check_trace
from qwen3_profile.errors import TraceError
from qwen3_profile.health import Finding, check_labels, check_log, refuse_damage
from qwen3_profile.records import RunFacts, StepTimes, TimingRecord, read_steps
from qwen3_profile.runs import ConfigResult, Measurement, ModelFacts, Run
from qwen3_profile.scopes import build_scopes, select_labels
from qwen3_profile.trace import TraceInfo, read_trace


def collect_config(
    folder: Path, run: Run, result: ConfigResult, *, accept_damaged: bool = False
) -> tuple[TimingRecord, ...]:
    """The records of one config of a saved run, one per measured run.

    Damage that is accepted stays among the records' findings.

    Raises:
        TraceError: a trace is missing, or does not hold the step that the run recorded.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    facts = _run_facts(run, result)
    return tuple(
        _measured(folder, run, result, facts, measurement, accept_damaged)
        for measurement in result.measurements
    )


def collect_trace(path: Path, *, accept_damaged: bool = False) -> tuple[TimingRecord, ...]:
    """The records of a trace that came without its run: one per labelled forward pass.

    Raises:
        TraceError: not a trace, or one without labels of ours.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    steps, findings, info = _read(path, accept_damaged)
    if not steps:
        raise TraceError(
            str(path), "holds no labels of qwen3_profile", "record it with python -m qwen3_profile"
        )
    name = path.name.partition(".")[0]
    facts = RunFacts(run=name, trace=path.name, device=", ".join(info.devices) or None)
    # Traces of the same name are common; the time of the first step tells them apart.
    unique = f"{path.name}@{info.base_time_ns + steps[0].start_ns}"
    return tuple(
        TimingRecord(
            id=f"{unique}-c0-r{index}-{step.forward.name}",
            timestamp="",
            config_index=0,
            run_index=index,
            phase=step.forward.name,
            config=None,
            total_ns=None,
            profiled_ns=None,
            times=step,
            findings=findings,
            facts=facts,
        )
        for index, step in enumerate(steps)
    )


def _measured(
    folder: Path,
    run: Run,
    result: ConfigResult,
    facts: RunFacts,
    measurement: Measurement,
    accept_damaged: bool,
) -> TimingRecord:
    path = folder / measurement.trace
    steps, findings, _ = _read(path, accept_damaged)
    mine = [
        step
        for step in steps
        if step.number == measurement.step and step.forward.name == result.phase
    ]
    if len(mine) != 1:
        raise TraceError(
            str(path),
            f"holds {len(mine)} {result.phase} passes in step {measurement.step}, not one",
            "it is not the trace of this run; record the run again",
        )
    return TimingRecord(
        id=f"{run.id}-c{result.index}-r{measurement.run_index}-{result.phase}",
        timestamp=measurement.started,
        config_index=result.index,
        run_index=measurement.run_index,
        phase=result.phase,
        config=result.config,
        total_ns=measurement.bare_ns,
        profiled_ns=measurement.profiled_ns,
        times=mine[0],
        findings=(
            *findings,
            *_missing_labels(mine[0], run.model),
            *check_log(measurement.profiler_messages),
        ),
        facts=replace(facts, trace=measurement.trace),
    )


def _read(
    path: Path, accept_damaged: bool
) -> tuple[tuple[StepTimes, ...], tuple[Finding, ...], TraceInfo]:
    trace = read_trace(path, accept_damaged=accept_damaged)
    scopes = build_scopes(trace, select_labels(trace))
    attribution = attribute(trace, scopes)
    findings = check_trace(attribution)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    steps = read_steps(attribution)
    for step in steps:
        if not step.balances:
            raise AssertionError(f"{path}: the ledger of step {step.number} does not balance")
    return steps, findings, trace.info


def _missing_labels(step: StepTimes, model: ModelFacts) -> tuple[Finding, ...]:
    expected = labels.expected_labels(model.num_layers, frozenset(model.moe_layers))
    return check_labels((step.forward,), expected)


def _run_facts(run: Run, result: ConfigResult) -> RunFacts:
    return RunFacts(
        run=run.name,
        trace="",
        model=run.model,
        environment=run.environment,
        requested_device=run.requested_device,
        device=run.device,
        attn_implementation=result.attn_implementation,
        seed=run.seed,
        logits_to_keep=run.logits_to_keep,
        use_cache=run.use_cache,
        inference_mode=run.inference_mode,
        warnings=run.warnings,
    )
