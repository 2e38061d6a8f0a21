"""Which ranges of a thread lie in which; what outlives the range around it is cut.

Ranges in order of their start, of one thread:      a        |---------------|
                                                    b          |----| |---|  c
                                                    d            |-|

A range lies in as many others as began before it and have not ended: d began fourth, and none has
ended, so its depth is less by those that end later on. The one around it is the last range before
it that is less deep by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qwen3_profile.trace.columns import Int32, Int64

NO_PARENT = -1

# Traces of before 2024 count in whole microseconds: a child may seem to outlive its parent by one.
_RESOLUTION_NS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Nested:
    """Ranges by track and start, the outer one first of those that start together.

    order: int64[n], which range each is.
    parent: int32[n], a place in this order, or -1.
    end_ns: int64[n], that of its parent at most.
    cut: place and length of what had to be cut by more than the resolution of the trace.
    """

    order: Int64
    parent: Int32
    end_ns: Int64
    cut: list[tuple[int, int]]


def nest(track: Int32, start_ns: Int64, dur_ns: Int64, rank: Int64) -> Nested:
    """Nests ranges, thread by thread.

    Args:
        rank: of two ranges of the same start and end, the lower one is outside.
    """
    order = _ordered((track, start_ns, -dur_ns, rank))
    track, start, end = track[order], start_ns[order], (start_ns + dur_ns)[order]
    parent = np.empty(len(order), np.int32)
    cut: list[tuple[int, int]] = []
    borders = np.flatnonzero(track[1:] != track[:-1]) + 1
    for first, last in pairwise((0, *borders.tolist(), len(order))):
        mine = slice(first, last)
        around = _parents(start[mine], end[mine])
        if (end[mine] > end[mine][around])[around != NO_PARENT].any():
            around, end[mine], cut_here = _cut(start[mine].tolist(), end[mine].tolist())
            cut += [(first + place, ns) for place, ns in cut_here]
        parent[mine] = np.where(around == NO_PARENT, NO_PARENT, around + first)
    return Nested(order, parent, end, cut)


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


def _cut(start: list[int], end: list[int]) -> tuple[Int64, Int64, list[tuple[int, int]]]:
    """Parents and ends of ranges of which some outlive the one around them; and those."""
    parent = [NO_PARENT] * len(start)
    cut = []
    open_now: list[int] = []
    open_until = -1
    for i, begin in enumerate(start):
        while open_now and open_until <= begin:
            open_now.pop()
            open_until = end[open_now[-1]] if open_now else -1
        if open_now:
            parent[i] = open_now[-1]
            if end[i] > open_until:
                if end[i] - open_until > _RESOLUTION_NS:
                    cut.append((i, end[i] - open_until))
                end[i] = open_until
        open_now.append(i)
        open_until = end[i]
    return np.array(parent, np.int64), np.array(end, np.int64), cut
