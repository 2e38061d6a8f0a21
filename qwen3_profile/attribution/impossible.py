"""Device events that cannot have lasted as long as the trace says.

What runs on one stream runs one after the other, so an event that ends after others which began
after it, and which were launched after it, has a wrong duration. ROCm writes such events. Inside a
graph events of one stream do overlap, and with programmatic dependent launch the next one begins a
little early; but it does not end first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.trace.columns import Bool, Int32, Int64, Span, Trace, around, occurring

# Traces of before 2024 count in whole microseconds.
_RESOLUTION_NS = 1000
_MOST, _LEAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


def find_impossible(trace: Trace, launch: Int32, in_graph: Bool) -> Bool:
    """bool[len(trace.device)]: the events with a wrong duration, not those that they overlap.

    Args:
        launch: of each device event, an index into `trace.launches`, or -1.
    """
    device, odd = trace.device, np.zeros(len(in_graph), bool)
    for mine in _streams(trace, in_graph):
        start_ns, end_ns = device.start_ns[mine], device.end_ns[mine]
        if (start_ns[1:] < end_ns[:-1] - _RESOLUTION_NS).any():
            witness = _in_launch_order(trace, launch[mine]) & (end_ns > start_ns)
            odd[mine] = _outlasts(start_ns, end_ns, witness, _host_ns(trace))
    if odd.any():
        _add_endless(trace, odd)
    return odd


def _streams(trace: Trace, in_graph: Bool) -> Iterator[Int64 | slice]:
    """The events of each stream, by start, without those in graphs."""
    track = trace.device.track
    numbers = occurring(track).tolist()
    if len(numbers) == 1 and not in_graph.any():
        yield slice(None)
        return
    for number in numbers:
        yield np.flatnonzero((track == number) & ~in_graph)


def _host_span(trace: Trace) -> Span | None:
    return around((trace.host_span, trace.launches.span))


def _host_ns(trace: Trace) -> int:
    """How long the host did anything that the trace shows."""
    host = _host_span(trace)
    return _MOST if host is None else host.last_ns - host.first_ns


def _in_launch_order(trace: Trace, launch: Int32) -> Bool:
    """Which events of a stream, by start, were launched after those before and before those after.

    One that was moved in time is not; nothing is known of those without a launch.
    """
    linked = launch != NO_LAUNCH_EVENT
    if not linked.any():
        return np.ones(len(launch), bool)
    launched_ns = trace.launches.start_ns[launch]
    latest = np.maximum.accumulate(np.where(linked, launched_ns, _LEAST))
    earliest = np.minimum.accumulate(np.where(linked, launched_ns, _MOST)[::-1])[::-1]
    follows: Bool = ~linked | ((launched_ns >= latest) & (launched_ns <= earliest))
    return follows


def _outlasts(start_ns: Int64, end_ns: Int64, witness: Bool, length_ns: int) -> Bool:
    """Which events of a stream, by start, end after a later one.

    Args:
        length_ns: of all that the host did; one that is longer only has to overlap the next.
    """
    odd = np.zeros(len(end_ns), bool)
    ends = np.where(witness, end_ns, _MOST)
    first_end = np.minimum.accumulate(ends[::-1])[::-1]
    odd[:-1] = first_end[1:] <= end_ns[:-1] - _RESOLUTION_NS
    overlaps = start_ns[1:] < end_ns[:-1] - _RESOLUTION_NS
    odd[:-1] |= overlaps & ((end_ns - start_ns)[:-1] > length_ns)
    return odd


def _add_endless(trace: Trace, odd: Bool) -> None:
    """Adds those that nothing follows, and that are longer than all the rest together."""
    device, host = trace.device, _host_span(trace)
    while host is not None and not odd.all():
        left = np.flatnonzero(~odd)
        longest = left[np.argmax(device.dur_ns[left])]
        rest = left[left != longest]
        last_ns = max(host.last_ns, int(device.end_ns[rest].max(initial=host.last_ns)))
        if device.dur_ns[longest] <= last_ns - host.first_ns:
            return
        odd[longest] = True
