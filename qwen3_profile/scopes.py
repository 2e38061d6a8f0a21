"""Host events of a trace in, the tree of scopes out: which label was open when, on which thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile import labels
from qwen3_profile.trace.columns import Bool, Category, Events, Int32, Int64, Trace

NO_SCOPE = -1

_MOST_DIGITS = 18  # of a step's number; a name may hold any text


@dataclass(frozen=True, slots=True)
class Step:
    """One `ProfilerStep#k` range, or what stands for it in a trace that has none.

    number: k; steps without a number are counted from 0.
    """

    number: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """The ranges that were cut at the end of the one around them, as they ended after it.

    count: how many, without those that a clock of whole microseconds explains.
    ns: what was cut off them, in all. example: the first of them by name, else an empty text.
    """

    count: int
    ns: int
    example: str


NO_CROSSING = Crossing(0, 0, "")


@dataclass(frozen=True, slots=True, eq=False)
class ScopeTree:
    """Scopes as parallel arrays, parents before their children, ordered by (track, start).

    names: what `name` indexes.
    name, track: int32[n]; track as in `Trace.tracks`.
    start_ns, end_ns: int64[n]; a child that outlives its parent is cut at the parent's end.
    parent: int32[n], an index into these arrays, or -1.
    is_gap: bool[n]; the scope was no label but ops between two labels, named by them.
    crossing: those that had to be cut.
    """

    names: tuple[str, ...]
    name: Int32
    track: Int32
    start_ns: Int64
    end_ns: Int64
    parent: Int32
    is_gap: Bool
    crossing: Crossing

    def __len__(self) -> int:
        return len(self.start_ns)

    def innermost(self, track: Int32, time_ns: Int64) -> Int32:
        """The innermost scope that is open at each (track, time), or -1.

        A scope is open from its start up to, and without, its end.
        """
        found = np.full(len(time_ns), NO_SCOPE, np.int32)
        for number in np.unique(self.track):
            mine = np.flatnonzero(self.track == number)
            asked = np.flatnonzero(track == number)
            found[asked] = self._innermost_on_one_track(mine, time_ns[asked])
        return found

    def _innermost_on_one_track(self, mine: Int64, time_ns: Int64) -> Int32:
        # A bound every time a scope opens or closes, and who is innermost from there on. At equal
        # times what closes goes first, so that a scope of no length opens and closes unseen.
        mine = mine[self.end_ns[mine] > self.start_ns[mine]]
        if not len(mine):
            return np.full(len(time_ns), NO_SCOPE, np.int32)
        bounds = np.concatenate((self.end_ns[mine], self.start_ns[mine]))
        owner = np.concatenate((self.parent[mine], mine.astype(np.int32)))
        # Of those that close together the outermost comes last; of those that open, the innermost.
        rank = np.concatenate((-mine, mine + len(self)))
        order = np.lexsort((rank, bounds))
        at = np.searchsorted(bounds[order], time_ns, side="right") - 1
        return np.where(at >= 0, owner[order][np.maximum(at, 0)], NO_SCOPE).astype(np.int32)


def find_steps(trace: Trace) -> tuple[Step, ...]:
    """The trace's steps in time order: `ProfilerStep#k`, else forward passes, else everything."""
    steps = find_profiler_steps(trace)
    if steps:
        return steps
    is_phase = [name in labels.PHASES for name in trace.names]
    phases = _steps(trace, trace.host.take(np.array(is_phase, bool)[trace.host.name]))
    return phases or whole_trace(trace)


def find_profiler_steps(trace: Trace) -> tuple[Step, ...]:
    """The trace's `ProfilerStep#k` ranges in time order."""
    is_step = [name.startswith(labels.STEP_PREFIX) for name in trace.names]
    return _steps(trace, trace.host.take(np.array(is_step, bool)[trace.host.name]))


def select_labels(trace: Trace) -> Bool:
    """Which host events are labels of our grammar, by name, whatever their category."""
    ours = np.array([labels.parse(name) is not None for name in trace.names], bool)
    mask: Bool = ours[trace.host.name] & (trace.host.category != Category.PYTHON_FUNCTION)
    return mask


def build_scopes(
    trace: Trace,
    selected: Bool,
    *,
    name_gaps: bool = True,
    depth: Callable[[str], int] = labels.depth,
) -> ScopeTree:
    """Nests the selected host events, thread by thread.

    Args:
        trace: where they come from.
        selected: bool[len(trace.host)].
        name_gaps: also make scopes of the ops between labels that the grammar can name.
        depth: of two ranges of the same start and end, that of the lower depth is outside.
    """
    events = trace.host.take(selected)
    tree = _nest(events, trace.names, depth)
    return with_gaps(tree) if name_gaps else tree


def _steps(trace: Trace, events: Events) -> tuple[Step, ...]:
    rows = {
        (int(start), int(end), trace.names[name])
        for start, end, name in zip(events.start_ns, events.end_ns, events.name, strict=True)
    }
    found = []
    for count, (start, end, name) in enumerate(sorted(rows)):
        number = name.removeprefix(labels.STEP_PREFIX)
        counted = number.isdecimal() and len(number) <= _MOST_DIGITS
        found.append(Step(int(number) if counted else count, start, end))
    return tuple(found)


