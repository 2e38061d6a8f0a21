"""What a file says twice of its times must agree: one function per fact.

Where honest files of some profiler differ in one of them all through, that is a custom of theirs
and not told. Arrows, places and the order on streams have modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import DAMAGE, NOTE, WARNING, Finding, counted, microseconds
from qwen3_profile.trace.columns import Bool, Category, Events, Int64, Span, Trace, occurring, which

# Traces of before 2024 count in whole microseconds; both ends of a duration are rounded.
_ROUNDED_NS = 1000
_LEAST_TOLERANCE_NS = 2
_TOLERANCE = 0.02
# Fewer copies do not tell by which factor all bandwidths of a file are wrong.
_LEAST_COPIES = 3
_RANGES = (Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)


def check_doubled(attribution: Attribution) -> Iterator[Finding]:
    """These are in no sum; device events refuse, as the file was put together twice."""
    trace = attribution.trace
    for events in trace.doubled:
        on_device = bool(events.category[0] >= Category.KERNEL)
        name = trace.names[events.name[0]]
        what = "device events" if on_device else "labels and calls"
        yield Finding(
            DAMAGE if on_device else WARNING,
            "doubled",
            f"{len(events)} {what} stand in the file twice, with the same time and id; {name} "
            f"begins at {microseconds(int(events.start_ns[0]))} and lasts "
            f"{microseconds(int(events.dur_ns[0]))} us both times: counted once",
            count=len(events),
            ns=int(events.dur_ns.sum()),
            example=name,
        )


def check_outside_window(attribution: Attribution) -> Iterator[Finding]:
    """Kineto goes on to write calls for a moment; nothing else begins or ends outside."""
    trace = attribution.trace
    window = trace.said.window
    if window is None:
        return
    ours = which(trace.names, labels.parse)[trace.host.name]
    ranges = trace.host.take(ours | np.isin(trace.host.category, _RANGES))
    kinds = (
        (WARNING, "label", ranges, _is_outside(ranges, window)),
        (NOTE, "call", trace.launches, _is_outside(trace.launches, window)),
        (WARNING, "device event", trace.device, _is_outside(trace.device, window)),
    )
    for severity, what, events, outside in kinds:
        outside &= (events.start_ns != 0) | (events.dur_ns != 0)
        if outside.any():
            yield _outside(trace, severity, what, events.take(outside), window)


def _is_outside(events: Events, window: Span) -> Bool:
    first_ns, last_ns = window.first_ns - _ROUNDED_NS, window.last_ns + _ROUNDED_NS
    return (events.start_ns < first_ns) | (events.end_ns > last_ns)


def _outside(trace: Trace, severity: str, what: str, events: Events, window: Span) -> Finding:
    name = trace.names[events.name[0]]
    told = counted(len(events), what)
    first, last = microseconds(int(events.start_ns[0])), microseconds(int(events.end_ns[0]))
    return Finding(
        severity,
        "outside-window",
        f"{told} {'lies' if len(events) == 1 else 'lie'} outside of the time in which the profiler "
        "says that it recorded, "
        f"{microseconds(window.first_ns)} to {microseconds(window.last_ns)}: "
        f"{name} is at {first} to {last}",
        count=len(events),
        ns=int(events.dur_ns.sum()),
        example=name,
    )


def check_bandwidth(attribution: Attribution) -> Iterator[Finding]:
    """Some profilers of 2024 wrote all bandwidths too low, by one factor."""
    trace = attribution.trace
    name, start_ns, dur_ns, wanted_ns = trace.said.copies
    if not len(name):
        return
    expected_ns = wanted_ns / _factor(dur_ns, wanted_ns)
    whole = _in_whole_microseconds(start_ns, dur_ns)
    tolerance_ns = _TOLERANCE * expected_ns + (_ROUNDED_NS if whole else _LEAST_TOLERANCE_NS)
    odd = np.flatnonzero(np.abs(expected_ns - dur_ns) > tolerance_ns)
    if len(odd):
        first = odd[0]
        example = trace.names[name[first]]
        yield Finding(
            WARNING,
            "copy-bandwidth",
            f"{len(odd)} of {len(name)} copies and fills do not last as long as their bytes at "
            f"their bandwidth: {example} at {microseconds(int(start_ns[first]))} lasts "
            f"{int(dur_ns[first])} ns, and not {round(expected_ns[first])} ns",
            count=len(odd),
            ns=int(dur_ns[odd].sum()),
            example=example,
        )


def _in_whole_microseconds(start_ns: Int64, dur_ns: Int64) -> bool:
    return not ((start_ns % 1000).any() or (dur_ns % 1000).any())


def _factor(dur_ns: Int64, wanted_ns: Int64) -> float:
    """By what bandwidths are wrong all through: 1 unless most of them agree on another."""
    known = dur_ns > 0
    if int(known.sum()) < _LEAST_COPIES:
        return 1.0
    ratio = wanted_ns[known] / dur_ns[known]
    middle = float(np.sort(ratio)[len(ratio) // 2])
    agree = np.abs(ratio - middle) <= _TOLERANCE * middle
    is_custom = abs(middle - 1) > _TOLERANCE and 2 * int(agree.sum()) > len(ratio)
    return middle if is_custom else 1.0


def check_no_duration(attribution: Attribution) -> Iterator[Finding]:
    """No kernel takes no time; in whole microseconds a few short ones seem to."""
    trace = attribution.trace
    device = trace.device
    if device.dur_ns.all():
        return
    kernels = device.take((device.category == Category.KERNEL) & (device.start_ns != 0))
    empty = kernels.dur_ns == 0
    whole = _in_whole_microseconds(kernels.start_ns, kernels.dur_ns)
    count = int(empty.sum())
    if not count or (whole and 2 * count <= len(kernels)):
        return
    name = trace.names[kernels.name[empty][0]]
    yield Finding(
        WARNING,
        "no-duration",
        f"{count} of {len(kernels)} kernels began and ran, and last 0 ns: {name} at "
        f"{microseconds(int(kernels.start_ns[empty][0]))}; their time is in no sum",
        count=count,
        ns=0,
        example=name,
    )


def check_calls_overlap(attribution: Attribution) -> Iterator[Finding]:
    """One thread calls one thing at a time; only a driver's call lies inside another one."""
    trace = attribution.trace
    calls = trace.launches
    for number in occurring(calls.track):
        mine = np.flatnonzero(calls.track == number)
        end_ns = calls.end_ns[mine]
        reach_ns = np.maximum.accumulate(end_ns)[:-1]
        begins = calls.start_ns[mine][1:] < reach_ns - _ROUNDED_NS
        if not begins.any():
            continue
        is_driver = calls.category[mine][1:] == Category.DRIVER
        odd = np.flatnonzero(begins & ~(is_driver & (end_ns[1:] <= reach_ns + _ROUNDED_NS)))
        if len(odd):
            outer = mine[np.flatnonzero(end_ns == reach_ns[odd[0]])[0]]
            yield _overlap(trace, calls, int(outer), int(mine[odd[0] + 1]), len(odd))


