"""The longest idle times of a device, and what the host did meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import NO_STEP, Attribution
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.trace.columns import LONG_OP_NS, Category, Events, Int64, Trace, which

_MOST = 5
# What covers so much of a stretch tells what the host did in it.
_MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class IdleStretch:
    """Time in which a device had nothing to do.

    start_ns: in the trace's own time. idle: how long, by whose turn it was.
    step_ns: when the step began whose event ended it; None where it is in none.
    before: the label of that event, innermost, or empty; kernel: the event's name.
    host: the innermost call, operator, label or range that the launching thread was in for most of
        it; empty where it was in none that is read: Python, what was not recorded, or an operator
        shorter than `LONG_OP_NS`.
    """

    start_ns: int
    idle: IdleTimes
    step_ns: int | None
    before: str
    kernel: str
    host: str


def longest_idle(attribution: Attribution) -> tuple[IdleStretch, ...]:
    """The few longest, the longest first."""
    gap_ns = attribution.gap_ns
    if not len(gap_ns):
        return ()
    host = _told(attribution.trace)
    return tuple(
        _stretch(attribution, event, host) for event in _longest(attribution) if gap_ns[event]
    )


def _longest(attribution: Attribution) -> list[int]:
    """The events after the longest idle times, in the order of `longest_of`."""
    gap_ns = attribution.gap_ns
    few = min(_MOST, len(gap_ns))
    least = np.partition(gap_ns, len(gap_ns) - few)[len(gap_ns) - few]
    found: Int64 = np.flatnonzero(gap_ns >= least)
    order = np.lexsort((attribution.trace.device.start_ns[found], -gap_ns[found]))
    return [int(event) for event in found[order][:few]]


def longest_of(several: Iterable[IdleStretch]) -> tuple[IdleStretch, ...]:
    """Of several the few longest, the longest first."""
    return tuple(sorted(several, key=lambda each: (-each.idle.ns, each.start_ns))[:_MOST])


def _stretch(attribution: Attribution, event: int, host: Events) -> IdleStretch:
    trace, owner = attribution.trace, int(attribution.owner[event])
    end = int(trace.device.start_ns[event])
    start = end - int(attribution.gap_ns[event])
    scopes, step = attribution.scopes, int(attribution.device_step[event])
    return IdleStretch(
        start_ns=start,
        idle=IdleTimes(*attribution.idle[event].tolist()),
        step_ns=None if step == NO_STEP else attribution.steps[step].start_ns,
        before=scopes.names[scopes.name[owner]] if owner >= 0 else "",
        kernel=trace.names[trace.device.name[event]],
        host=_host(trace, host, int(attribution.launch[event]), start, end),
    )


def _host(trace: Trace, host: Events, launch: int, start: int, end: int) -> str:
    """What the thread that made the launch was in for most of the time between."""
    if launch == NO_LAUNCH_EVENT:
        return ""
    track = int(trace.launches.track[launch])
    found = [
        (each, name)
        for events in (host, trace.launches)
        for each, name in _covering(trace, events, track, start, end)
    ]
    return min(found)[1] if found else ""


def _covering(
    trace: Trace, events: Events, track: int, start: int, end: int
) -> list[tuple[int, str]]:
    """(duration, name) of the shortest event of the thread that covers most of a stretch."""
    shared = np.minimum(events.end_ns, end) - np.maximum(events.start_ns, start)
    mine = np.flatnonzero((events.track == track) & (shared > _MOSTLY * (end - start)))
    if not len(mine):
        return []
    shortest = int(mine[np.argmin(events.dur_ns[mine])])
    return [(int(events.dur_ns[shortest]), trace.names[events.name[shortest]])]


def _told(trace: Trace) -> Events:
    """The events of the host that are read of every trace, as most short operators are not."""
    host = trace.host
    is_told = which(trace.names, _is_told)[host.name] | (host.dur_ns >= LONG_OP_NS)
    return host.take(is_told | (host.category != Category.CPU_OP))


def _is_told(name: str) -> bool:
    return labels.parse(name) is not None or name.startswith("enumerate(DataLoader)")
