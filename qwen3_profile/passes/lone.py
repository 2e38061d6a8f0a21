"""A trace that came without its run in, its timing records out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_profile.attribution.selection import read_for_records
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.label_records import collect_windows, label_records
from qwen3_profile.passes.labelled import read_passes
from qwen3_profile.passes.nn_modules.read import collect_modules, trace_facts, unique_name
from qwen3_profile.passes.pass_times import layers
from qwen3_profile.passes.ranges import collect_whole
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace import Trace


def collect_trace(path: Path, *, accept_damaged: bool = False) -> tuple[TimingRecord, ...]:
    """The records of a trace that came without its run: one per forward pass.

    Passes are those with our labels; in a trace without such, those that its nn.Module ranges show.

    Raises:
        TraceError: not a trace, or one with neither.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    recording = read_for_records(path, accept_damaged=accept_damaged)
    found = collect_windows(path, recording, accept_damaged=accept_damaged)
    if not found:
        found = collect_read_trace(path, recording.trace(), accept_damaged=accept_damaged)
    if not found:
        raise TraceError(
            str(path),
            "holds neither labels of qwen3_profile nor nn.Module ranges, which give layers",
            "--ledger FILE accounts for its device time by the ranges that it has",
        )
    return found


def collect_read_trace(
    path: Path,
    trace: Trace,
    *,
    rank: int | None = None,
    whole: bool = False,
    accept_damaged: bool = False,
) -> tuple[TimingRecord, ...]:
    """As `collect_trace`, of a trace that has been read; none where it has neither.

    Args:
        path: names the trace in its records.
        rank: of the process that wrote it, where its file does not say so.
        whole: of a trace without passes make one record, by whatever ranges it has.
    """
    steps, findings = read_passes(path, trace, accept_damaged)
    facts = replace(trace_facts(path, trace), rank=trace.info.rank if rank is None else rank)
    if not any(layers(step.forward) for step in steps):
        found = collect_modules(path, trace, facts, findings)
        if not found and whole and not steps:
            found = collect_whole(path, trace, facts, findings)
        if found:
            return found
    if not steps:
        return ()
    return label_records(unique_name(path, trace.info, steps), steps, findings, facts)
