"""Which ranges of a thread lie in which; what outlives the range around it goes on in a new piece.

Ranges in order of their start, of one thread:      a        |---------------|
                                                    b          |----| |---|  c
                                                    d            |-|

A range lies in as many others as began before it and have not ended: d began fourth, and none has
ended, so its depth is less by those that end later on. The one around it is the last range before
it that is less deep by one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from qwen3_profile.trace.columns import Bool, Int32, Int64

NO_PARENT = -1

# Traces of before 2024 count in whole microseconds: a child may seem to outlive its parent by one.
_RESOLUTION_NS = 1000


# So many of the ranges over one that ends keep their place below each other. It takes as many new
# pieces; where more are open, those below have none until they are the innermost again.
_MOST_PIECES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Nested:
    """Ranges, or pieces of them, by track and start, the outer one first where they start together.

    order: int64[n], which range each is; several pieces of a range that outlives one around it.
    start_ns, end_ns: int64[n], the end that of its parent at most.
    parent: int32[n], a place in this order, or -1.
    is_rest: bool[n], whether an earlier piece is of the same range.
    crossing: place, and by how much the first range around it is outlived, of what does so by more
        than the resolution of the trace.
    """

    order: Int64
    start_ns: Int64
    end_ns: Int64
    parent: Int32
    is_rest: Bool
    crossing: list[tuple[int, int]]


def nest(track: Int32, start_ns: Int64, dur_ns: Int64, rank: Int64) -> Nested:
    """Nests ranges, thread by thread.

    Args:
        rank: of two ranges of the same start and end, the lower one is outside.
    """
    order = _ordered((track, start_ns, -dur_ns, rank))
    track, start, end = track[order], start_ns[order], (start_ns + dur_ns)[order]
    parts: list[Int64] = []
    crossing: list[tuple[int, int]] = []
    count = 0
    borders = np.flatnonzero(track[1:] != track[:-1]) + 1
    for first, last in pairwise((0, *borders.tolist(), len(order))):
        mine = slice(first, last)
        rows = np.stack((order[mine], start[mine], end[mine], _parents(start[mine], end[mine])))
        around = rows[3]
        if (rows[2] > rows[2][around])[around != NO_PARENT].any():
            pieces = _Pieces(start[mine].tolist(), end[mine].tolist())
            rows = np.array(pieces.rows, np.int64).T
            rows[0] = order[mine][rows[0]]
            crossing += [(count + place, ns) for place, ns in pieces.crossing]
        rows[3][rows[3] != NO_PARENT] += count
        count += rows.shape[1]
        parts.append(rows)
    whole = np.concatenate((np.empty((4, 0), np.int64), *parts), axis=1)
    is_rest = np.zeros(count, bool)
    if count > len(order):
        is_rest[:] = True
        is_rest[np.unique(whole[0], return_index=True)[1]] = False
    return Nested(whole[0], whole[1], whole[2], whole[3].astype(np.int32), is_rest, crossing)


def _ordered(keys: tuple[Int32 | Int64, ...]) -> Int64:
    """What sorts by the first key, then by the others; most columns of a trace are in order."""
    behind = np.zeros(max(len(keys[0]) - 1, 0), bool)
    for key in reversed(keys):
        behind = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & behind)
    return np.lexsort(keys[::-1]) if behind.any() else np.arange(len(keys[0]))


def _parents(start: Int64, end: Int64) -> Int64:
    """The parents of ranges that lie in each other or apart, or -1.

    Up to the first that does neither they are right, and the one of that ends before it.
    """
    found = np.full(len(start), NO_PARENT, np.int64)
    # In a range without length lies none.
    is_long = end > start
    began: Int64 = np.cumsum(is_long) - is_long
    depth = began - np.searchsorted(np.sort(end[is_long], kind="stable"), start, side="right")
    by_depth = np.argsort(depth, kind="stable")
    borders = np.searchsorted(depth[by_depth], np.arange(depth.max(initial=0) + 2))
    around = np.empty(0, np.int64)
    for first, last in pairwise(borders.tolist()):
        mine = by_depth[first:last]
        if len(around):
            found[mine] = around[np.searchsorted(around, mine) - 1]
        around = mine[is_long[mine]]
    return found


class _Pieces:
    """The pieces of the ranges of one thread, of which some outlive the one around them.

    rows: of each piece its range, its start, its end and its parent, in order of their start.
    crossing: place and length, as in `Nested`.

    `_open` are the ranges that are open, in the order in which they began. From `_lives` on they
    have a piece that is open as well, `_piece`.
    """

    def __init__(self, start: list[int], end: list[int]) -> None:
        self.rows: list[list[int]] = []
        self.crossing: list[tuple[int, int]] = []
        self._end = end
        self._open: list[int] = []
        self._lives = 0
        self._piece: dict[int, int] = {}
        self._ends: list[tuple[int, int]] = []
        for number, begin_ns in enumerate(start):
            self._close_until(begin_ns)
            self._begin(number, begin_ns)
        if end:
            self._close_until(max(end))

    def _begin(self, number: int, begin_ns: int) -> None:
        end_ns = self._end[number]
        if self._open:
            around_ns = self._end[self._open[-1]]
            if around_ns < end_ns <= around_ns + _RESOLUTION_NS:
                end_ns = self._end[number] = around_ns
            outlived_ns = end_ns - self._ends[0][0]
            if outlived_ns > _RESOLUTION_NS:
                self.crossing.append((len(self.rows), outlived_ns))
        self._open.append(number)
        heappush(self._ends, (end_ns, number))
        self._add_piece(len(self._open) - 1, begin_ns)

    def _close_until(self, time_ns: int) -> None:
        while self._ends and self._ends[0][0] <= time_ns:
            at_ns = self._ends[0][0]
            lowest = len(self._open)
            while self._ends and self._ends[0][0] == at_ns:
                number = heappop(self._ends)[1]
                place = bisect_left(self._open, number)
                del self._open[place]
                self._lives -= place < self._lives
                lowest = min(lowest, place)
            self._go_on(lowest, at_ns)

    def _go_on(self, lowest: int, at_ns: int) -> None:
        """Gives new pieces to the ranges from a place on, as one below them ended."""
        count = len(self._open)
        if lowest == count and (not count or self._lives < count):
            return
        # What is the innermost again may have had no place among so many.
        first = max(lowest if lowest < count else 0, count - _MOST_PIECES)
        closed = self._lives if first > lowest else max(self._lives, lowest)
        for number in self._open[closed:]:
            self.rows[self._piece[number]][2] = at_ns
        self._lives = first if first > lowest else min(self._lives, first)
        for place in range(first, count):
            self._add_piece(place, at_ns)

    def _add_piece(self, place: int, begin_ns: int) -> None:
        number = self._open[place]
        parent = self._piece[self._open[place - 1]] if place > self._lives else NO_PARENT
        self._piece[number] = len(self.rows)
        self.rows.append([number, begin_ns, self._end[number], parent])
