"""Draws a time line with fewer bars, for a page has no room for all.

None is left out: neighbours on one lane become one bar, which says how many it stands for and how
long they worked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qwen3_profile.trace.columns import Bool, Int32, Int64
from qwen3_profile.views.report.timeline import Bars, Lane, Timeline


def downsample(timeline: Timeline, limit: int) -> Timeline:
    """The same with at most about `limit` bars: the closest neighbours of one part joined first."""
    if timeline.bars <= limit:
        return timeline
    tolerance_ns = 0
    joined = timeline
    while joined.bars > limit and tolerance_ns <= timeline.span_ns:
        lanes = tuple(_joined(lane, tolerance_ns, same=True) for lane in timeline.lanes)
        joined = replace(timeline, lanes=lanes)
        tolerance_ns = 2 * tolerance_ns or 128
    tolerance_ns = timeline.span_ns // max(1, limit)
    while joined.bars > limit and tolerance_ns <= 2 * timeline.span_ns:
        joined = replace(
            joined, lanes=tuple(_joined(lane, tolerance_ns, same=False) for lane in joined.lanes)
        )
        tolerance_ns *= 2
    return joined


def _joined(lane: Lane, tolerance_ns: int, *, same: bool) -> Lane:
    """`lane` with bars joined that lie so close; `same`: only those of one part and layer."""
    bars = lane.bars
    if len(bars) < 2:
        return lane
    ends = np.maximum.accumulate(bars.start_ns + bars.dur_ns)
    apart = bars.start_ns[1:] - ends[:-1] > tolerance_ns
    if same:
        apart |= (np.diff(bars.part) != 0) | (np.diff(bars.layer) != 0)
    first = np.concatenate((np.array([0], np.int64), np.flatnonzero(apart) + 1))
    if len(first) == len(bars):
        return lane
    last = np.concatenate((first[1:], np.array([len(bars)], np.int64))) - 1
    alone = first == last
    return replace(
        lane,
        bars=Bars(
            start_ns=bars.start_ns[first],
            dur_ns=np.maximum.reduceat(ends, first) - bars.start_ns[first],
            name=_where_same(bars.name, first, last, alone),
            part=_where_same(bars.part, first, last, alone),
            layer=_where_same(bars.layer, first, last, alone),
            op=_where_same(bars.op, first, last, alone),
            launch_ns=bars.launch_ns[first],
            count=np.add.reduceat(bars.count, first).astype(np.int32),
            work_ns=np.add.reduceat(bars.work_ns, first),
        ),
    )


def _where_same(values: Int32, first: Int64, last: Int64, alone: Bool) -> Int32:
    """The value of each run where all of it have the same, else -1."""
    same = np.minimum.reduceat(values, first) == np.maximum.reduceat(values, first)
    return np.where(alone | same, values[first], -1).astype(np.int32)
