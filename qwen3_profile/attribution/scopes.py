"""The tree of scopes of a trace: which label was open when, on which thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.nesting import NO_PARENT
from qwen3_profile.trace.columns import Bool, Events, Int32, Int64, Trace, occurring, which

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
    """The ranges that began inside another one and ended after it.

    count: how many, without those that a clock of whole microseconds explains.
    ns: by how much, in all. example: the first of them by name, else an empty text.
    """

    count: int
    ns: int
    example: str


NO_CROSSING = Crossing(0, 0, "")


class NewScope(NamedTuple):
    """A scope that is to be put into a tree.

    parent: an index into the tree, or len(tree) and an index into the new scopes, of an earlier
        one; -1 for none.
    """

    name: str
    track: int
    start_ns: int
    end_ns: int
    parent: int
    is_gap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ScopeTree:
    """Scopes as parallel arrays, parents before their children, ordered by (track, start).

    names: what `name` indexes.
    name, track: int32[n]; track as in `Trace.tracks`.
    start_ns, end_ns: int64[n]; of a range that outlives one around it what comes after the end of
        that is one more scope.
    parent: int32[n], an index into these arrays, or -1.
    is_gap: bool[n]; the scope was no label but ops between two labels, named by them.
    is_rest: bool[n]; the scope goes on with another one of the same range, and is no call itself.
    crossing: those that do.
    """

    names: tuple[str, ...]
    name: Int32
    track: Int32
    start_ns: Int64
    end_ns: Int64
    parent: Int32
    is_gap: Bool
    is_rest: Bool
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

    def around(self, scope: int) -> list[int]:
        """The scope and those that it lies in, the outermost first; nothing for -1."""
        found: list[int] = []
        while scope != NO_SCOPE:
            found.append(scope)
            scope = int(self.parent[scope])
        return found[::-1]

    def path(self, scope: int) -> tuple[str, ...]:
        """The names of the scope and of those that it lies in, the outermost first."""
        return tuple(self.names[self.name[each]] for each in self.around(scope))

    def below(self, chosen: Bool) -> Bool:
        """bool[n]: which scopes lie in a chosen one, at any depth."""
        # Each look goes twice as far up. The last entry stands for the parent of a root.
        above = np.append(self.parent, NO_SCOPE)
        inside: Bool = np.append(chosen, False)[above]
        while (above != NO_SCOPE).any():
            inside |= inside[above]
            above = above[above]
        return inside[:-1]

    def depth(self) -> Int32:
        """int32[n]: in how many scopes each lies."""
        above = np.append(self.parent, NO_SCOPE)
        depth = (above != NO_SCOPE).astype(np.int32)
        while (above != NO_SCOPE).any():
            depth += depth[above]
            above = above[above]
        depths: Int32 = depth[:-1]
        return depths

    def take(self, index: Int64) -> ScopeTree:
        """The scopes at these positions, which leave out no parent of any other."""
        position = np.full(len(self) + 1, NO_SCOPE, np.int32)
        position[index] = np.arange(len(index), dtype=np.int32)
        return replace(
            self,
            name=self.name[index],
            track=self.track[index],
            start_ns=self.start_ns[index],
            end_ns=self.end_ns[index],
            parent=position[self.parent[index]],
            is_gap=self.is_gap[index],
            is_rest=self.is_rest[index],
        )

    def append(self, rows: Sequence[NewScope]) -> ScopeTree:
        """With more scopes behind all others, where they hold sums: no time is looked up there."""
        return self._with_table(*self._table(rows))

    def insert(self, rows: Sequence[NewScope]) -> tuple[ScopeTree, Int32]:
        """With more scopes, which lie in their parents and in none of the tree's other scopes.

        Returns:
            The tree, and the place of each new scope in it.
        """
        return self.insert_table(*self._table(rows))

    def insert_table(self, names: tuple[str, ...], table: Int64) -> tuple[ScopeTree, Int32]:
        """As `insert`.

        Args:
            names: those of the tree, and behind them more.
            table: int64[m, 6], the fields of each `NewScope`, its name as an index of `names`.
        """
        tree = self._with_table(names, table)
        # A gap may begin with its container's clock tick: the container stays in front of it.
        order = np.lexsort((tree.is_gap, tree.start_ns - tree.end_ns, tree.start_ns, tree.track))
        position = np.empty(len(tree), np.int32)
        position[order] = np.arange(len(tree), dtype=np.int32)
        return tree.take(order), position[len(self) :]

    def _table(self, rows: Sequence[NewScope]) -> tuple[tuple[str, ...], Int64]:
        names = dict(zip(self.names, range(len(self.names)), strict=True))
        table = [(names.setdefault(name, len(names)), *rest) for name, *rest in rows]
        return tuple(names), np.array(table, np.int64).reshape(-1, 6)

    def _with_table(self, names: tuple[str, ...], table: Int64) -> ScopeTree:
        few = table.astype(np.int32)
        return replace(
            self,
            names=names,
            name=np.concatenate((self.name, few[:, 0])),
            track=np.concatenate((self.track, few[:, 1])),
            start_ns=np.concatenate((self.start_ns, table[:, 2])),
            end_ns=np.concatenate((self.end_ns, table[:, 3])),
            parent=np.concatenate((self.parent, few[:, 4])),
            is_gap=np.concatenate((self.is_gap, few[:, 5] > 0)),
            is_rest=np.concatenate((self.is_rest, np.zeros(len(few), bool))),
        )


def no_scopes() -> ScopeTree:
    """A tree of none."""
    few, many, no = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, bool)
    return ScopeTree((), few, few, many, many, few, no, no, NO_CROSSING)


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
