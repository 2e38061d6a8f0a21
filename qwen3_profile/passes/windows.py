"""Long traces window by window: where they may be cut, and whether each window stands alone.

The trace of a long decode is gigabytes, and most of what is known of its events is needed for a
moment only. So it is cut between steps, where nothing is under way: a range, a launch or a device
event on either side has nothing to do with the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from qwen3_profile.attribution.attribute import NO_STEP, Attribution, attribute, device_number
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.checks import LONGEST_TRACE_NS, check_trace
from qwen3_profile.attribution.collective_times import Collectives, joined
from qwen3_profile.attribution.find_collectives import find_collectives
from qwen3_profile.attribution.findings import Finding, refuse_damage
from qwen3_profile.attribution.idle_stretches import longest_of
from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.attribution.processes import may_be_several
from qwen3_profile.attribution.scopes import Step, find_steps, may_be_step
from qwen3_profile.passes.labelled import split_parts
from qwen3_profile.passes.pass_times import PassTimes, read_steps
from qwen3_profile.passes.reading import (
    DeviceTotals,
    Origin,
    Reading,
    demand_balance,
    device_totals,
    sum_totals,
    used_devices,
)
from qwen3_profile.system.processes import map_in_turns
from qwen3_profile.trace import Category, CompactTrace, Trace
from qwen3_profile.trace.columns import NO_CORRELATION, Span

_Result = TypeVar("_Result")

# Ranges, launches and device events that are looked at together.
_WINDOW_EVENTS = 40_000
# What a file says of itself is found in each of its traces.
_OF_THE_FILE = frozenset({"cut-off", "profiler-log", "unknown-category"})


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a trace says whether it stands apart from those before and after it.

    correlations: from the least id of a launch or device event to the largest.
    is_open: whether a device's first event lies outside of all steps, so that it is not known here
        since when the device had been idle.
    """

    findings: tuple[Finding, ...]
    device_events: int
    is_open: bool
    correlations: Span | None


@dataclass(frozen=True, slots=True)
class _Window:
    """What is seen of one window of a long trace; the rest as of a `Reading`."""

    outline: Outline
    device: str | None
    totals: DeviceTotals
    passes: tuple[PassTimes, ...]
    collectives: Collectives


def read_windows(
    path: Path, recording: CompactTrace, *, accept_damaged: bool = False
) -> Reading | None:
    """A long trace with our labels; None where it is short, or must be seen as a whole.

    Raises:
        DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
    """
    if not is_long(recording) or recording.has(Category.PYTHON_FUNCTION) or recording.has_autograd:
        return None
    windows = map_windows(recording, _read_window)
    passes = _with_longest([each for window in windows for each in window.passes])
    if not any(layers(each.forward) for each in passes):
        return None
    outlines = [window.outline for window in windows]
    if len({window.device for window in windows}) > 1 or not stand_apart(outlines):
        return None
    findings = outlines[0].findings
    if not accept_damaged:
        refuse_damage(str(path), findings)
    demand_balance(path, passes)
    return Reading(
        path=path,
        info=recording.info,
        source="label",
        device=windows[0].device,
        totals=sum_totals(window.totals for window in windows),
        passes=passes,
        origins=(Origin(),) * len(passes),
        findings=findings,
        collectives=joined(window.collectives for window in windows),
    )


def _with_longest(passes: Sequence[PassTimes]) -> tuple[PassTimes, ...]:
    """With the longest idle times of all windows, in place of those of each."""
    longest = longest_of(each for found in passes for each in found.stretches)
    return tuple(
        replace(found, stretches=tuple(each for each in longest if each in found.stretches))
        for found in passes
    )


def _read_window(trace: Trace, steps: tuple[Step, ...]) -> _Window:
    attribution = attribute(trace, build_scopes(trace, select_labels(trace)), steps)
    parts = split_parts(attribution)
    return _Window(
        outline(attribution, check_trace(attribution)),
        used_devices(attribution.trace),
        device_totals(attribution.trace),
        read_steps(parts),
        find_collectives(parts, parts, len(attribution.scopes)),
    )


def is_long(recording: CompactTrace) -> bool:
    """Whether the recording is better looked at window by window; not if of several processes."""
    return len(recording) > _WINDOW_EVENTS and not may_be_several(recording.host_tracks)


def map_windows(
    recording: CompactTrace, work: Callable[[Trace, tuple[Step, ...]], _Result]
) -> list[_Result]:
    """The recording cut where nothing is under way: what `work` makes of each stretch, in order.

    Args:
        work: takes a stretch and the steps that begin in it; it may run in a fork of this process.
    """
    steps = find_steps(recording.host(may_be_step))

    def cut_out(stretch: tuple[int, int]) -> _Result:
        begin, end = stretch
        mine = tuple(step for step in steps if begin <= step.start_ns < end)
        return work(recording.between(begin, end), mine)

    return map_in_turns(cut_out, list(pairwise(_borders(recording, steps))))


def outline(attribution: Attribution, findings: tuple[Finding, ...]) -> Outline:
    """That of the trace which was attributed.

    Args:
        findings: what is odd in it.
    """
    return Outline(
        findings=findings,
        device_events=len(attribution.trace.device),
        is_open=_is_open(attribution),
        correlations=_correlations(attribution.trace),
    )


def stand_apart(outlines: Sequence[Outline]) -> bool:
    """Whether nothing in one of the traces would be seen otherwise among the others.

    Nothing is odd in any of them; no id of a launch occurs twice; and no idle time reaches back
    into the one before.
    """
    findings = outlines[0].findings
    if any(finding.code not in _OF_THE_FILE for finding in findings):
        return False
    if any(each.findings != findings for each in outlines):
        return False
    # A trace of one device event has nothing that this event could be too long for.
    if min(each.device_events for each in outlines) < 2 and any(
        each.device_events or each.correlations for each in outlines
    ):
        return False
    if any(each.is_open for each in outlines[1:]):
        return False
    ids = sorted(
        (each.correlations.first_ns, each.correlations.last_ns)
        for each in outlines
        if each.correlations is not None
    )
    return all(one[1] < other[0] for one, other in pairwise(ids))


def _borders(recording: CompactTrace, steps: tuple[Step, ...]) -> list[int]:
    """Times at which to cut the recording, from before its first event to behind its last."""
    span = recording.span
    if span is None or span.last_ns - span.first_ns > LONGEST_TRACE_NS:
        return []
    starts = np.array([step.start_ns for step in steps[1:]], np.int64)
    quiet = starts[recording.is_quiet(starts)].tolist()
    wanted = -(-len(recording) // _WINDOW_EVENTS)
    every = max(1, -(-(len(quiet) + 1) // wanted))
    return [span.first_ns, *quiet[every - 1 :: every], span.last_ns + 1]


def _is_open(found: Attribution) -> bool:
    number = device_number(found.trace)
    order = np.lexsort((found.trace.device.start_ns, number))
    first = order[np.unique(number[order], return_index=True)[1]]
    return bool((found.device_step[first] == NO_STEP).any())


def _correlations(trace: Trace) -> Span | None:
    ids = np.concatenate((trace.launches.correlation, trace.device.correlation))
    ids = ids[ids != NO_CORRELATION]
    return Span(int(ids.min()), int(ids.max())) if len(ids) else None
