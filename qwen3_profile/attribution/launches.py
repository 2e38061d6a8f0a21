"""Which call launched a device event: they share a correlation id."""

from __future__ import annotations

import re

import numpy as np

from qwen3_profile.trace.columns import (
    NO_CORRELATION,
    Bool,
    Events,
    Int32,
    Int64,
    Trace,
    occurring,
    which,
)

NO_LAUNCH_EVENT = -1

_LONGEST_TABLE = 1 << 20  # of ids with gaps between them
_GRAPH_LAUNCH = re.compile(
    r"(cuda|cu|hip)GraphLaunch\w*|ur\w*Enqueue\w*CommandBuffer\w*|urCommandBufferEnqueue\w*"
)


def is_graph_launch(name: str) -> bool:
    """Whether a runtime or driver call of this name launches a graph."""
    return _GRAPH_LAUNCH.fullmatch(name) is not None


def find_launches(device: Events, launches: Events) -> Int32:
    """For each device event the launch of the same correlation id, or -1.

    Where several runtime records share an id (a driver call inside a runtime call), the first one
    is the outermost: records are ordered by start, and the longer first.
    """
    known = np.flatnonzero(launches.correlation != NO_CORRELATION)
    order = known[in_order(launches.correlation[known])]
    ids = launches.correlation[order]
    if (ids[1:] == ids[:-1]).any():
        found_first = (launches.category, -launches.dur_ns, launches.start_ns, launches.correlation)
        order = known[np.lexsort([key[known] for key in found_first])]
    if not len(ids):
        return np.full(len(device), NO_LAUNCH_EVENT, np.int32)
    wanted = device.correlation
    at = _first_places(ids, np.clip(wanted, ids[0], ids[-1]))
    hit = (ids[at] == wanted) & (wanted != NO_CORRELATION)
    return np.where(hit, order[at], NO_LAUNCH_EVENT).astype(np.int32)


def _first_places(ids: Int64, wanted: Int64) -> Int64 | Int32:
    """Where in `ids`, in order, each of the wanted first is; of those between them, anywhere.

    Ids are counted upwards, so that a table of all of them is small; to look up is sooner done
    than to search.
    """
    count = int(ids[-1]) - int(ids[0]) + 1
    if count > max(_LONGEST_TABLE, 4 * len(ids)):
        return np.searchsorted(ids, wanted, side="left")
    table = np.zeros(count, np.int32)
    table[ids[::-1] - ids[0]] = np.arange(len(ids) - 1, -1, -1, dtype=np.int32)
    places: Int32 = table[wanted - ids[0]]
    return places


def launch_times(device: Events, launches: Events, launch: Int32) -> tuple[Int64, Int64]:
    """When each device event was launched, or ran if nobody knows that; and its `queue_ns`."""
    if not len(launches):
        return device.start_ns, np.zeros(len(device), np.int64)
    launched_ns = launches.start_ns[launch]
    queue_ns = device.start_ns - launched_ns
    queue_ns -= launches.dur_ns[launch]
    np.maximum(queue_ns, 0, out=queue_ns)
    unlinked = launch == NO_LAUNCH_EVENT
    if unlinked.any():
        launched_ns[unlinked] = device.start_ns[unlinked]
        queue_ns[unlinked] = 0
    return launched_ns, queue_ns


def was_in_graph(trace: Trace, launch: Int32) -> Bool:
    """All device events of a graph share the correlation id of the call that launched it."""
    inside = np.zeros(len(launch), bool)
    if not which(trace.names, is_graph_launch).any():
        return inside
    linked = launch != NO_LAUNCH_EVENT
    inside[linked] = which(trace.names, is_graph_launch)[trace.launches.name[launch[linked]]]
    return inside


def in_order(numbers: Int32 | Int64) -> Int64:
    """As a stable argsort; most columns of a trace are in order, which is seen sooner."""
    if (numbers[1:] >= numbers[:-1]).all():
        return np.arange(len(numbers))
    return np.argsort(numbers, kind="stable")


def is_outer(launches: Events) -> Bool:
    """Which runtime and driver calls lie in no other call of their thread."""
    outer = np.ones(len(launches), bool)
    for number in occurring(launches.track):
        mine = np.flatnonzero(launches.track == number)
        start, end = launches.start_ns[mine], launches.end_ns[mine]
        if (start[1:] == start[:-1]).any():
            # Of those that start together the longer one is outside.
            order = np.lexsort((start - end, start))
            mine, start, end = mine[order], start[order], end[order]
        outer[mine[1:]] = start[1:] >= np.maximum.accumulate(end)[:-1]
    return outer
