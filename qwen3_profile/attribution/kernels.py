"""The device events of an attribution by path of scopes and by name: which kernels ran where.

So the question of a range's kernels has an answer for any trace, and one that adds up: the rows of
a path are its own device time, and all rows are all device time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen3_profile.attribution.attribute import Attribution, Reason
from qwen3_profile.attribution.scopes import ScopeTree
from qwen3_profile.trace.columns import Int64

_ROOT = -1


@dataclass(frozen=True, slots=True)
class KernelRow:
    """The device events of one name that belong to one path itself, and to nothing below it.

    path: names of scopes, outermost first; empty for what belongs to none, which has its reason.
    """

    path: tuple[str, ...]
    reason: str
    name: str
    events: int
    device_ns: int


def kernel_rows(attribution: Attribution) -> tuple[KernelRow, ...]:
    """A row for each path and name, by path in the order of the scopes, the longest first."""
    device = attribution.trace.device
    some, path_of = _paths(attribution.scopes)
    # What belongs to no scope keeps its reason, a negative number, in the place of a path.
    place = np.array(attribution.owner, np.int64)
    owned = place >= 0
    place[owned] = path_of[place[owned]]
    pairs, at = np.unique(np.stack((place, device.name)), axis=1, return_inverse=True)
    events = np.bincount(at.ravel(), minlength=pairs.shape[1])
    spent_ns = np.zeros(pairs.shape[1], np.int64)
    np.add.at(spent_ns, at.ravel(), device.dur_ns)
    order = np.lexsort((pairs[1], -spent_ns, pairs[0]))
    rows = zip(*(c[order].tolist() for c in (*pairs, events, spent_ns)), strict=True)
    return tuple(
        KernelRow(
            path=attribution.scopes.path(some[path]) if path >= 0 else (),
            reason="" if path >= 0 else Reason(path).text,
            name=attribution.trace.names[name],
            events=count,
            device_ns=ns,
        )
        for path, name, count, ns in rows
    )


def _paths(scopes: ScopeTree) -> tuple[list[int], Int64]:
    """A scope of each path, level by level; and int64[s], the path of each scope."""
    some: list[int] = []
    path_of = np.full(len(scopes) + 1, _ROOT, np.int64)
    depth = scopes.depth()
    for level in range(int(depth.max(initial=-1)) + 1):
        mine = np.flatnonzero(depth == level)
        keys = np.stack((path_of[scopes.parent[mine]], scopes.name[mine]))
        _, first, at = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        path_of[mine] = len(some) + at.ravel()
        some += mine[first].tolist()
    return some, path_of[:-1]
