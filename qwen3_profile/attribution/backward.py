"""Splits each backward of an attribution by the labels of its forward.

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

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution, Reason
from qwen3_profile.attribution.autograd_nodes import NO_OPERATOR, Nodes, find_nodes
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT, is_outer
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree
from qwen3_profile.trace.columns import Int32, Int64


def split_backward(attribution: Attribution) -> Attribution:
    """Gives what ran in the nodes of each `backward` to scopes inside it, named as the forward's.

    Such a scope has the name of its operator's label, and the length of the node; its times on a
    time line mean nothing. The new scopes come after all others, parents before their children.
    """
    if labels.BACKWARD not in attribution.trace.names:
        return attribution
    nodes = find_nodes(attribution.trace)
    backward = _backward_of(attribution, nodes)
    forward = _forward_of(attribution, nodes, backward)
    known = np.flatnonzero(forward != NO_SCOPE)
    if not len(known):
        return attribution
    rows, of_node = _new_scopes(attribution.scopes, nodes, known, backward[known], forward[known])
    place = np.full(len(nodes) + 1, NO_SCOPE, np.int32)
    place[known] = of_node
    return _reassign(attribution, rows, nodes, place, backward)


def _backward_of(attribution: Attribution, nodes: Nodes) -> Int32:
    """The `backward` in a phase that was open in the node's process when it began, or -1."""
    scopes, tracks = attribution.scopes, attribution.trace.tracks
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


def _forward_of(attribution: Attribution, nodes: Nodes, backward: Int32) -> Int32:
    """The scope of each node's operator, if it lies in the phase of the node's `backward`; or -1.

    The phase itself is no answer: what lies in none of its parts stays in `backward`.
    """
    scopes, ops = attribution.scopes, attribution.trace.autograd
    forward = np.full(len(nodes), NO_SCOPE, np.int32)
    known = np.flatnonzero((nodes.operator != NO_OPERATOR) & (backward != NO_SCOPE))
    operator = nodes.operator[known]
    inner = scopes.innermost(ops.track[operator], ops.start_ns[operator])
    for node, scope in zip(known.tolist(), inner.tolist(), strict=True):
        path = scopes.around(scope)
        phase = int(scopes.parent[backward[node]])
        if len(path) > 1 and path[0] == phase and int(backward[node]) not in path:
            forward[node] = scope
    return forward


def _new_scopes(
    scopes: ScopeTree, nodes: Nodes, known: Int64, backward: Int32, forward: Int32
) -> tuple[list[NewScope], Int32]:
    """A scope for each known node, below one for each label around that of its forward.

    Returns:
        The scopes, and the place of each known node's once they lie behind all others.
    """
    first: dict[tuple[int, ...], int] = {}
    rows: list[list[int]] = []  # parent, name, `backward`, own ns, ns with children
    of_node = np.empty(len(known), np.int32)
    spent = (nodes.end_ns - nodes.start_ns)[known].tolist()
    for i, (inside, scope) in enumerate(zip(backward.tolist(), forward.tolist(), strict=True)):
        key: tuple[int, ...] = (inside,)
        above = inside
        for name in (int(scopes.name[each]) for each in scopes.around(scope)[1:]):
            key, parent = (*key, name), above
            if key not in first:
                first[key] = len(scopes) + len(rows)
                rows.append([parent, name, inside, 0, 0])
            above = first[key]
        at = above - len(scopes)
        if rows[at][3]:  # its first node is there already: a scope of its own, next to it
            at = len(rows)
            rows.append([rows[above - len(scopes)][0], rows[above - len(scopes)][1], inside, 0, 0])
        rows[at][3] = spent[i]
        of_node[i] = len(scopes) + at
    for row in reversed(rows):
        row[4] += row[3]
        if row[0] >= len(scopes):
            rows[row[0] - len(scopes)][4] += row[4]
    return [_new_scope(scopes, *row) for row in rows], of_node


def _new_scope(
    scopes: ScopeTree, parent: int, name: int, inside: int, own_ns: int, total_ns: int
) -> NewScope:
    start_ns = int(scopes.start_ns[inside])
    track = int(scopes.track[inside])
    return NewScope(scopes.names[name], track, start_ns, start_ns + total_ns, parent)


def _reassign(
    attribution: Attribution, rows: list[NewScope], nodes: Nodes, place: Int32, backward: Int32
) -> Attribution:
    """Moves device events, launches and wall-clock out of `backward` into the nodes' scopes.

    Args:
        place: int32[n + 1], the new scope of each node, or -1; -1 at the end, for no node.
    """
    calls = attribution.trace.launches
    node = nodes.at(calls.track, calls.start_ns)
    target, around = place[node], backward[np.maximum(node, 0)]
    linked = np.flatnonzero(attribution.launch != NO_LAUNCH_EVENT)
    call = attribution.launch[linked]
    held = attribution.owner[linked]
    # Labels that ran in the backward itself, as a recomputation writes them, keep what is theirs.
    free = (held == Reason.NO_LABEL) | (held == around[call])
    moves = (target[call] != NO_SCOPE) & free
    owner, cross_thread = attribution.owner.copy(), attribution.cross_thread.copy()
    owner[linked[moves]] = target[call][moves]
    cross_thread[linked[moves]] = False
    free = (attribution.call_owner == NO_SCOPE) | (attribution.call_owner == around)
    moves = is_outer(calls) & (target != NO_SCOPE) & free
    call_owner = np.where(moves, target, attribution.call_owner)
    return attribution.with_scopes(rows, owner, call_owner, cross_thread)