def whole_trace(trace: Trace) -> tuple[Step, ...]:
    """One step from the first event to the last; none in a trace without events."""
    tables = [t for t in (trace.host, trace.launches, trace.device) if len(t)]
    if not tables:
        return ()
    start = min(int(t.start_ns.min()) for t in tables)
    return (Step(0, start, max(int(t.end_ns.max()) for t in tables) + 1),)


# Traces of before 2024 count in whole microseconds: a child may seem to outlive its parent by one.
_RESOLUTION_NS = 1000


def _nest(events: Events, names: Sequence[str], depth: Callable[[str], int]) -> ScopeTree:
    rank = _ranks(names, depth)[events.name]
    order = np.lexsort((rank, -events.dur_ns, events.start_ns, events.track))
    track = events.track[order].tolist()
    start = events.start_ns[order].tolist()
    end = events.end_ns[order].tolist()
    parent = [NO_SCOPE] * len(order)
    cut: list[tuple[str, int]] = []
    stack: list[int] = []
    for i in range(len(order)):
        while stack and (track[stack[-1]] != track[i] or end[stack[-1]] <= start[i]):
            stack.pop()
        if stack:
            parent[i] = stack[-1]
            if end[i] > end[stack[-1]]:
                excess = end[i] - end[stack[-1]]
                if excess > _RESOLUTION_NS:
                    cut.append((names[events.name[order[i]]], excess))
                end[i] = end[stack[-1]]
        stack.append(i)
    return ScopeTree(
        names=tuple(names),
        name=events.name[order],
        track=events.track[order],
        start_ns=np.array(start, np.int64),
        end_ns=np.array(end, np.int64),
        parent=np.array(parent, np.int32),
        is_gap=np.zeros(len(order), bool),
        crossing=Crossing(len(cut), sum(ns for _, ns in cut), cut[0][0] if cut else ""),
    )


def _ranks(names: Sequence[str], depth: Callable[[str], int]) -> Int64:
    """int64[len(names)]: which of two ranges of the same start and end is outside, the lower one.

    Clocks of whole microseconds make such ties; the order of the file says nothing about them.
    """
    order = sorted(range(len(names)), key=lambda i: (depth(names[i]), names[i]))
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return ranks


def with_gaps(
    tree: ScopeTree, name_gap: Callable[[str, str, str | None], str | None] = labels.gap_name
) -> ScopeTree:
    """`tree` and a scope for each stretch between labels that `name_gap` can name.

    Args:
        name_gap: as `labels.gap_name`: (container's kind, name before, name after) -> name or None.
    """
    names = dict(zip(tree.names, range(len(tree.names)), strict=True))
    rows: list[tuple[int, int, int, int, int]] = []
    for owner, before, after in _stretches(tree):
        container = labels.parse(tree.names[tree.name[owner]])
        previous = labels.parse(tree.names[tree.name[before]])
        following = labels.parse(tree.names[tree.name[after]]) if after != NO_SCOPE else None
        if container is None or previous is None:
            continue
        next_name = following.name if following is not None else None
        gap = name_gap(container.kind, previous.name, next_name)
        start = int(tree.end_ns[before])
        end = int(tree.start_ns[after]) if after != NO_SCOPE else int(tree.end_ns[owner])
        if gap is None or end <= start:
            continue
        prefix = "" if container.kind == "phase" else tree.names[tree.name[owner]] + "."
        name = names.setdefault(prefix + gap, len(names))
        rows.append((name, int(tree.track[owner]), start, end, owner))
    return _merged(tree, tuple(names), rows)


def _stretches(tree: ScopeTree) -> list[tuple[int, int, int]]:
    """(container, child before, child after or -1) for every end of a child, in order."""
    found = []
    last: dict[int, int] = {}
    for child, owner in enumerate(tree.parent.tolist()):
        if owner == NO_SCOPE:
            continue
        if owner in last:
            found.append((owner, last[owner], child))
        last[owner] = child
    found += [(owner, child, NO_SCOPE) for owner, child in last.items()]
    return found


def _merged(
    tree: ScopeTree, names: tuple[str, ...], rows: list[tuple[int, int, int, int, int]]
) -> ScopeTree:
    table = np.array(rows, np.int64).reshape(-1, 5)
    name = np.concatenate((tree.name, table[:, 0].astype(np.int32)))
    track = np.concatenate((tree.track, table[:, 1].astype(np.int32)))
    start = np.concatenate((tree.start_ns, table[:, 2]))
    end = np.concatenate((tree.end_ns, table[:, 3]))
    parent = np.concatenate((tree.parent, table[:, 4].astype(np.int32)))
    is_gap = np.concatenate((tree.is_gap, np.ones(len(table), bool)))
    # A gap may begin with its container's clock tick: the container stays in front of it.
    order = np.lexsort((is_gap, start - end, start, track))
    position = np.empty(len(order) + 1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    position[-1] = NO_SCOPE
    return ScopeTree(
        names=names,
        name=name[order].astype(np.int32),
        track=track[order].astype(np.int32),
        start_ns=start[order],
        end_ns=end[order],
        parent=position[parent[order]],
        is_gap=is_gap[order],
        crossing=tree.crossing,
    )
