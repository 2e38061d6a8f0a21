"""Gives every nanosecond of device time in a trace to exactly one scope.

A device event belongs to the innermost scope that was open, on the thread that launched it, at the
moment of its launch; whenever it ran. What cannot be given to a scope keeps its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from qwen3_profile.attribution.idle import NO_FLOOR, IdleTimes, find_idle
from qwen3_profile.attribution.impossible import find_impossible
from qwen3_profile.attribution.launches import (
    NO_LAUNCH_EVENT,
    find_launches,
    is_outer,
    launch_times,
    was_in_graph,
)
from qwen3_profile.attribution.parts import Times
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree, Step, find_steps
from qwen3_profile.trace.columns import (
    NO_CORRELATION,
    Bool,
    Events,
    Int32,
    Int64,
    Trace,
    occurring,
)

NO_STEP = -1
# What is summed by scope: of `Times` all but calls and wall-clock, which the scopes tell.
QUANTITIES = Times._fields[2:]

_EXACT_FLOAT = 2.0**53  # sums of integers below it are exact in float64, as np.bincount sums


class Reason(IntEnum):
    """Why a device event belongs to no scope; stored where a scope's index would be."""

    NO_LAUNCH = -1
    BEFORE_WINDOW = -2
    NO_LABEL = -3

    @property
    def text(self) -> str:
        return {
            Reason.NO_LAUNCH: "no launch record",
            Reason.BEFORE_WINDOW: "launched before the window",
            Reason.NO_LABEL: "no label open",
        }[self]


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Who owns what. Arrays of d entries go with `trace.device`, of s entries with `scopes`.

    owner: int32[d], a scope's index, or a `Reason`.
    call_owner: int32, for each of `trace.launches` the scope that it was called in, or -1; also -1
        for a call inside a call, so that its time counts once.
    apart: device events of an impossible duration, which are in no sum; not in `trace.device`.
    launch: int32[d], an index into `trace.launches`, or -1.
    cross_thread: bool[d]; launched on a thread with no label open then, given to the one thread
        that had one.
    in_graph: bool[d]; launched as part of a graph.
    device_step: int32[d], scope_step: int32[s]: an index into `steps`, or -1 outside of all.
    idle: int64[d, 5], how long the device was idle before the event, within its step: a column for
        each field of `IdleTimes`. gap_ns: int64[d], their sums.
    queue_ns: int64[d], from the end of the launch to the start of the event; 0 if not linked.
    sums: int64[s, QUANTITIES], of what belongs to the scope itself and to none of its children.
    """

    trace: Trace
    scopes: ScopeTree
    steps: tuple[Step, ...]
    owner: Int32
    call_owner: Int32
    apart: Events
    launch: Int32
    cross_thread: Bool
    in_graph: Bool
    device_step: Int32
    idle: Int64
    queue_ns: Int64
    gap_ns: Int64 = field(init=False)
    scope_step: Int32 = field(init=False)
    sums: Int64 = field(init=False)

    def __post_init__(self) -> None:
        # What follows from the others is never left behind by `replace`.
        object.__setattr__(self, "gap_ns", self.idle.sum(axis=1))
        object.__setattr__(self, "scope_step", find_steps_of(self.scopes.start_ns, self.steps))
        object.__setattr__(self, "sums", _sum_by_scope(self))

    def sum_of(self, quantity: str) -> Int64:
        """int64[s]: the column of `sums` of this name."""
        return self.sums[:, QUANTITIES.index(quantity)]

    def with_scopes(
        self,
        rows: Sequence[NewScope],
        owner: Int32,
        call_owner: Int32 | None = None,
        cross_thread: Bool | None = None,
    ) -> Attribution:
        """With more scopes behind all others, and with other owners, as far as they are given."""
        return replace(
            self,
            scopes=self.scopes.append(rows),
            owner=owner,
            call_owner=self.call_owner if call_owner is None else call_owner,
            cross_thread=self.cross_thread if cross_thread is None else cross_thread,
        )


def attribute(
    trace: Trace, scopes: ScopeTree, steps: tuple[Step, ...] | None = None
) -> Attribution:
    """Gives each device event of `trace` to one scope, or says why not.

    Args:
        steps: in time order, apart from each other; None for what `find_steps` finds.
    """
    if steps is None:
        steps = find_steps(trace)
    launch = find_launches(trace.device, trace.launches)
    in_graph = was_in_graph(trace, launch)
    odd = find_impossible(trace, launch, in_graph)
    apart = trace.device.take(np.flatnonzero(odd))
    if len(apart):
        trace = replace(trace, device=trace.device.take(~odd))
        launch, in_graph = launch[~odd], in_graph[~odd]
    launched_ns, queue_ns = launch_times(trace.device, trace.launches, launch)
    device_step = find_steps_of(launched_ns, steps)
    owner, call_owner, cross_thread = _find_owners(trace, scopes, launch)
    return Attribution(
        trace=trace,
        scopes=scopes,
        steps=steps,
        owner=owner,
        call_owner=call_owner,
        apart=apart,
        launch=launch,
        cross_thread=cross_thread,
        in_graph=in_graph,
        device_step=device_step,
        idle=_idle(trace, launch, in_graph, device_step, steps),
        queue_ns=queue_ns,
    )


def attribute_again(found: Attribution, scopes: ScopeTree) -> Attribution:
    """As `attribute`, with other scopes of the same trace and the same steps."""
    owner, call_owner, cross_thread = _find_owners(found.trace, scopes, found.launch)
    return replace(
        found, scopes=scopes, owner=owner, call_owner=call_owner, cross_thread=cross_thread
    )


def union_ns(start_ns: Int64, end_ns: Int64) -> int:
    """The length of the union of intervals, in ns."""
    if not len(start_ns):
        return 0
    order = np.argsort(start_ns, kind="stable")
    start, reach = start_ns[order], np.maximum.accumulate(end_ns[order])
    idle = np.maximum(start[1:] - reach[:-1], 0)
    return int(reach[-1] - start[0] - idle.sum())


def _find_owners(trace: Trace, scopes: ScopeTree, launch: Int32) -> tuple[Int32, Int32, Bool]:
    """`owner`, `call_owner` and `cross_thread` of an attribution."""
    launches = trace.launches
    call_owner = scopes.innermost(launches.track, launches.start_ns)
    owner, cross_thread = _find_device_owners(trace, scopes, launch, call_owner)
    call_owner[~is_outer(launches)] = NO_SCOPE
    return owner, call_owner, cross_thread


def _find_device_owners(
    trace: Trace, scopes: ScopeTree, launch: Int32, scope_of_launch: Int32
) -> tuple[Int32, Bool]:
    device, launches = trace.device, trace.launches
    cross_thread = np.zeros(len(device), bool)
    unlinked = launch == NO_LAUNCH_EVENT
    if unlinked.all():
        return _unlinked_reasons(device, launches), cross_thread
    owner = scope_of_launch[launch]
    left = np.flatnonzero((owner == NO_SCOPE) & ~unlinked)
    if len(left) and len(scopes):
        calls, place = np.unique(launch[left], return_inverse=True)
        elsewhere = open_elsewhere(scopes, launches.take(calls.astype(np.int64)))
        owner[left] = elsewhere[place]
        cross_thread[left] = owner[left] != NO_SCOPE
        left = left[owner[left] == NO_SCOPE]
    owner[left] = Reason.NO_LABEL
    if unlinked.any():
        owner[unlinked] = _unlinked_reasons(device, launches)[unlinked]
    return owner, cross_thread


def open_elsewhere(scopes: ScopeTree, calls: Events) -> Int32:
    """For calls on threads with no scope open: the innermost scope of the one other thread that
    has one open at the call's start, or -1 where none has, or several have."""
    found = np.full(len(calls), NO_SCOPE, np.int32)
    several = np.zeros(len(calls), bool)
    for number in occurring(scopes.track).tolist():
        there = scopes.innermost(np.full(len(calls), number, np.int32), calls.start_ns)
        is_open = there != NO_SCOPE
        several |= is_open & (found != NO_SCOPE)
        found[is_open] = there[is_open]
    found[several] = NO_SCOPE
    return found


