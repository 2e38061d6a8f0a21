"""Ranges of one track in; out, a lane for each, so that no two of a lane cut across each other.

Perfetto draws ranges that lie in each other, and drops one of two that overlap otherwise. Kernels
of one stream do where the next one starts before the last one has drained.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

_Time = TypeVar("_Time", int, Decimal)


def lanes(ranges: Sequence[tuple[_Time, _Time]]) -> list[int]:
    """The lane of each range, counted from 0: the first one that it fits on.

    Args:
        ranges: (start, end); of equal ones the outer one first.
    """
    found = [0] * len(ranges)
    open_ends: list[list[_Time]] = []
    for index in sorted(range(len(ranges)), key=lambda i: (ranges[i][0], -ranges[i][1], i)):
        start, end = ranges[index]
        lane = next((n for n, ends in enumerate(open_ends) if _fits(start, end, ends)), None)
        if lane is None:
            lane = len(open_ends)
            open_ends.append([])
        open_ends[lane].append(end)
        found[index] = lane
    return found


def _fits(start: _Time, end: _Time, ends: list[_Time]) -> bool:
    """Whether a range lies in what is open on a lane; what ended before it is taken off `ends`."""
    while ends and ends[-1] <= start:
        ends.pop()
    return not ends or end <= ends[-1]
