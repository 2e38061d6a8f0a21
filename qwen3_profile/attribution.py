"""A trace and its scopes in, every nanosecond of device time in exactly one scope out.

A device event belongs to the innermost scope that was open, on the thread that launched it, at the
moment of its launch; whenever it ran. What cannot be given to a scope keeps its reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from qwen3_profile.scopes import NO_SCOPE, ScopeTree, Step, find_steps
from qwen3_profile.trace.columns import NO_CORRELATION, Bool, Events, Int32, Int64, Trace

NO_STEP = -1
NO_LAUNCH_EVENT = -1

_GRAPH_LAUNCH = re.compile(r"(cuda|cu|hip)GraphLaunch\w*")


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
    launch: int32[d], an index into `trace.launches`, or -1.
    cross_thread: bool[d]; launched on a thread without labels, given to the one thread with labels.
    in_graph: bool[d]; launched as part of a graph.
    device_step: int32[d], scope_step: int32[s]: an index into `steps`, or -1 outside of all.
    gap_ns: int64[d], how long the device was idle before the event, within its step.
    queue_ns: int64[d], from the end of the launch to the start of the event; 0 if not linked.
    self_cpu_ns: int64[s], wall-clock of the scope less that of its children.
    self_device_ns, self_device_events, self_graph_events, self_gap_ns, self_queue_ns,
        self_launch_ns: int64[s], of what belongs to the scope itself and to none of its children.
    """

    trace: Trace
    scopes: ScopeTree
    steps: tuple[Step, ...]
    owner: Int32
    launch: Int32
    cross_thread: Bool
    in_graph: Bool
    device_step: Int32
    scope_step: Int32
    gap_ns: Int64
    queue_ns: Int64
    self_cpu_ns: Int64
    self_device_ns: Int64
    self_device_events: Int64
    self_graph_events: Int64
    self_gap_ns: Int64
    self_queue_ns: Int64
    self_launch_ns: Int64

    def with_children(self, own: Int64) -> Int64:
        """`own`, int64[s], of each scope and of all that it contains."""
        total = own.copy()
        parent = self.scopes.parent
        for i in range(len(total) - 1, -1, -1):
            if parent[i] != NO_SCOPE:
                total[parent[i]] += total[i]
        return total

    def busy_ns(self, step: int) -> int:
        """The union of the step's device intervals: the time in which any device was at work."""
        mine = self.trace.device.take(self.device_step == step)
        return union_ns(mine.start_ns, mine.end_ns)


def attribute(
    trace: Trace, scopes: ScopeTree, steps: tuple[Step, ...] | None = None
) -> Attribution:
    """Gives each device event of `trace` to one scope, or says why not.

    Args:
        steps: in time order, apart from each other; None for what `find_steps` finds.
    """
    if steps is None:
        steps = find_steps(trace)
    device, launches = trace.device, trace.launches
    launch = _find_launches(device, launches)
    owner, cross_thread = _find_owners(trace, scopes, launch)
    linked = launch != NO_LAUNCH_EVENT
    happened = np.where(linked, _at(launches.start_ns, launch), device.start_ns)
    device_step = _find_steps_of(happened, steps)
    gap_ns = _gaps(trace, device_step, steps)
    queue_ns = np.where(linked, device.start_ns - _at(launches.end_ns, launch), 0).clip(0)
    in_graph = _in_graph(trace, launch)
    count = len(scopes)
    return Attribution(
        trace=trace,
        scopes=scopes,
        steps=steps,
        owner=owner,
        launch=launch,
        cross_thread=cross_thread,
        in_graph=in_graph,
        device_step=device_step,
        scope_step=_find_steps_of(scopes.start_ns, steps),
        gap_ns=gap_ns,
        queue_ns=queue_ns,
        self_cpu_ns=_self_cpu(scopes),
        self_device_ns=sum_by_scope(owner, device.dur_ns, count),
        self_device_events=sum_by_scope(owner, np.ones(len(device), np.int64), count),
        self_graph_events=sum_by_scope(owner, in_graph.astype(np.int64), count),
        self_gap_ns=sum_by_scope(owner, gap_ns, count),
        self_queue_ns=sum_by_scope(owner, queue_ns, count),
        self_launch_ns=_launch_time(launches, scopes),
    )