def _overlap(trace: Trace, calls: Events, outer: int, inner: int, count: int) -> Finding:
    one, other = (trace.names[calls.name[at]] for at in (outer, inner))
    return Finding(
        NOTE,
        "calls-overlap",
        f"{count} calls begin before another one of their thread has ended: {other} at "
        f"{microseconds(int(calls.start_ns[inner]))}, {one} lasts from "
        f"{microseconds(int(calls.start_ns[outer]))} to {microseconds(int(calls.end_ns[outer]))}",
        count=count,
        ns=int(calls.dur_ns[outer]),
        example=one,
    )


def check_calls_outlast(attribution: Attribution) -> Iterator[Finding]:
    """A call ends before the label does that it was called in, on one thread."""
    trace, scopes = attribution.trace, attribution.scopes
    launches = trace.launches
    if not len(scopes) or not len(launches) or scopes.crossing.count:
        return
    around = attribution.call_owner
    late = (around >= 0) & (launches.end_ns > scopes.end_ns[around] + _ROUNDED_NS)
    late &= launches.start_ns < scopes.end_ns[around]
    if not late.any():
        return
    first = int(np.flatnonzero(late)[0])
    name = trace.names[launches.name[first]]
    scope = int(around[first])
    yield Finding(
        NOTE,
        "call-outlasts",
        f"{int(late.sum())} calls end after the label does in which they began: {name} at "
        f"{microseconds(int(launches.end_ns[first]))}, "
        f"{scopes.names[scopes.name[scope]]} at {microseconds(int(scopes.end_ns[scope]))}",
        count=int(late.sum()),
        ns=int(launches.dur_ns[late].sum()),
        example=name,
    )
