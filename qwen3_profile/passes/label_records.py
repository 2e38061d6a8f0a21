"""Passes with our labels in, their records out; those of a long trace window by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.backward import split_backward
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import Finding, refuse_damage
from qwen3_profile.attribution.scopes import Step, build_scopes, select_labels
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes.nn_modules.read import trace_facts, unique_name
from qwen3_profile.passes.pass_times import StepTimes, layers, read_steps
from qwen3_profile.passes.windows import Outline, is_long, map_windows, outline, stand_apart
from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.trace import Category, Recording, Trace


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

    def look(trace: Trace, its_steps: tuple[Step, ...]) -> _Look:
        found = attribute(trace, build_scopes(trace, select_labels(trace)), its_steps)
        outlined = outline(found, check_trace(found))
        return _Look(outlined, trace_facts(path, trace), read_steps(split_parts(found)))

    looks = map_windows(recording, look)
    steps = [step for each in looks for step in each.steps]
    if not any(layers(step.forward) for step in steps):
        return ()
    if len({each.facts for each in looks}) > 1 or not stand_apart([e.outline for e in looks]):
        return ()
    facts, findings = looks[0].facts, looks[0].outline.findings
    if rank is not None:
        facts = replace(facts, rank=rank)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    demand_balance(path, steps)
    return label_records(unique_name(path, recording.info, steps), steps, findings, facts)


@dataclass(frozen=True, slots=True)
class _Look:
    """What is seen of one window of a long trace."""

    outline: Outline
    facts: RunFacts
    steps: tuple[StepTimes, ...]


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