def _unlinked_reasons(device: Events, launches: Events) -> Int32:
    """The reason of each device event, were it unlinked. Ids of launches count upwards."""
    reason = np.full(len(device), Reason.NO_LAUNCH, np.int32)
    ids = launches.correlation[launches.correlation != NO_CORRELATION]
    if len(ids):
        early = (device.correlation < ids.min()) & (device.correlation != NO_CORRELATION)
        early |= device.start_ns < launches.start_ns.min()
        reason[early] = Reason.BEFORE_WINDOW
    return reason


def find_steps_of(time_ns: Int64, steps: tuple[Step, ...]) -> Int32:
    """Which of `steps` each time is in, or -1."""
    if not steps:
        return np.full(len(time_ns), NO_STEP, np.int32)
    starts = np.array([step.start_ns for step in steps], np.int64)
    ends = np.array([step.end_ns for step in steps], np.int64)
    at = np.searchsorted(starts, time_ns, side="right") - 1
    inside = (at >= 0) & (time_ns < ends[np.maximum(at, 0)])
    return np.where(inside, at, NO_STEP).astype(np.int32)


def _idle(trace: Trace, launch: Int32, in_graph: Bool, step: Int32, steps: Sequence[Step]) -> Int64:
    """Idle time before each event, counted from the start of its step at most; see `find_idle`."""
    starts = np.array([*(each.start_ns for each in steps), NO_FLOOR], np.int64)
    # Outside of steps, -1, it is that of no step, the last.
    return find_idle(trace, launch, in_graph, device_number(trace), starts[step])