def is_graph_launch(name: str) -> bool:
    """Whether a runtime or driver call of this name launches a graph."""
    return _GRAPH_LAUNCH.fullmatch(name) is not None


def union_ns(start_ns: Int64, end_ns: Int64) -> int:
    """The length of the union of intervals, in ns."""
    if not len(start_ns):
        return 0
    order = np.argsort(start_ns, kind="stable")
    start, reach = start_ns[order], np.maximum.accumulate(end_ns[order])
    idle = np.maximum(start[1:] - reach[:-1], 0)
    return int(reach[-1] - start[0] - idle.sum())


def _find_launches(device: Events, launches: Events) -> Int32:
    """For each device event the launch of the same correlation id, or -1.

    Where several runtime records share an id (a driver call inside a runtime call), the first one
    is the outermost: records are ordered by start, and the longer first.
    """
    known = np.flatnonzero(launches.correlation != NO_CORRELATION)
    found_first = (launches.category, -launches.dur_ns, launches.start_ns, launches.correlation)
    order = known[np.lexsort([key[known] for key in found_first])]
    ids = launches.correlation[order]
    if not len(ids):
        return np.full(len(device), NO_LAUNCH_EVENT, np.int32)
    at = np.searchsorted(ids, device.correlation, side="left")
    found = np.minimum(at, len(ids) - 1)
    hit = (ids[found] == device.correlation) & (device.correlation != NO_CORRELATION)
    return np.where(hit, order[found], NO_LAUNCH_EVENT).astype(np.int32)


def _find_owners(trace: Trace, scopes: ScopeTree, launch: Int32) -> tuple[Int32, Bool]:
    device, launches = trace.device, trace.launches
    linked = np.flatnonzero(launch != NO_LAUNCH_EVENT)
    track = launches.track[launch[linked]]
    time_ns = launches.start_ns[launch[linked]]
    found = scopes.innermost(track, time_ns)
    crossed = np.zeros(len(found), bool)
    labelled = np.unique(scopes.track)
    if len(labelled) == 1:
        elsewhere = (found == NO_SCOPE) & (track != labelled[0])
        only = np.full(len(found), labelled[0], np.int32)
        crossed_to = np.where(elsewhere, scopes.innermost(only, time_ns), NO_SCOPE)
        crossed = crossed_to != NO_SCOPE
        found = np.where(crossed, crossed_to, found)
    owner = _unlinked_reasons(device, launches)
    owner[linked] = np.where(found == NO_SCOPE, Reason.NO_LABEL, found)
    cross_thread = np.zeros(len(device), bool)
    cross_thread[linked] = crossed
    return owner, cross_thread


def _in_graph(trace: Trace, launch: Int32) -> Bool:
    """All device events of a graph share the correlation id of the call that launched it."""
    is_graph = np.array([is_graph_launch(name) for name in trace.names], bool)
    inside = np.zeros(len(launch), bool)
    linked = launch != NO_LAUNCH_EVENT
    inside[linked] = is_graph[trace.launches.name[launch[linked]]]
    return inside


def _unlinked_reasons(device: Events, launches: Events) -> Int32:
    """The reason of each device event, were it unlinked. Ids of launches count upwards."""
    reason = np.full(len(device), Reason.NO_LAUNCH, np.int32)
    ids = launches.correlation[launches.correlation != NO_CORRELATION]
    if len(ids):
        early = (device.correlation < ids.min()) & (device.correlation != NO_CORRELATION)
        early |= device.start_ns < launches.start_ns.min()
        reason[early] = Reason.BEFORE_WINDOW
    return reason


