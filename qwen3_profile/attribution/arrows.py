"""Arrows from launches to device events: what they say of an event must be so.

Kineto draws one end for each call and for each device event, with its id, time and thread or
stream; one may end at a synchronisation, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import WARNING, Finding, microseconds
from qwen3_profile.trace.columns import Bool, Events, Int32, Int64, Trace

_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def check_arrows(attribution: Attribution) -> Iterator[Finding]:
    """Those that stand behind no event which they agree with, and agree with none at all."""
    trace = attribution.trace
    if not trace.said.arrows.shape[1]:
        return
    _, ids, times, tracks = trace.said.arrows
    tables = tuple(
        each.take(np.isin(each.correlation, ids))
        for each in (trace.launches, trace.device, attribution.apart)
    )
    known = [_marks(each.correlation, each.start_ns, each.track) for each in tables]
    known.append(_marks(*trace.said.waits[1:]))
    arrows = trace.said.arrows[:, ~np.isin(_marks(ids, times, tracks), np.concatenate(known))]
    if not arrows.shape[1]:
        return
    moved = _are_of_moved(trace, arrows, tables)
    if moved.any():
        yield _moved(trace, tables, arrows[:, moved])
    if not moved.all():
        yield _lost(trace, arrows[:, ~moved])


def _marks(ids: Int64, times: Int64, tracks: Int64 | Int32) -> Int64:
    """A hash of 64 bits of each event's id, time and track."""
    found = np.zeros(len(ids), np.uint64)
    for column, factor in zip((ids, times, tracks), _FACTORS, strict=True):
        found ^= column.astype(np.int64).view(np.uint64) * factor
        found *= _FACTORS[0]
        found ^= found >> np.uint64(29)
    return found.view(np.int64)


def _are_of_moved(trace: Trace, arrows: Int64, tables: tuple[Events, ...]) -> Bool:
    """Which arrows have an event with their id, at the end where they are.

    One begins at a call, and ends at a device event, or at a call that launches nothing.
    """
    calls, *device = tables
    of_calls = np.isin(arrows[1], calls.correlation)
    of_device = np.isin(arrows[1], np.concatenate([each.correlation for each in device]))
    on_host = np.isin(arrows[3], np.concatenate((trace.launches.track, trace.host.track)))
    moved: Bool = np.where(arrows[0] == 0, of_calls, of_device | (of_calls & on_host))
    return moved


def _moved(trace: Trace, tables: tuple[Events, ...], arrows: Int64) -> Finding:
    end, number, time_ns, track = arrows[:, 0].tolist()
    events = next(
        each for each in (tables[1:] if end else tables[:1]) + tables if number in each.correlation
    )
    at = int(np.flatnonzero(events.correlation == number)[0])
    name = trace.names[events.name[at]]
    return Finding(
        WARNING,
        "arrow-disagrees",
        f"{arrows.shape[1]} arrows lie elsewhere than the events that they are of, so that one of "
        f"the two is wrong: {name} of id {number} is at {microseconds(int(events.start_ns[at]))} "
        f"on {_place(trace, int(events.track[at]))}, its arrow at {microseconds(time_ns)} on "
        f"{_place(trace, track)}",
        count=arrows.shape[1],
        ns=0,
        example=name,
    )


def _lost(trace: Trace, arrows: Int64) -> Finding:
    end, number, time_ns, track = arrows[:, 0].tolist()
    calls = np.flatnonzero(trace.launches.correlation == number)
    launched = f", launched by {trace.names[trace.launches.name[calls[0]]]}," if len(calls) else ""
    what = "end at device events or calls" if end else "begin at calls"
    return Finding(
        WARNING,
        "arrow-without-event",
        f"{arrows.shape[1]} arrows have no event in the file, so that events were lost, such as "
        f"those that {what}: id {number} at {microseconds(time_ns)} on {_place(trace, track)}"
        f"{launched} is not there",
        count=arrows.shape[1],
        ns=0,
        example=str(number),
    )


def _place(trace: Trace, track: int) -> str:
    return f"pid {trace.tracks[track].pid} tid {trace.tracks[track].tid}"