def device_number(trace: Trace) -> Int32:
    """int32[len(trace.device)]: a number for each device that the events ran on, 0 upwards."""
    pids: dict[str, int] = {}
    of_track = [pids.setdefault(track.pid, len(pids)) for track in trace.tracks]
    return np.array(of_track, np.int32)[trace.device.track]


def _sum_by_scope(found: Attribution) -> Int64:
    """`Attribution.sums`: a column for each of `QUANTITIES`."""
    trace, owner, count = found.trace, found.owner, len(found.scopes)
    columns = {
        "device_ns": sum_by_scope(owner, trace.device.dur_ns, count),
        "device_events": count_by_scope(owner, count),
        "graph_events": count_by_scope(owner[found.in_graph], count),
        "launch_ns": sum_by_scope(found.call_owner, trace.launches.dur_ns, count),
        "gap_ns": sum_by_scope(owner, found.gap_ns, count),
        **{
            name: sum_by_scope(owner, column, count)
            for name, column in zip(IdleTimes._fields, found.idle.T, strict=True)
        },
        "queue_ns": sum_by_scope(owner, found.queue_ns, count),
    }
    return np.stack([columns[name] for name in QUANTITIES], axis=1)


def sum_by_scope(owner: Int32, values: Int64, count: int) -> Int64:
    """int64[count]: the sum of `values`, of 0 or more, for each scope; an owner below 0 is none."""
    mine = owner >= 0
    if not mine.all():
        owner, values = owner[mine], values[mine]
    if int(values.max(initial=0)) * len(values) < _EXACT_FLOAT or (
        float(values.sum(dtype=np.float64)) < _EXACT_FLOAT
    ):
        return np.bincount(owner, values, count).astype(np.int64)
    sums = np.zeros(count, np.int64)
    np.add.at(sums, owner, values)
    return sums


def count_by_scope(owner: Int32, count: int) -> Int64:
    """int64[count]: how often each scope is an owner; one below 0 is none."""
    return np.bincount(owner[owner >= 0], minlength=count)
