"""A trace that another program recorded with stacks in, one timing record per forward pass out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.attribution.attribute import NO_STEP, Attribution, attribute
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes.pass_times import StepTimes, read_steps
from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.trace import Trace, TraceInfo
from qwen3_profile.trace.columns import occurring

if TYPE_CHECKING:
    from qwen3_profile.passes.nn_modules.block_parts import Instance
    from qwen3_profile.passes.nn_modules.passes import Pass
    from qwen3_profile.passes.nn_modules.scopes import ModuleScopes


def collect_modules(
    path: Path, trace: Trace, facts: RunFacts, findings: tuple[Finding, ...]
) -> tuple[TimingRecord, ...]:
    """The records of the forward passes that the trace's module calls show; none without such.

    Each model of the trace is a config of its own, and each of its passes a run.

    Args:
        facts: what the trace says of its run; goes into each record.
        findings: what is odd in the trace; goes into each record.

    Raises:
        DamagedTraceError: the passes cannot be told apart, so that no sum would be right.
    """
    from qwen3_profile.passes.nn_modules.scopes import (
        build_module_scopes,  # not for traces with our labels
    )

    modules = build_module_scopes(trace)
    if modules is None:
        return ()
    attribution, _ = _attribute(trace, modules)
    steps = read_steps(attribution)
    if len(steps) != len(modules.passes) or not all(step.balances for step in steps):
        raise DamagedTraceError(
            str(path), "its nn.Module ranges do not nest, so they give no forward passes",
            "account for its device time with --ledger",
        )  # fmt: skip
    findings += tuple(
        finding for finding in (outside_passes(attribution), _crossing(attribution)) if finding
    )
    unique = unique_name(path, trace.info, steps)
    return _records(unique, facts, modules.passes, steps, findings)


def attribute_modules(trace: Trace) -> tuple[Attribution, int] | None:
    """What the records of a trace with nn.Module ranges are sums of; None where it has no such.

    Returns:
        The attribution, and how many of its scopes are ranges of the trace: the first ones.
    """
    from qwen3_profile.passes.nn_modules.scopes import build_module_scopes

    modules = build_module_scopes(trace)
    return None if modules is None else _attribute(trace, modules)


def _attribute(trace: Trace, modules: ModuleScopes) -> tuple[Attribution, int]:
    ranges = attribute(trace, modules.scopes, modules.steps)
    return split_collectives(ranges), len(ranges.scopes)


def _records(
    unique: str,
    facts: RunFacts,
    passes: Sequence[Pass],
    steps: Sequence[StepTimes],
    findings: tuple[Finding, ...],
) -> tuple[TimingRecord, ...]:
    models: dict[Instance, int] = {}
    runs: dict[Instance, int] = {}
    found = []
    for item, step in zip(passes, steps, strict=True):
        config = models.setdefault(item.model, len(models))
        run = runs[item.model] = runs.get(item.model, -1) + 1
        found.append(
            TimingRecord(
                id=f"{unique}-c{config}-r{run}-{item.phase}",
                timestamp="",
                config_index=config,
                run_index=run,
                phase=item.phase,
                config=None,
                total_ns=None,
                profiled_ns=None,
                times=step,
                findings=findings,
                facts=replace(facts, model_class=item.model[0]),
                phase_source=item.phase_source,
            )
        )
    return tuple(found)


def unique_name(path: Path, info: TraceInfo, steps: Sequence[StepTimes]) -> str:
    """Traces of the same name are common; the time of the first step tells them apart."""
    return f"{path.name}@{info.base_time_ns + steps[0].start_ns}"


def trace_facts(path: Path, trace: Trace) -> RunFacts:
    """What a lone trace says of the run that wrote it."""
    return RunFacts(
        run=path.name.partition(".")[0],
        trace=path.name,
        device=", ".join(_used_devices(trace)) or None,
        rank=trace.info.rank,
        world_size=trace.info.world_size,
    )


def _used_devices(trace: Trace) -> tuple[str, ...]:
    """The names of the devices that worked; a trace lists all that its host has."""
    names = trace.info.devices
    if not len(trace.device):
        return tuple(dict.fromkeys(filter(None, names)))
    pids = sorted({trace.tracks[track].pid for track in occurring(trace.device.track).tolist()})
    used = [int(pid) for pid in pids if pid.isascii() and pid.isdecimal() and len(pid) < 6]
    known = [names[number] for number in used if number < len(names)]
    return tuple(dict.fromkeys(filter(None, known or names)))


def outside_passes(attribution: Attribution) -> Finding | None:
    """Tells of the device events that are in no pass, if there are any."""
    device = attribution.trace.device
    outside = attribution.device_step == NO_STEP
    count, ns = int(outside.sum()), int(device.dur_ns[outside].sum())
    if not count:
        return None
    return Finding(
        WARNING,
        "outside-passes",
        f"{count} of {len(device)} device events ({ns} ns) lie before or between the forward "
        "passes and are in no record; --ledger accounts for them",
        count=count,
        ns=ns,
        example=attribution.trace.names[device.name[outside][0]],
    )


def _crossing(attribution: Attribution) -> Finding | None:
    cut = attribution.scopes.crossing
    if not cut.count:
        return None
    return Finding(
        NOTE,
        "modules-cross",
        f"{cut.count} calls of modules end after the call around them; they were cut at its end",
        count=cut.count,
        ns=cut.ns,
        example=cut.example,
    )
