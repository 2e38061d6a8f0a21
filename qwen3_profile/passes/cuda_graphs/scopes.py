"""Copies the scopes of a labelled pass into the attribution of a replay.

The copies begin and end where the replay was launched: they take device time and none of the
host's. They come after all other scopes, parents before their children, and every sum stays a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree, no_scopes
from qwen3_profile.trace.columns import Int32, Int64


@dataclass(frozen=True, slots=True, eq=False)
class ScopeCopies:
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


def copy_scopes(
    events: Int64, owner: Int32, scopes: ScopeTree, root: int, parent: int, left: Sequence[int] = ()
) -> ScopeCopies:
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
        kept = np.flatnonzero(scopes.below(np.arange(len(scopes)) == root))
        owner = np.where(owner == root, NO_SCOPE, owner).astype(np.int32)
    else:
        around = {each for scope in set(owner.tolist()) for each in scopes.around(scope)}
        kept = np.array(sorted(around), np.int64)
    if left:
        scopes = scopes.append([NewScope(labels.GRAPH_REPLAY, 0, 0, 0, NO_SCOPE)])
        kept = np.append(kept, len(scopes) - 1)
        owner[list(left)] = len(scopes) - 1
    return ScopeCopies(events, owner, scopes, kept, parent)


def one_row(events: Int64, parent: int) -> ScopeCopies:
    """All of a replay's events in the row `graph_replay`."""
    nobody = np.full(len(events), NO_SCOPE, np.int32)
    return copy_scopes(events, nobody, no_scopes(), NO_SCOPE, parent, range(len(events)))


def append_copies(attribution: Attribution, replays: Sequence[ScopeCopies]) -> Attribution:
    """The attribution with the copied scopes after all others, and the events in them."""
    launches = attribution.trace.launches
    rows: list[NewScope] = []
    owner = attribution.owner.copy()
    for each in replays:
        scopes = each.scopes
        launch = int(attribution.launch[each.events[0]])
        track, start_ns = int(launches.track[launch]), int(launches.start_ns[launch])
        place = {NO_SCOPE: each.parent}
        for scope in each.kept.tolist():
            name = scopes.names[scopes.name[scope]]
            above = place.get(int(scopes.parent[scope]), each.parent)
            place[scope] = len(attribution.scopes) + len(rows)
            is_gap = bool(scopes.is_gap[scope])
            rows.append(NewScope(name, track, start_ns, start_ns, above, is_gap))
        mine = np.array([place[scope] for scope in each.owner.tolist()], np.int32)
        owner[each.events] = np.where(mine == NO_SCOPE, owner[each.events], mine)
    return attribution.with_scopes(rows, owner)