def _find_steps_of(time_ns: Int64, steps: tuple[Step, ...]) -> Int32:
    if not steps:
        return np.full(len(time_ns), NO_STEP, np.int32)
    starts = np.array([step.start_ns for step in steps], np.int64)
    ends = np.array([step.end_ns for step in steps], np.int64)
    at = np.searchsorted(starts, time_ns, side="right") - 1
    inside = (at >= 0) & (time_ns < ends[np.maximum(at, 0)])
    return np.where(inside, at, NO_STEP).astype(np.int32)


def _gaps(trace: Trace, device_step: Int32, steps: tuple[Step, ...]) -> Int64:
    """Idle time of the event's device before it, counted from the start of its step at most."""
    device = trace.device
    gaps = np.zeros(len(device), np.int64)
    for place in _by_step_and_device(device_number(trace), device_step):
        order = place[np.argsort(device.start_ns[place], kind="stable")]
        start = device.start_ns[order]
        reach = np.maximum.accumulate(device.end_ns[order])
        step = int(device_step[order[0]])
        first = steps[step].start_ns if step != NO_STEP else int(start[0])
        before = np.concatenate((np.array([first], np.int64), reach[:-1]))
        gaps[order] = np.maximum(start - before, 0)
    return gaps


def device_number(trace: Trace) -> Int32:
    """int32[len(trace.device)]: a number for each device that the events ran on, 0 upwards."""
    pids: dict[str, int] = {}
    of_track = [pids.setdefault(track.pid, len(pids)) for track in trace.tracks]
    return np.array(of_track, np.int32)[trace.device.track]


def _by_step_and_device(device: Int32, step: Int32) -> list[Int64]:
    """The positions of the device events of each step on each device."""
    if not len(device):
        return []
    order = np.lexsort((device, step))
    changes = (np.diff(step[order]) != 0) | (np.diff(device[order]) != 0)
    return [part.astype(np.int64) for part in np.split(order, np.flatnonzero(changes) + 1)]


def _self_cpu(scopes: ScopeTree) -> Int64:
    own = scopes.end_ns - scopes.start_ns
    child = scopes.parent != NO_SCOPE
    spent = np.zeros(len(scopes), np.int64)
    np.add.at(spent, scopes.parent[child], own[child])
    return own - spent


def _launch_time(launches: Events, scopes: ScopeTree) -> Int64:
    """Time in runtime and driver calls by innermost scope; a call inside a call counts once."""
    kept = outer_calls(launches)
    return sum_by_scope(scopes.innermost(kept.track, kept.start_ns), kept.dur_ns, len(scopes))


def outer_calls(launches: Events) -> Events:
    """The runtime and driver calls that lie in no other call of their thread."""
    order = np.lexsort((-launches.dur_ns, launches.start_ns, launches.track))
    track, start, end = launches.track[order], launches.start_ns[order], launches.end_ns[order]
    outer = np.ones(len(order), bool)
    for number in np.unique(track):
        mine = np.flatnonzero(track == number)
        reach = np.maximum.accumulate(end[mine])
        outer[mine[1:]] = start[mine[1:]] >= reach[:-1]
    return launches.take(order[outer])


def sum_by_scope(owner: Int32, values: Int64, count: int) -> Int64:
    """int64[count]: the sum of `values` for each scope; an owner below 0 is none."""
    # np.bincount sums in float64, which is exact only below 2**53.
    sums = np.zeros(count, np.int64)
    mine = owner >= 0
    np.add.at(sums, owner[mine], values[mine])
    return sums


def _at(values: Int64, index: Int32) -> Int64:
    """`values[index]`, and 0 where the index is negative."""
    if not len(values):
        return np.zeros(len(index), np.int64)
    return np.where(index >= 0, values[np.maximum(index, 0)], 0)
