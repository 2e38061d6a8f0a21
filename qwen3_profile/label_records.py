"""Passes with our labels in, their records out; those of a long trace window by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_profile.attribution import Attribution, attribute
from qwen3_profile.backward import split_backward
from qwen3_profile.checks import check_trace
from qwen3_profile.collectives import split_collectives
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.health import Finding, refuse_damage
from qwen3_profile.modules.foreign import trace_facts, unique_name
from qwen3_profile.records import RunFacts, TimingRecord
from qwen3_profile.scopes import build_scopes, select_labels
from qwen3_profile.steps import StepTimes, layers, read_steps
from qwen3_profile.trace import Category, Recording
from qwen3_profile.windows import Outline, is_long, outline, stand_apart, windows


def collect_windows(
    path: Path, recording: Recording, *, rank: int | None = None, accept_damaged: bool = False
) -> tuple[TimingRecord, ...]:
    """The records of a long trace; none where it is short, or must be seen as a whole.

    Args:
        path: names the trace in its records.
        rank: of the process that wrote it, where its file does not say so.

    Raises:
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if not is_long(recording) or recording.has(Category.PYTHON_FUNCTION) or recording.has_autograd:
        return ()
    outlines: list[Outline] = []
    steps: list[StepTimes] = []
    facts: RunFacts | None = None
    for trace, its_steps in windows(recording):
        found = attribute(trace, build_scopes(trace, select_labels(trace)), its_steps)
        outlines.append(outline(found, check_trace(found)))
        told = trace_facts(path, trace)
        if rank is not None:
            told = replace(told, rank=rank)
        if not stand_apart(outlines) or facts not in (None, told):
            return ()
        facts = told
        steps += read_steps(split_parts(found))
    if facts is None or not any(layers(step.forward) for step in steps):
        return ()
    findings = outlines[0].findings
    if not accept_damaged:
        refuse_damage(str(path), findings)
    demand_balance(path, steps)
    return label_records(unique_name(path, recording.info, steps), steps, findings, facts)


def label_records(
    unique: str, steps: Sequence[StepTimes], findings: tuple[Finding, ...], facts: RunFacts
) -> tuple[TimingRecord, ...]:
    """A record of each of the steps with our labels."""
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


def split_parts(found: Attribution) -> Attribution:
    """Gives backwards and collectives parts of their own."""
    return split_collectives(split_backward(found))


def demand_balance(path: Path, steps: Iterable[StepTimes]) -> None:
    """Refuses steps whose parts and rest are not the sum of their device events."""
    for step in steps:
        if not step.balances:
            raise DamagedTraceError(
                str(path),
                f"step {step.number} does not balance: {step.forward.name} with "
                f"{step.forward.total.device_ns} ns and {step.unattributed_ns} ns without label "
                f"are not the {step.device_ns} ns of its device events",
                "a step may hold one forward pass, and no label outside it",
            )
