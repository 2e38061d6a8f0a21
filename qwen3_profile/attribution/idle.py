"""When a device had nothing to do, before which event, and whose turn it was meanwhile.

A device is busy while any event of any of its streams runs; it knows no steps and no passes. Idle
time ends with an event, and belongs to it: from the end of all that ran before, or from the start
of the event's step, whichever is later. Each nanosecond of it is of one class, the first that fits:

    in graph    between two events of one launch of a graph: the graph's own dependencies
    queued      an event had been launched and did not run yet: another stream, a copy, the hardware
    blocked     a host thread sat in a call that waits for the device
    launching   the host was inside a call that launches an event
    starved     none of these: nobody had asked for anything. Python, dispatch, allocation

Only starved time says that the device waits for the CPU. Events whose launch is not in the trace
are never seen as queued, so that queued time is a lower bound where there are such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qwen3_profile.trace.columns import (
    Bool,
    Events,
    Int32,
    Int64,
    Trace,
    occurring,
    which,
)


class IdleTimes(NamedTuple):
    """Idle time of a device by whose turn it was, in ns; in the order in which they are tried."""

    in_graph_ns: int = 0
    queued_ns: int = 0
    blocked_ns: int = 0
    launching_ns: int = 0
    starved_ns: int = 0

    @property
    def ns(self) -> int:
        """All of it."""
        return sum(self)


def sum_idle(several: Iterable[IdleTimes]) -> IdleTimes:
    return IdleTimes(*map(sum, zip(IdleTimes(), *several, strict=True)))


# Of an event in no step: nothing keeps its idle time from reaching back to the event before.
NO_FLOOR = int(np.iinfo(np.int64).min)

_WAITS = re.compile(
    r"(cuda|cu|hip)\w*Synchronize\w*|(cuda|hip)(Memcpy|Free)|hipMemcpyWithStream|cuMem(Free|cpy[DH]to[DH])(_v2)?"
)


@dataclass(frozen=True, slots=True, eq=False)
class _Covered:
    """Disjoint stretches of time, in order: int64[n] each, and how much lies before each."""

    start_ns: Int64
    end_ns: Int64
    before_ns: Int64

    def below(self, time_ns: Int64) -> Int64:
        """How much of the stretches lies before each of these times."""
        if not len(self.start_ns):
            return np.zeros(len(time_ns), np.int64)
        at = np.searchsorted(self.start_ns, time_ns, side="right") - 1
        first = np.maximum(at, 0)
        into = np.minimum(time_ns, self.end_ns[first]) - self.start_ns[first]
        return np.where(at < 0, 0, self.before_ns[first] + into)


def find_idle(trace: Trace, launch: Int32, in_graph: Bool, device: Int32, floor_ns: Int64) -> Int64:
    """Idle time before each device event: int64[d, 5], a column for each field of `IdleTimes`.

    Args:
        launch: int32[d], of each device event its index into `trace.launches`, or below 0.
        in_graph: bool[d], whether it was launched as part of a graph.
        device: int32[d], the number of the device that it ran on.
        floor_ns: int64[d], before which none of the event's idle time lies: the start of its step;
            `NO_FLOOR` where it is in none.
    """
    found = np.zeros((len(trace.device), len(IdleTimes._fields)), np.int64)
    waits = _union(*_spans(trace.launches, _is_wait(trace, launch)))
    for number in occurring(device).tolist():
        mine = np.flatnonzero(device == number)
        mine = mine[np.argsort(trace.device.start_ns[mine], kind="stable")]
        found[mine] = _of_device(trace, launch[mine], in_graph[mine], mine, floor_ns[mine], waits)
    return found


def split_idle(gap_ns: Int64, like: Int64) -> Int64:
    """Idle time before each event by class, in the shares that it had in another pass.

    Before an event that did not wait there, though more disturbed, the device had been asked for
    it long before: that is queued.

    Args:
        gap_ns: int64[d]. like: int64[d, 5], of the same events in the other pass.
    """
    whole = like.sum(axis=1)
    known = whole > 0
    until = np.zeros_like(like)
    # Of the shares up to each class, so that what is rounded off goes to the next one.
    shares = np.cumsum(like[known], axis=1) / whole[known, np.newaxis]
    until[known] = np.rint(shares * gap_ns[known, np.newaxis]).astype(np.int64)
    split: Int64 = np.diff(until, axis=1, prepend=0)
    split[~known, IdleTimes._fields.index("queued_ns")] = gap_ns[~known]
    return split


def _of_device(
    trace: Trace, launch: Int32, in_graph: Bool, mine: Int64, floor_ns: Int64, waits: _Covered
) -> Int64:
    """int64[n, 5] of the events of one device, in order of their start."""
    start, end = trace.device.start_ns[mine], trace.device.end_ns[mine]
    begin, last = _begins(start, end, floor_ns)
    linked = np.flatnonzero(launch >= 0)
    calls = trace.launches.take(launch[linked].astype(np.int64))
    queued = _union(np.minimum(calls.end_ns, start[linked]), start[linked])
    told = _union(*_both(queued, waits))
    asked = _union(*_both(told, _union(calls.start_ns, calls.end_ns)))
    gap = start - begin
    inside = (last >= 0) & in_graph & in_graph[last] & (launch == launch[last])
    until = [np.where(inside, gap, 0)]
    for covered in (queued, told, asked):
        until.append(np.where(inside, gap, covered.below(start) - covered.below(begin)))
    classes: Int64 = np.diff(np.stack([*until, gap]), axis=0, prepend=0).T
    return classes


def _begins(start: Int64, end: Int64, floor_ns: Int64) -> tuple[Int64, Int64]:
    """When the idle time before each event began, and which event it began after; -1 for none."""
    reach = np.maximum.accumulate(end)
    before = np.concatenate((floor_ns[:1], reach[:-1]))
    is_last = np.concatenate(([True], end[1:] > reach[:-1]))
    latest = np.maximum.accumulate(np.where(is_last, np.arange(len(end)), 0))
    last = np.concatenate(([-1], latest[:-1]))
    has_floor = floor_ns > NO_FLOOR
    # Before the first event of a device, and outside of steps, nobody knows since when it idles.
    before[:1] = np.where(has_floor[:1], before[:1], start[:1])
    begin = np.minimum(np.maximum(before, floor_ns), start)
    return begin, np.where(begin > before, -1, last)


def _is_wait(trace: Trace, launch: Int32) -> Bool:
    """Which calls wait for the device: those named so, and copies to memory that is not pinned."""
    waits: Bool = which(trace.names, _waits)[trace.launches.name]
    copies = which(trace.names, _is_pageable)[trace.device.name] & (launch >= 0)
    if copies.any():
        waits = waits.copy()
        waits[launch[copies]] = True
    return waits


def _waits(name: str) -> bool:
    return _WAITS.fullmatch(name) is not None


def _is_pageable(name: str) -> bool:
    return name.startswith("Memcpy DtoH") and "Pageable" in name


def _spans(events: Events, chosen: Bool) -> tuple[Int64, Int64]:
    return events.start_ns[chosen], events.end_ns[chosen]


def _both(one: _Covered, other: _Covered) -> tuple[Int64, Int64]:
    return (
        np.concatenate((one.start_ns, other.start_ns)),
        np.concatenate((one.end_ns, other.end_ns)),
    )


def _union(start_ns: Int64, end_ns: Int64) -> _Covered:
    """The intervals, overlapping ones joined."""
    order = np.argsort(start_ns, kind="stable")
    start, reach = start_ns[order], np.maximum.accumulate(end_ns[order]) if len(order) else end_ns
    first = np.concatenate(([True], start[1:] > reach[:-1])) if len(order) else np.zeros(0, bool)
    begins = np.flatnonzero(first)
    ends = np.concatenate((begins[1:], [len(order)])) - 1 if len(order) else begins
    start, end = start[begins], reach[ends]
    return _Covered(
        start, end, np.concatenate(([0], np.cumsum(end - start)[:-1])) if len(order) else start
    )
