"""Attribution in, one tree of parts per step out: times by label path, children inside parents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.attribution import Attribution
from qwen3_profile.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Bool, Int32, Int64

NO_GROUP = -1
_CPU, _NOT_NESTED = 1, 2  # of the columns of `Times`: which is wall-clock, how many are not sums


@dataclass(frozen=True, slots=True)
class Times:
    """What was summed over the calls of one scope name. Nanoseconds and counts, all integers.

    calls: how often the scope was opened.
    cpu_ns: wall-clock on the host from start to end.
    device_ns: durations of the device events launched inside, whenever they ran.
    device_events: how many. graph_events: of them, those launched as part of a graph.
    launch_ns: time in runtime and driver calls.
    gap_ns: idle time of the device that ended with one of these events.
    queue_ns: from the end of each launch to the start of its event.
    """

    calls: int = 0
    cpu_ns: int = 0
    device_ns: int = 0
    device_events: int = 0
    graph_events: int = 0
    launch_ns: int = 0
    gap_ns: int = 0
    queue_ns: int = 0

    def __add__(self, other: Times) -> Times:
        return Times(
            self.calls + other.calls,
            self.cpu_ns + other.cpu_ns,
            self.device_ns + other.device_ns,
            self.device_events + other.device_events,
            self.graph_events + other.graph_events,
            self.launch_ns + other.launch_ns,
            self.gap_ns + other.gap_ns,
            self.queue_ns + other.queue_ns,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One scope name under its parents' names.

    name: the scope's name as the trace has it, such as `layer.7.attn.q_proj`.
    total: with children. own: without them; what of a container no child explains.
    parts: the children, in the order in which they first ran.
    """

    name: str
    total: Times
    own: Times
    parts: tuple[Part, ...] = ()

    def find(self, name: str) -> Part | None:
        """The direct child called `name`."""
        return next((part for part in self.parts if part.name == name), None)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Part]]:
        """This part and all below it, each with its path of names, outermost first."""
        # Ranges that were never closed nest by thousands; recursion would end before them.
        waiting = [((*path, self.name), self)]
        while waiting:
            path, part = waiting.pop()
            yield path, part
            waiting += [((*path, child.name), child) for child in reversed(part.parts)]

    def each(self) -> Iterator[Part]:
        """This part and all below it, in the order of `walk`."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.parts)


_NOTHING = (Times(), Times())


def sum_times(times: Iterable[Times]) -> Times:
    return sum(times, Times())


def merge_parts(parts: Sequence[Part]) -> Part:
    """The sum of the same part over several forward passes, child by child; at least one."""
    if len(parts) == 1:
        return parts[0]
    name = parts[0].name
    sums: dict[tuple[str, ...], tuple[Times, Times]] = {}
    below: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for part in parts:
        for path, each in part.walk():
            path = (name, *path[1:])
            total, own = sums.get(path, _NOTHING)
            sums[path] = (total + each.total, own + each.own)
            below.setdefault(path[:-1], {})[path] = None
    built: dict[tuple[str, ...], Part] = {}
    for path in sorted(sums, key=len, reverse=True):
        total, own = sums[path]
        children = tuple(built.pop(child) for child in below.get(path, ()))
        built[path] = Part(path[-1], total, own, children)
    return built[name,]


def fold(attribution: Attribution, selected: Bool | None = None) -> tuple[Part, ...]:
    """Sums the scopes of the same path of names.

    Args:
        attribution: s scopes with their sums.
        selected: bool[s], the scopes to take (a parent with its children); None for all.
    """
    chosen = np.ones(len(attribution.scopes), bool) if selected is None else selected
    return fold_groups(attribution, np.where(chosen, 0, NO_GROUP).astype(np.int32), 1)[0]


def fold_groups(attribution: Attribution, group: Int32, count: int) -> list[tuple[Part, ...]]:
    """As `fold`, for each of several groups of scopes that have nothing to do with each other.

    Args:
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
        np.ones(len(scopes), np.int64),
        scopes.end_ns - scopes.start_ns,
        attribution.self_device_ns,
        attribution.self_device_events,
        attribution.self_graph_events,
        attribution.self_launch_ns,
        attribution.self_gap_ns,
        attribution.self_queue_ns,
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
    parents, names = paths.parent.tolist(), paths.name.tolist()
    totals, owns = total.tolist(), own.tolist()
    below: list[list[Part]] = [[] for _ in range(len(parents) + count)]
    # A group's number is a path below 0, and so it counts from the end of the list.
    for path in range(len(parents) - 1, -1, -1):
        children = below[path]
        children.reverse()
        part = Part(
            scopes.names[names[path]], Times(*totals[path]), Times(*owns[path]), tuple(children)
        )
        below[path] = []
        below[parents[path]].append(part)
    return [tuple(reversed(below[-1 - group])) for group in range(count)]
