"""An attribution in, the same with each backward split by the labels of its forward out.

A node's time, and the device events launched in it, go to the label in which its operator ran, as
a part of `backward`:

    train_step
      layer.7.attn.q_proj             aten::mm, sequence number 412
      backward
        layer.7
          layer.7.attn
            layer.7.attn.q_proj       MmBackward0, sequence number 412, on autograd's own thread

What no operator explains stays in `backward` itself, so every sum stays a sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import (
    NO_LAUNCH_EVENT,
    Attribution,
    Reason,
    outer_calls,
    sum_by_scope,
)
from qwen3_profile.attribution.autograd_nodes import NO_OPERATOR, Nodes, find_nodes
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Int32, Int64


def split_backward(found: Attribution) -> Attribution:
    """Gives what ran in the nodes of each `backward` to scopes inside it, named as the forward's.

    Such a scope has the name of its operator's label, and the length of the node; its times on a
    time line mean nothing. The new scopes come after all others, parents before their children.
    """
    if labels.BACKWARD not in found.trace.names:
        return found
    nodes = find_nodes(found.trace)
    backward = _backward_of(found, nodes)
    forward = _forward_of(found, nodes, backward)
    known = np.flatnonzero(forward != NO_SCOPE)
    if not len(known):
        return found
    grown, of_node = _grow(found, nodes, known, backward[known], forward[known])
    place = np.full(len(nodes) + 1, NO_SCOPE, np.int32)
    place[known] = of_node
    return _reassign(found, grown, nodes, place, backward)


@dataclass(frozen=True, slots=True, eq=False)
class _Grown:
    """The scopes with new ones at the end. inside: the `backward` that each new one lies in."""

    scopes: ScopeTree
    inside: Int32
    own_ns: Int64


def _backward_of(found: Attribution, nodes: Nodes) -> Int32:
    """The `backward` in a phase that was open in the node's process when it began, or -1."""
    scopes, tracks = found.scopes, found.trace.tracks
    backward = np.full(len(nodes), NO_SCOPE, np.int32)
    pid = np.array([tracks[track].pid for track in nodes.track.tolist()])
    for scope, parent in enumerate(scopes.parent.tolist()):
        if scopes.names[scopes.name[scope]] != labels.BACKWARD or parent == NO_SCOPE:
            continue
        if scopes.names[scopes.name[parent]] not in labels.PHASES:
            continue
        open_then = nodes.start_ns >= scopes.start_ns[scope]
        open_then &= nodes.start_ns < scopes.end_ns[scope]
        backward[open_then & (pid == tracks[scopes.track[scope]].pid)] = scope
    return backward


def _forward_of(found: Attribution, nodes: Nodes, backward: Int32) -> Int32:
    """The scope of each node's operator, if it lies in the phase of the node's `backward`; or -1.

    The phase itself is no answer: what lies in none of its parts stays in `backward`.
    """
    scopes, ops = found.scopes, found.trace.autograd
    forward = np.full(len(nodes), NO_SCOPE, np.int32)
    known = np.flatnonzero((nodes.operator != NO_OPERATOR) & (backward != NO_SCOPE))
    operator = nodes.operator[known]
    inner = scopes.innermost(ops.track[operator], ops.start_ns[operator])
    for node, scope in zip(known.tolist(), inner.tolist(), strict=True):
        path = _path(scopes, scope)
        phase = int(scopes.parent[backward[node]])
        if len(path) > 1 and path[0] == phase and int(backward[node]) not in path:
            forward[node] = scope
    return forward


def _path(scopes: ScopeTree, scope: int) -> list[int]:
    """The scope and all around it, the outermost first."""
    path: list[int] = []
    while scope != NO_SCOPE:
        path.append(scope)
        scope = int(scopes.parent[scope])
    return path[::-1]


