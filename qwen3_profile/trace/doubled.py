"""Events that stand in a file twice, to the letter of all that is read of them.

Nothing does one thing twice at one moment: a file has such events because it was put together
twice. Two things look alike where times are whole microseconds: operators of no length, and the
kernels of a graph, which share their id and may run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen3_profile.trace.columns import NO_CORRELATION, Bool, Category, Events

_MICROSECOND_NS = 1000
# Two kernels of a graph that run side by side for as long as this do so to the microsecond rarely.
_LONG_NS = 5000


def leave_out_doubled(tables: Sequence[Events]) -> tuple[list[Events], tuple[Events, ...]]:
    """Events in order without those that stand there again; and these, of each table with any."""
    left, doubled = [], []
    for events in tables:
        again = _are_again(events)
        if again is not None:
            doubled.append(events.take(again))
            events = events.take(~again)
        left.append(events)
    return left, tuple(doubled)


def _are_again(events: Events) -> Bool | None:
    """Which events are the same as the one in front; None for none of them."""
    at = np.flatnonzero(events.start_ns[1:] == events.start_ns[:-1]) + 1
    if not len(at):
        return None
    alike = (events.dur_ns, events.name, events.track, events.correlation, events.category)
    for column in (*alike, events.launch_config):
        if column is not None:
            at = at[column[at] == column[at - 1]]
    at = at[[_is_sure(events, each) for each in at.tolist()]] if len(at) else at
    if not len(at):
        return None
    again = np.zeros(len(events), bool)
    again[at] = True
    return again


def _is_sure(events: Events, at: int) -> bool:
    """Whether an event that is the same as the one in front can be nothing else."""
    start_ns, dur_ns = int(events.start_ns[at]), int(events.dur_ns[at])
    correlation = events.correlation[at]
    is_fine = bool(start_ns % _MICROSECOND_NS or dur_ns % _MICROSECOND_NS)
    if correlation == NO_CORRELATION:
        return dur_ns > 0 and (is_fine or events.category[at] != Category.CPU_OP)
    if is_fine or dur_ns >= _LONG_NS or events.category[at] < Category.KERNEL:
        return True
    return int((events.correlation == correlation).sum()) == 2
