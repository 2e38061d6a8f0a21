"""Host events of a trace in, the tree of scopes out: which label was open when, on which thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.nesting import NO_PARENT, nest
from qwen3_profile.trace.columns import (
    Bool,
    Category,
    Events,
    Int32,
    Int64,
    Trace,
    occurring,
    which,
)

NO_SCOPE = NO_PARENT

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
        for number in occurring(self.track).tolist():
            mine = track == number
            if mine.all():
                return self._innermost_on_one_track(number, time_ns)
            found[mine] = self._innermost_on_one_track(number, time_ns[mine])
        return found

    def _innermost_on_one_track(self, track: int, time_ns: Int64) -> Int32:
        first, last = np.searchsorted(self.track, (track, track + 1)).tolist()
        found = first - 1 + np.searchsorted(self.start_ns[first:last], time_ns, side="right")
        # The last that opened by then, or the one around it that is still open.
        none = found < first
        asked = np.flatnonzero((self.end_ns[found] <= time_ns) & ~none)
        while len(asked):
            around = self.parent[found[asked]]
            found[asked] = around
            closed = (around != NO_SCOPE) & (self.end_ns[around] <= time_ns[asked])
            asked = asked[closed]
        found[none] = NO_SCOPE
        innermost: Int32 = found.astype(np.int32)
        return innermost


def find_steps(trace: Trace) -> tuple[Step, ...]:
    """The trace's steps in time order: `ProfilerStep#k`, else forward passes, else everything."""
    steps = find_profiler_steps(trace)
    if steps:
        return steps
    phases = _steps(trace, trace.host.take(which(trace.names, _is_phase)[trace.host.name]))
    return phases or whole_trace(trace)


def find_profiler_steps(trace: Trace) -> tuple[Step, ...]:
    """The trace's `ProfilerStep#k` ranges in time order."""
    return _steps(trace, trace.host.take(which(trace.names, _is_step)[trace.host.name]))


def may_be_step(name: str) -> bool:
    """Whether `find_steps` looks at a range of this name."""
    return _is_phase(name) or _is_step(name)


def _is_phase(name: str) -> bool:
    return name in labels.PHASES


def _is_step(name: str) -> bool:
    return name.startswith(labels.STEP_PREFIX)


def select_labels(trace: Trace) -> Bool:
    """Which host events are labels of our grammar, by name, whatever their category."""
    ours = which(trace.names, labels.parse)
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
    span = trace.span
    return () if span is None else (Step(0, span.first_ns, span.last_ns + 1),)


def _nest(events: Events, names: tuple[str, ...], depth: Callable[[str], int]) -> ScopeTree:
    rank = _ranks(names, depth)[events.name]
    nested = nest(events.track, events.start_ns, events.dur_ns, rank)
    order, cut = nested.order, nested.cut
    return ScopeTree(
        names=names,
        name=events.name[order],
        track=events.track[order],
        start_ns=events.start_ns[order],
        end_ns=nested.end_ns,
        parent=nested.parent,
        is_gap=np.zeros(len(order), bool),
        crossing=Crossing(
            len(cut), sum(ns for _, ns in cut), names[events.name[order[cut[0][0]]]] if cut else ""
        ),
    )


@lru_cache(maxsize=8)
def _ranks(names: tuple[str, ...], depth: Callable[[str], int]) -> Int64:
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
    owner, before, after = _stretches(tree)
    closed = after == NO_SCOPE
    following = np.where(closed, _NO_NAME, tree.name[after])
    # Few of the stretches differ by more than their time.
    count = len(tree.names) + 1
    kind = (tree.name[owner].astype(np.int64) * count + tree.name[before]) * count + following + 1
    _, first, kinds = np.unique(kind, return_index=True, return_inverse=True)
    stretches = np.stack((tree.name[owner], tree.name[before], following))[:, first].T.tolist()
    known = [_gap_name(tree.names, tuple(each), name_gap, names) for each in stretches]
    gap = np.array(known, np.int64)[kinds]
    start = tree.end_ns[before]
    end = np.where(closed, tree.end_ns[owner], tree.start_ns[after])
    kept = (gap != _NO_NAME) & (end > start)
    rows = (gap, tree.track[owner], start, end, owner)
    table = np.stack(rows).T[kept].astype(np.int64)
    return _merged(tree, tuple(names), table, is_gap=True)[0]


