"""Reads one trace: the only place that knows which kinds of trace there are."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from qwen3_profile.attribution.findings import refuse_damage
from qwen3_profile.attribution.processes import split_processes
from qwen3_profile.attribution.selection import read_for_records
from qwen3_profile.passes.known import Capture, Known, MeasuredConfig
from qwen3_profile.passes.labelled import read_label_ranges, read_labels
from qwen3_profile.passes.nn_modules.read import read_modules
from qwen3_profile.passes.ranges import read_ranges
from qwen3_profile.passes.reading import Reading, join_processes
from qwen3_profile.passes.windows import read_windows
from qwen3_profile.trace import Trace, read_trace


class Needs(Enum):
    """What is wanted of a trace."""

    SUMS = auto()  # the passes
    OPERATORS = auto()  # also the attribution, with every operator in its trace
    LABELS = auto()  # the attribution by the labels as they lie in the trace alone, and no passes


def read(
    path: Path,
    known: Known | None = None,
    *,
    accept_damaged: bool = False,
    needs: Needs = Needs.SUMS,
) -> Reading:
    """The forward passes of a trace.

    They are those that `known` tells of; else those with our labels; in a trace without layers of
    ours those that its nn.Module ranges show; in one without any the whole trace, by its ranges.

    Args:
        known: what its run, or its capture, tells of the trace.
        accept_damaged: read what is left of a damaged trace; the findings say so.

    Raises:
        TraceError: not a trace, or not one of what is known.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if isinstance(known, Capture):
        from qwen3_profile.passes.cuda_graphs.read import read_captured, read_replays

        captured = read_captured(known.path, accept_damaged=accept_damaged)
        trace = read_trace(path, accept_damaged=accept_damaged, launch_columns=True)
        return read_replays(path, trace, captured, accept_damaged=accept_damaged)
    if known is not None:
        found = _read_measured(path, known, accept_damaged, needs)
        if found is not None:
            return found
    if needs is Needs.LABELS:
        return read_label_ranges(path, read_trace(path, accept_damaged=accept_damaged))
    if needs is Needs.OPERATORS:
        trace = read_trace(path, accept_damaged=accept_damaged)
    else:
        recording = read_for_records(path, accept_damaged=accept_damaged)
        found = read_windows(path, recording, accept_damaged=accept_damaged)
        if found is not None:
            return found
        trace = recording.trace()
    return read_loaded(path, trace, accept_damaged=accept_damaged, by_ranges=known is None)


def read_loaded(
    path: Path, trace: Trace, *, accept_damaged: bool = False, by_ranges: bool = True
) -> Reading:
    """As `read`, of a trace that was loaded, and of which nothing else is known.

    Args:
        path: names the trace.
        by_ranges: take a trace without passes as one; that of a run of ours is none.
    """
    processes, told = split_processes(trace)
    if told is not None and not accept_damaged:
        refuse_damage(str(path), (told,))
    if told is None or not processes:
        return _read_process(path, trace, accept_damaged, by_ranges)
    each = [
        (process, _read_process(path, process.trace, accept_damaged, by_ranges))
        for process in processes
    ]
    return join_processes(path, trace, told, each)


def _read_process(path: Path, trace: Trace, accept_damaged: bool, by_ranges: bool) -> Reading:
    found = read_labels(path, trace, accept_damaged=accept_damaged)
    if found.has_layers:
        return found
    modules = read_modules(path, trace, found.findings)
    if modules is None and by_ranges and not found.passes:
        return read_ranges(path, trace, found.findings) or found
    return modules or found


def _read_measured(
    path: Path, known: MeasuredConfig, accept_damaged: bool, needs: Needs
) -> Reading | None:
    """A trace of a run that is more than one with our labels; None where it is not."""
    beside = known.eager(path)
    if beside is not None:
        from qwen3_profile.passes.cuda_graphs.eager_pass import MeasuredReplay

        result = known.result
        replay = MeasuredReplay(path, known.folder, result.phase, beside, result.quantised)
        if needs is Needs.LABELS:
            return replay.read_ranges(accept_damaged=accept_damaged)
        return replay.read(accept_damaged=accept_damaged, with_eager=needs is Needs.SUMS)
    compiled = known.result.compiled
    if needs is Needs.LABELS:
        return None
    if compiled is None:
        return _read_eager(path, known, accept_damaged, needs)
    from qwen3_profile.passes.compiled.read import load_compiled, read_compiled

    if accept_damaged not in known.compiled:
        known.compiled[accept_damaged] = load_compiled(
            known.folder, compiled, known.result.phase, accept=accept_damaged
        )
    # The kernels of a compiled graph are told by their operators, all of them.
    trace = read_trace(path, accept_damaged=accept_damaged, launch_columns=True)
    return read_compiled(path, trace, known.compiled[accept_damaged], accept_damaged=accept_damaged)


def _read_eager(
    path: Path, known: MeasuredConfig, accept_damaged: bool, needs: Needs
) -> Reading | None:
    """An eager pass with the times of less disturbed ones; None where there were none."""
    beside = known.beside(path)
    if beside is None:
        return None
    quantised = known.result.quantised
    if needs is Needs.OPERATORS or quantised:
        trace = read_trace(path, accept_damaged=accept_damaged)
    else:
        trace = read_for_records(path, accept_damaged=accept_damaged).trace()
    return read_labels(
        path, trace, accept_damaged=accept_damaged, beside=beside, quantised=quantised
    )
