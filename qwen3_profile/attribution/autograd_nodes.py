"""The nodes that autograd evaluated, each with the operator that it is the backward of.

Autograd numbers the operators of a forward pass, and the node that is an operator's backward keeps
the number and the thread, wherever and whenever it runs. A node that adds up a gradient has no
number: the engine runs it at once after the node that made the last part of the gradient, so it
goes with that one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from qwen3_profile.trace.columns import NO_SEQUENCE, AutogradOps, Bool, Int32, Int64, Trace
from qwen3_profile.trace.event_keys import NODE_PREFIX

NO_NODE = -1
NO_OPERATOR = -1
_ADDS_UP = "AccumulateGrad"


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """The nodes that autograd evaluated, in order of their start; those inside others are left out.

    track: int32[n]. start_ns, end_ns: int64[n].
    operator: int32[n], an index into `Trace.autograd`: the operator that the node is the backward
        of, or whose gradient it adds up; -1 where the trace has none.
    """

    track: Int32
    start_ns: Int64
    end_ns: Int64
    operator: Int32

    def __len__(self) -> int:
        return len(self.start_ns)

    def at(self, track: Int32, time_ns: Int64) -> Int32:
        """int32: the node that was under way at each (track, time), or -1."""
        found = np.full(len(time_ns), NO_NODE, np.int32)
        for number in np.unique(self.track):
            mine = np.flatnonzero(self.track == number)
            asked = np.flatnonzero(track == number)
            last = np.searchsorted(self.start_ns[mine], time_ns[asked], side="right") - 1
            node = mine[np.maximum(last, 0)]
            inside = (last >= 0) & (time_ns[asked] < self.end_ns[node])
            found[asked] = np.where(inside, node, NO_NODE)
        return found


def find_nodes(trace: Trace) -> Nodes:
    """The nodes of a trace, each with its operator."""
    ops = trace.autograd
    evaluated = np.array([name.startswith(NODE_PREFIX) for name in trace.names], bool)[ops.name]
    inside = np.flatnonzero(_outermost(ops) & (evaluated | (ops.forward_thread > 0)))
    nodes = ops.take(inside)
    operator = _operators(trace, nodes)
    adds_up = np.array([name.endswith(_ADDS_UP) for name in trace.names], bool)[nodes.name]
    last: dict[int, int] = {}
    for i, track in enumerate(nodes.track.tolist()):
        if adds_up[i] and nodes.sequence[i] == NO_SEQUENCE:
            operator[i] = last.get(track, NO_OPERATOR)
        last[track] = int(operator[i])
    return Nodes(nodes.track, nodes.start_ns, nodes.end_ns, operator)


def _outermost(ops: AutogradOps) -> Bool:
    """Which ops are nodes in no other node of their thread; operators do not count."""
    outside: Bool = (ops.sequence == NO_SEQUENCE) | (ops.forward_thread > 0)
    for number in np.unique(ops.track[outside]):
        mine = np.flatnonzero(outside & (ops.track == number))
        reach = np.maximum.accumulate(ops.end_ns[mine])
        outside[mine[1:]] = ops.start_ns[mine[1:]] >= reach[:-1]
    return outside


def _operators(trace: Trace, nodes: AutogradOps) -> Int32:
    """For each node the operator that began last with its number, on the thread of its forward.

    An operator that calls others shares the number with the first of these that autograd records:
    the one that began last made the node.
    """
    ops = trace.autograd
    last: dict[tuple[int, int], int] = {}
    for i in np.flatnonzero((ops.forward_thread == 0) & (ops.sequence != NO_SEQUENCE)).tolist():
        last[int(ops.track[i]), int(ops.sequence[i])] = i
    threads = _forward_tracks(trace, nodes, last)
    found = np.full(len(nodes), NO_OPERATOR, np.int32)
    rows = (nodes.track.tolist(), nodes.forward_thread.tolist(), nodes.sequence.tolist())
    for i, (track, thread, sequence) in enumerate(zip(*rows, strict=True)):
        forward = threads.get((trace.tracks[track].pid, thread))
        if forward is not None:
            found[i] = last.get((forward, sequence), NO_OPERATOR)
    return found


def _forward_tracks(
    trace: Trace, nodes: AutogradOps, operators: dict[tuple[int, int], int]
) -> dict[tuple[str, int], int]:
    """(process, autograd's number of a thread) -> the track of that thread.

    The file does not say it: it is the one thread of the process that has most of the numbers.
    """
    tracks_of: dict[tuple[str, int], list[int]] = defaultdict(list)
    for track, sequence in operators:
        tracks_of[trace.tracks[track].pid, sequence].append(track)
    hits: dict[tuple[str, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    rows = (nodes.track.tolist(), nodes.forward_thread.tolist(), nodes.sequence.tolist())
    for place, thread, sequence in zip(*rows, strict=True):
        pid = trace.tracks[place].pid
        for track in tracks_of.get((pid, sequence), ()):
            hits[pid, thread][track] += 1
    found = {}
    for thread_of, counts in hits.items():
        best = sorted(counts, key=lambda track: counts[track], reverse=True)
        if thread_of[1] > 0 and (len(best) == 1 or counts[best[0]] > counts[best[1]]):
            found[thread_of] = best[0]
    return found