_NO_NAME = -1


def _gap_name(
    texts: Sequence[str],
    stretch: tuple[int, ...],
    name_gap: Callable[[str, str, str | None], str | None],
    names: dict[str, int],
) -> int:
    """The number, in `names`, of the name of a stretch between two labels; -1 if it has none.

    Args:
        stretch: the names of the container and of the labels before and after, as numbers.
    """
    owner, before, after = stretch
    container = labels.parse(texts[owner])
    previous = labels.parse(texts[before])
    following = labels.parse(texts[after]) if after != _NO_NAME else None
    if container is None or previous is None:
        return _NO_NAME
    gap = name_gap(container.kind, previous.name, following.name if following else None)
    if gap is None:
        return _NO_NAME
    prefix = "" if container.kind == "phase" else texts[owner] + "."
    return names.setdefault(prefix + gap, len(names))


def _stretches(tree: ScopeTree) -> tuple[Int32, Int64, Int64]:
    """(container, child before, child after or -1) for every end of a child."""
    child = np.flatnonzero(tree.parent != NO_SCOPE)
    child = child[np.argsort(tree.parent[child], kind="stable")]
    owner = tree.parent[child]
    follows = np.append(owner[1:] == owner[:-1], False)[: len(child)]
    after = np.where(follows, np.append(child[1:], NO_SCOPE)[: len(child)], NO_SCOPE)
    return owner, child, after


@dataclass(frozen=True, slots=True)
class NewScope:
    """A scope that is to be put into a tree.

    parent: an index into the tree, or len(tree) and an index into the new scopes, of an earlier
        one; -1 for none.
    """

    name: str
    track: int
    start_ns: int
    end_ns: int
    parent: int


def insert_scopes(tree: ScopeTree, new: Sequence[NewScope]) -> tuple[ScopeTree, Int32]:
    """`tree` with more scopes, which lie in their parents and in none of the tree's other scopes.

    Returns:
        The tree, and the place of each new scope in it.
    """
    names = dict(zip(tree.names, range(len(tree.names)), strict=True))
    rows = [
        (names.setdefault(s.name, len(names)), s.track, s.start_ns, s.end_ns, s.parent) for s in new
    ]
    table = np.array(rows, np.int64).reshape(-1, 5)
    return _merged(tree, tuple(names), table, is_gap=False)


def _merged(
    tree: ScopeTree, names: tuple[str, ...], table: Int64, *, is_gap: bool
) -> tuple[ScopeTree, Int32]:
    """`tree` and the scopes of `table`, and the place of each of these in it.

    Args:
        table: int64[n, 5], their name, track, start, end and parent.
    """
    name = np.concatenate((tree.name, table[:, 0].astype(np.int32)))
    track = np.concatenate((tree.track, table[:, 1].astype(np.int32)))
    start = np.concatenate((tree.start_ns, table[:, 2]))
    end = np.concatenate((tree.end_ns, table[:, 3]))
    parent = np.concatenate((tree.parent, table[:, 4].astype(np.int32)))
    gaps = np.concatenate((tree.is_gap, np.full(len(table), is_gap)))
    # A gap may begin with its container's clock tick: the container stays in front of it.
    order = np.lexsort((gaps, start - end, start, track))
    position = np.empty(len(order) + 1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    position[-1] = NO_SCOPE
    merged = ScopeTree(
        names=names,
        name=name[order].astype(np.int32),
        track=track[order].astype(np.int32),
        start_ns=start[order],
        end_ns=end[order],
        parent=position[parent[order]],
        is_gap=gaps[order],
        crossing=tree.crossing,
    )
    return merged, position[len(tree) : -1]
