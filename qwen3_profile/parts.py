"""Attribution in, one tree of parts per step out: times by label path, children inside parents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from qwen3_profile.attribution import Attribution
from qwen3_profile.scopes import NO_SCOPE
from qwen3_profile.trace.columns import Bool, Int64

ROOT = -1


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
        return Times(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Times)))


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


def sum_times(times: Iterable[Times]) -> Times:
    return sum(times, Times())


def merge_parts(parts: Sequence[Part]) -> Part:
    """The sum of the same part over several forward passes, child by child; at least one."""
    names = dict.fromkeys(child.name for part in parts for child in part.parts)
    children = []
    for name in names:
        same = (part.find(name) for part in parts)
        children.append(merge_parts([child for child in same if child is not None]))
    return Part(
        name=parts[0].name,
        total=sum_times(part.total for part in parts),
        own=sum_times(part.own for part in parts),
        parts=tuple(children),
    )


def fold(attribution: Attribution, selected: Bool | None = None) -> tuple[Part, ...]:
    """Sums the scopes of the same path of names.

    Args:
        attribution: s scopes with their sums.
        selected: bool[s], the scopes to take (a parent with its children); None for all.
    """
    index = np.arange(len(attribution.scopes)) if selected is None else np.flatnonzero(selected)
    paths, path_of = _paths(attribution, index)
    own = _sum_by_path(attribution, index, path_of, len(paths))
    children: dict[int, list[int]] = defaultdict(list)
    for path, (parent, _) in enumerate(paths):
        children[parent].append(path)
    built: dict[int, Part] = {}
    for path in reversed(range(len(paths))):
        parts = tuple(built[child] for child in children[path])
        built[path] = _with_children(paths[path][1], own[path], parts)
    return tuple(built[path] for path in children[ROOT])


def _paths(attribution: Attribution, index: Int64) -> tuple[list[tuple[int, str]], Int64]:
    """The distinct paths as (parent path, name), and each scope's path as an index into them."""
    scopes = attribution.scopes
    known: dict[tuple[int, str], int] = {}
    path_of = dict[int, int]()
    rows = (index.tolist(), scopes.parent[index].tolist(), scopes.name[index].tolist())
    for scope, parent, name in zip(*rows, strict=True):
        above = path_of.get(parent, ROOT) if parent != NO_SCOPE else ROOT
        path_of[scope] = known.setdefault((above, scopes.names[name]), len(known))
    return list(known), np.array(list(path_of.values()), np.int64)


def _sum_by_path(attribution: Attribution, index: Int64, path_of: Int64, count: int) -> list[Times]:
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
    sums = np.zeros((len(columns), count), np.int64)
    for row, column in zip(sums, columns, strict=True):
        np.add.at(row, path_of, column[index])
    return [Times(*values) for values in sums.T.tolist()]


def _with_children(name: str, mine: Times, parts: tuple[Part, ...]) -> Part:
    """Turns sums of each scope's own into sums with children, but for calls and wall-clock."""
    below = sum_times(part.total for part in parts)
    device = [getattr(mine, f.name) + getattr(below, f.name) for f in fields(Times)[2:]]
    total = Times(mine.calls, mine.cpu_ns, *device)
    own_cpu = mine.cpu_ns - below.cpu_ns
    self_times = Times(mine.calls, own_cpu, *(getattr(mine, f.name) for f in fields(Times)[2:]))
    return Part(name, total, self_times, parts)
