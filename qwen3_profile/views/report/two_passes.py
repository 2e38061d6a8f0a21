"""Lays the device events of one pass under the labels of another, faster one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.trace.columns import Bool, Int64

_FOR_CPU = [IdleTimes._fields.index(name) for name in ("launching_ns", "starved_ns")]


def lay_under_labels(attribution: Attribution, traced: Attribution, events: Int64) -> Attribution:
    """The events where they would lie had their pass been as fast as that of the labels.

    An event that the device waited for begins as long after its launch as in the traced pass, which
    knows both. Those between two of these lie as they did in the pass of the device, in proportion.
    Lengths stay, and no event begins before its launch or before the one before it on its stream
    has ended.

    Args:
        traced: the same, with the times of the traced pass. events: those of the pass.
    """
    device = attribution.trace.device
    mine = events[np.argsort(device.start_ns[events], kind="stable")]
    start_ns = device.start_ns[mine]
    launched_ns, latency_ns, linked = _launched(attribution, traced, mine)
    known = linked & _were_waited_for(attribution, mine)
    start_ns = _between(start_ns, start_ns[known], (launched_ns + latency_ns)[known])
    start_ns = np.where(linked, np.maximum(start_ns, launched_ns), start_ns)
    for track in np.unique(device.track[mine]).tolist():
        on_track = device.track[mine] == track
        start_ns[on_track] = _one_by_one(start_ns[on_track], device.dur_ns[mine[on_track]])
    moved = device.start_ns.copy()
    moved[mine] = start_ns
    return replace(
        attribution, trace=replace(attribution.trace, device=replace(device, start_ns=moved))
    )


def _launched(
    attribution: Attribution, traced: Attribution, events: Int64
) -> tuple[Int64, Int64, Bool]:
    """When each was launched, by the labels' clock; how long before it began in the traced pass;
    and for which of them both are known.
    """
    launch = attribution.launch[events]
    linked: Bool = launch != NO_LAUNCH_EVENT
    if not linked.any():
        return np.zeros(len(events), np.int64), np.zeros(len(events), np.int64), linked
    at = np.where(linked, launch, 0)
    latency_ns = traced.trace.device.start_ns[events] - traced.trace.launches.start_ns[at]
    return attribution.trace.launches.start_ns[at], np.maximum(latency_ns, 0), linked


def _were_waited_for(attribution: Attribution, events: Int64) -> Bool:
    """Before which events the device was idle because the CPU had not launched them, mostly."""
    idle = attribution.idle[events]
    waited: Bool = 2 * idle[:, _FOR_CPU].sum(axis=1) > idle.sum(axis=1)
    return waited


def _between(times_ns: Int64, known_ns: Int64, goal_ns: Int64) -> Int64:
    """Times in proportion to those that are known, in order; shifted before and behind them."""
    if not len(known_ns):
        return times_ns.copy()
    zero, goal = known_ns[0], goal_ns[0]
    reached = np.maximum.accumulate(goal_ns)
    inside = np.interp(times_ns - zero, known_ns - zero, reached - goal).round().astype(np.int64)
    outside = np.minimum(times_ns - zero, 0) + np.maximum(times_ns - known_ns[-1], 0)
    found: Int64 = goal + inside + outside
    return found


def _one_by_one(start_ns: Int64, dur_ns: Int64) -> Int64:
    """The earliest starts, none before its own, at which no event begins before another ends."""
    before_ns = np.cumsum(dur_ns) - dur_ns
    found: Int64 = np.maximum.accumulate(start_ns - before_ns) + before_ns
    return found
