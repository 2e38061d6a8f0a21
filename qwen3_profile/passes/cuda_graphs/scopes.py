"""The scopes of a labelled pass in, copies of them in the attribution of a replay out.

The copies begin and end where the replay was launched: they take device time and none of the
host's. They come after all other scopes, parents before their children, and every sum stays a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution, sum_by_scope
from qwen3_profile.attribution.scopes import NO_CROSSING, NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Int32, Int64


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What the events of one replay belong to.

    events: positions in `Trace.device`. owner: int32, for each a scope's index in `scopes`.
    kept: the scopes to copy, parents before their children; those below are hung on `parent`.
    parent: a scope's index in the attribution, or -1.
    """

    events: Int64
    owner: Int32
    scopes: ScopeTree
    kept: Int64
    parent: int


def given(
    events: Int64, owner: Int32, scopes: ScopeTree, root: int, parent: int, left: Sequence[int] = ()
) -> Given:
    """What a replay's events belong to.

    Args:
        events: positions in `Trace.device`.
        owner: int32, for each a scope's index in `scopes`, or below 0.
        root: the scope of the whole pass, or -1; the label around the launch stands for it.
        parent: that label, a scope's index in the attribution, or -1.
        left: indices into `events` of those that go into the row `graph_replay`.
    """
    owner = np.maximum(owner, NO_SCOPE).astype(np.int32)
    if parent != NO_SCOPE and root != NO_SCOPE:
        kept = np.array(sorted(_inside(scopes, {root})), np.int64)
        owner = np.where(owner == root, NO_SCOPE, owner).astype(np.int32)
    else:
        kept = np.array(sorted(_with_parents(scopes, set(owner.tolist()))), np.int64)
    if left:
        scopes = _with_graph_scope(scopes)
        kept = np.append(kept, len(scopes) - 1)
        owner[list(left)] = len(scopes) - 1
    return Given(events, owner, scopes, kept, parent)


def one_row(events: Int64, parent: int) -> Given:
    """All of a replay's events in the row `graph_replay`."""
    few, many = np.empty(0, np.int32), np.empty(0, np.int64)
    none = ScopeTree((), few, few, many, many, few, np.empty(0, bool), NO_CROSSING)
    everything = range(len(events))
    return given(
        events, np.full(len(events), NO_SCOPE, np.int32), none, NO_SCOPE, parent, everything
    )


def _inside(scopes: ScopeTree, roots: set[int]) -> Iterator[int]:
    """The scopes below `roots`, without these."""
    inside = set(roots)
    for scope, above in enumerate(scopes.parent.tolist()):
        if above in inside and scope not in inside:
            inside.add(scope)
            yield scope


def _with_parents(scopes: ScopeTree, chosen: set[int]) -> set[int]:
    found: set[int] = set()
    for scope in chosen:
        while scope != NO_SCOPE and scope not in found:
            found.add(scope)
            scope = int(scopes.parent[scope])
    return found


def _with_graph_scope(scopes: ScopeTree) -> ScopeTree:
    names = dict(zip(scopes.names, range(len(scopes.names)), strict=True))
    name = names.setdefault(labels.GRAPH_REPLAY, len(names))
    return replace(
        scopes,
        names=tuple(names),
        name=np.append(scopes.name, np.int32(name)),
        track=np.append(scopes.track, np.int32(0)),
        start_ns=np.append(scopes.start_ns, np.int64(0)),
        end_ns=np.append(scopes.end_ns, np.int64(0)),
        parent=np.append(scopes.parent, np.int32(NO_SCOPE)),
        is_gap=np.append(scopes.is_gap, False),
    )


def grow(found: Attribution, replays: Sequence[Given]) -> Attribution:
    """The attribution with the copied scopes after all others, and the events in them."""
    trace = found.trace
    names = dict(zip(found.scopes.names, range(len(found.scopes.names)), strict=True))
    rows: list[tuple[int, int, int, int, int, bool]] = []  # name track start parent step is_gap
    owner = found.owner.copy()
    for each in replays:
        launch = int(found.launch[each.events[0]])
        place = {NO_SCOPE: each.parent}
        step = int(found.device_step[each.events[0]])
        where = (int(trace.launches.track[launch]), int(trace.launches.start_ns[launch]))
        for scope in each.kept.tolist():
            name = names.setdefault(each.scopes.names[each.scopes.name[scope]], len(names))
            above = place.get(int(each.scopes.parent[scope]), each.parent)
            place[scope] = len(found.scopes) + len(rows)
            rows.append((name, *where, above, step, bool(each.scopes.is_gap[scope])))
        mine = np.array([place[scope] for scope in each.owner.tolist()], np.int32)
        owner[each.events] = np.where(mine == NO_SCOPE, owner[each.events], mine)
    table = np.array(rows, np.int64).reshape(-1, 6)
    few = table.astype(np.int32)
    scopes = replace(
        found.scopes,
        names=tuple(names),
        name=np.concatenate((found.scopes.name, few[:, 0])),
        track=np.concatenate((found.scopes.track, few[:, 1])),
        start_ns=np.concatenate((found.scopes.start_ns, table[:, 2])),
        end_ns=np.concatenate((found.scopes.end_ns, table[:, 2])),
        parent=np.concatenate((found.scopes.parent, few[:, 3])),
        is_gap=np.concatenate((found.scopes.is_gap, table[:, 5].astype(bool))),
    )
    none, count = np.zeros(len(table), np.int64), len(scopes)
    dur_ns = trace.device.dur_ns
    return replace(
        found,
        scopes=scopes,
        owner=owner,
        scope_step=np.concatenate((found.scope_step, few[:, 4])),
        self_cpu_ns=np.concatenate((found.self_cpu_ns, none)),
        self_launch_ns=np.concatenate((found.self_launch_ns, none)),
        self_device_ns=sum_by_scope(owner, dur_ns, count),
        self_device_events=sum_by_scope(owner, np.ones(len(dur_ns), np.int64), count),
        self_graph_events=sum_by_scope(owner, found.in_graph.astype(np.int64), count),
        self_gap_ns=sum_by_scope(owner, found.gap_ns, count),
        self_queue_ns=sum_by_scope(owner, found.queue_ns, count),
    )