def _grow(
    found: Attribution, nodes: Nodes, known: Int64, backward: Int32, forward: Int32
) -> tuple[_Grown, Int32]:
    """A scope for each known node, below one for each label around that of its forward."""
    scopes = found.scopes
    first: dict[tuple[int, ...], int] = {}
    rows: list[list[int]] = []  # parent, name, `backward`, own ns, ns with children
    of_node = np.empty(len(known), np.int32)
    spent = (nodes.end_ns - nodes.start_ns)[known].tolist()
    for i, (inside, scope) in enumerate(zip(backward.tolist(), forward.tolist(), strict=True)):
        key: tuple[int, ...] = (inside,)
        above = inside
        for name in (int(scopes.name[each]) for each in _path(scopes, scope)[1:]):
            key, parent = (*key, name), above
            if key not in first:
                first[key] = len(scopes) + len(rows)
                rows.append([parent, name, inside, 0, 0])
            above = first[key]
        at = above - len(scopes)
        if rows[at][3]:  # its first node is there already: a scope of its own, beside it
            at = len(rows)
            rows.append([rows[above - len(scopes)][0], rows[above - len(scopes)][1], inside, 0, 0])
        rows[at][3] = spent[i]
        of_node[i] = len(scopes) + at
    for row in reversed(rows):
        row[4] += row[3]
        if row[0] >= len(scopes):
            rows[row[0] - len(scopes)][4] += row[4]
    return _extended(scopes, np.array(rows, np.int64).reshape(-1, 5)), of_node


def _extended(scopes: ScopeTree, table: Int64) -> _Grown:
    parent, inside = table[:, 0].astype(np.int32), table[:, 2].astype(np.int32)
    start = scopes.start_ns[inside]
    grown = replace(
        scopes,
        name=np.concatenate((scopes.name, table[:, 1].astype(np.int32))),
        track=np.concatenate((scopes.track, scopes.track[inside])),
        start_ns=np.concatenate((scopes.start_ns, start)),
        end_ns=np.concatenate((scopes.end_ns, start + table[:, 4])),
        parent=np.concatenate((scopes.parent, parent)),
        is_gap=np.concatenate((scopes.is_gap, np.zeros(len(table), bool))),
    )
    return _Grown(grown, inside, table[:, 3])


def _reassign(
    found: Attribution, grown: _Grown, nodes: Nodes, place: Int32, backward: Int32
) -> Attribution:
    """Moves device events, launches and wall-clock out of `backward` into the nodes' scopes.

    Args:
        place: int32[n + 1], the new scope of each node, or -1; -1 at the end, for no node.
    """
    trace, count = found.trace, len(grown.scopes)
    owner, cross_thread = found.owner.copy(), found.cross_thread.copy()
    linked = np.flatnonzero(found.launch != NO_LAUNCH_EVENT)
    launches = trace.launches.take(found.launch[linked].astype(np.int64))
    node = nodes.at(launches.track, launches.start_ns)
    target = place[node]
    held = owner[linked]
    # Labels that ran in the backward itself, as a recomputation writes them, keep what is theirs.
    free = (held == Reason.NO_LABEL) | (held == backward[np.maximum(node, 0)])
    moved = linked[(target != NO_SCOPE) & free]
    owner[moved] = target[(target != NO_SCOPE) & free]
    cross_thread[moved] = False
    device = trace.device
    ones = np.ones(len(device), np.int64)
    return replace(
        found,
        scopes=grown.scopes,
        owner=owner,
        cross_thread=cross_thread,
        scope_step=np.concatenate((found.scope_step, found.scope_step[grown.inside])),
        self_cpu_ns=_self_cpu(found, grown),
        self_launch_ns=_self_launch(found, nodes, place, backward, count),
        self_device_ns=sum_by_scope(owner, device.dur_ns, count),
        self_device_events=sum_by_scope(owner, ones, count),
        self_graph_events=sum_by_scope(owner, found.in_graph.astype(np.int64), count),
        self_gap_ns=sum_by_scope(owner, found.gap_ns, count),
        self_queue_ns=sum_by_scope(owner, found.queue_ns, count),
    )


def _self_cpu(found: Attribution, grown: _Grown) -> Int64:
    own = found.self_cpu_ns.copy()
    np.subtract.at(own, grown.inside, grown.own_ns)
    return np.concatenate((own, grown.own_ns))


def _self_launch(
    found: Attribution, nodes: Nodes, place: Int32, backward: Int32, count: int
) -> Int64:
    calls = outer_calls(found.trace.launches)
    node = nodes.at(calls.track, calls.start_ns)
    target = place[node]
    before = found.scopes.innermost(calls.track, calls.start_ns)
    free = (before == NO_SCOPE) | (before == backward[np.maximum(node, 0)])
    moved = (target != NO_SCOPE) & free
    return sum_by_scope(np.where(moved, target, before), calls.dur_ns, count)
