"""Sums an attribution to trees of parts: the scopes of the same path are one part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.parts import NO_PART, Part, PartTree
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Int32, Int64

NO_GROUP = -1
_CPU, _NOT_NESTED = 1, 2  # of the columns of `Times`: which is wall-clock, how many are not sums


def fold(attribution: Attribution) -> tuple[Part, ...]:
    """Sums the scopes of the same path of names."""
    return fold_groups(attribution, np.zeros(len(attribution.scopes), np.int32), 1)[0]


def fold_groups(attribution: Attribution, group: Int32, count: int) -> list[tuple[Part, ...]]:
    """As `fold`, for each of several groups of scopes that have nothing to do with each other.

    Args:
        attribution: s scopes with their sums.
        group: int32[s], the number of each scope's group, or -1 to leave it out.
        count: how many groups there are.
    """
    paths = _find_paths(attribution.scopes, group)
    own = _sum_by_path(attribution, paths)
    total = own.copy()
    for level in reversed(paths.levels[1:]):
        np.add.at(total, paths.parent[level], total[level])
    # Wall-clock of a scope includes its children's already, and a call is no call of its parent.
    total[:, :_NOT_NESTED] = own[:, :_NOT_NESTED]
    nested = paths.parent >= 0
    np.subtract.at(own[:, _CPU], paths.parent[nested], total[nested, _CPU])
    return _build(attribution.scopes, paths, total, own, count)


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """The distinct paths of names, parents before their children, else by their first scope.

    parent: int64[p], another path, or the group's number below 0: -1 is group 0.
    name: int64[p], as in the scopes. levels: the paths by their depth.
    scope, of_scope: int64[n]; the scopes that were taken, and the path of each.
    """

    parent: Int64
    name: Int64
    levels: tuple[slice, ...]
    scope: Int64
    of_scope: Int64


def _find_paths(scopes: ScopeTree, group: Int32) -> _Paths:
    above = np.where(scopes.parent >= 0, scopes.parent, NO_SCOPE)
    inside = (above >= 0) & (group[above] == group) if len(above) else above >= 0
    above = np.where(inside, above, NO_SCOPE)
    path_of = -1 - group.astype(np.int64)
    parents, names, levels, count = [], [], [], 0
    left = np.flatnonzero(group != NO_GROUP)
    level = left[above[left] == NO_SCOPE]
    below = _Children(above, left)
    while len(level):
        outer = np.where(above[level] >= 0, path_of[above[level]], path_of[level])
        key = outer * len(scopes.names) + scopes.name[level]
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        path_of[level] = count + rank[which]
        first = np.sort(first)
        parents.append(outer[first])
        names.append(scopes.name[level][first].astype(np.int64))
        levels.append(slice(count, count + len(first)))
        count += len(first)
        level = below.of(level)
    none = np.empty(0, np.int64)
    return _Paths(
        parent=np.concatenate((none, *parents)),
        name=np.concatenate((none, *names)),
        levels=tuple(levels),
        scope=left,
        of_scope=path_of[left],
    )


class _Children:
    """Who lies in whom: scopes ordered by the one around them."""

    def __init__(self, above: Int64, among: Int64) -> None:
        self._child = among[np.argsort(above[among], kind="stable")]
        self._above = above[self._child]

    def of(self, scopes: Int64) -> Int64:
        """The children of `scopes`, in the order of all scopes."""
        begin = np.searchsorted(self._above, scopes, side="left")
        count = np.searchsorted(self._above, scopes, side="right") - begin
        # Each begin, as often as it has children, and on from there by one.
        first = np.repeat(begin - np.cumsum(count) + count, count)
        return np.sort(self._child[first + np.arange(len(first))])


def _sum_by_path(attribution: Attribution, paths: _Paths) -> Int64:
    """int64[paths, times]: the sums of each path's scopes, without children but for wall-clock."""
    scopes = attribution.scopes
    columns = (
        (~scopes.is_rest).astype(np.int64),
        scopes.end_ns - scopes.start_ns,
        *attribution.sums.T,
    )
    sums = np.zeros((len(paths.parent), len(columns)), np.int64)
    if len(paths.scope):
        order = np.argsort(paths.of_scope, kind="stable")
        scope, path = paths.scope[order], paths.of_scope[order]
        begins = np.flatnonzero(np.diff(path, prepend=-1))
        for number, column in enumerate(columns):
            sums[:, number] = np.add.reduceat(column[scope], begins)
    return sums


def _build(
    scopes: ScopeTree, paths: _Paths, total: Int64, own: Int64, count: int
) -> list[tuple[Part, ...]]:
    """The parts of each group."""
    group = _group_of(paths)
    order = np.argsort(group, kind="stable")
    used, name = np.unique(paths.name[order], return_inverse=True)
    names = tuple(scopes.names[each] for each in used.tolist())
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    parent = paths.parent[order]
    nested = parent >= 0
    parent[nested] = place[parent[nested]]
    times = np.concatenate((total, own), axis=1)[order]
    borders = np.searchsorted(group[order], np.arange(count + 1)).tolist()
    found = []
    tree = None
    for begin, end in pairwise(borders):
        inside = np.where(nested[begin:end], parent[begin:end] - begin, NO_PART)
        tree = PartTree.of(
            names,
            name[begin:end].astype(np.int32),
            inside.astype(np.int32),
            times[begin:end],
            like=tree,
        )
        found.append(tree.roots())
    return found


def _group_of(paths: _Paths) -> Int64:
    """int64[p]: the group that each path is of."""
    group = -1 - paths.parent
    for level in paths.levels[1:]:
        group[level] = group[paths.parent[level]]
    return group
