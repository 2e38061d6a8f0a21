"""Looks an attribution and its trace through for oddities: one function per kind.

Thresholds come from real traces. On a GTX 1650 kernels start up to 0.1 ms before their launch, as
two clocks disagree; a disagreement of over a millisecond makes gaps and queue delays meaningless.
Kernels overlap on one stream inside graphs and with programmatic dependent launch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_profile.attribution.arrows import check_arrows
from qwen3_profile.attribution.attribute import NO_STEP, Attribution, Reason, sum_by_scope
from qwen3_profile.attribution.contradictions import (
    check_bandwidth,
    check_calls_outlast,
    check_calls_overlap,
    check_doubled,
    check_no_duration,
    check_outside_window,
)
from qwen3_profile.attribution.file_checks import check_file
from qwen3_profile.attribution.findings import (
    DAMAGE,
    NOTE,
    WARNING,
    Finding,
    microseconds,
)
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.lost_events import check_lost, is_kernel_launch
from qwen3_profile.attribution.order import check_stream_order, check_synchronised
from qwen3_profile.attribution.places import check_places
from qwen3_profile.trace.columns import NO_CORRELATION, Bool, Int64, around, which

_CLOCK_JUMP_NS = 1_000_000
# No session lasts for a hundred days; what lies so far apart was not timed by one clock.
LONGEST_TRACE_NS = 100 * 86_400 * 10**9
# Some clocks begin at 0; then events follow within this time.
_CLOCK_START_NS = 100_000
# Of all device time: what is less changes no figure that is shown.
_SMALL_SHARE = 0.001


def check_trace(attribution: Attribution) -> tuple[Finding, ...]:
    """Everything that is odd in a trace, the gravest first."""
    checks = (
        check_file,
        _without_timestamps,
        _outlasts_the_trace,
        _impossible,
        _lies_apart,
        _duplicate_launches,
        _shared_launches,
        _starts_before_launch,
        check_lost,
        _events_without_launch,
        _longer_than_step,
        _overlaps,
        _crossing,
        check_doubled,
        check_arrows,
        check_places,
        check_outside_window,
        check_bandwidth,
        check_no_duration,
        check_calls_outlast,
        check_calls_overlap,
        check_stream_order,
        check_synchronised,
    )
    found = [finding for check in checks for finding in check(attribution)]
    order = (DAMAGE, WARNING, NOTE)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _without_timestamps(attribution: Attribution) -> Iterator[Finding]:
    """Kineto wrote events with start 0 and duration 0 after a session spanned a graph capture.

    In a trace whose clock begins at 0 the first host events may be so, and others follow soon.
    """
    trace = attribution.trace
    tables = {"host events": trace.host, "launches": trace.launches, "device events": trace.device}
    blank = {what: (each.start_ns == 0) & (each.dur_ns == 0) for what, each in tables.items()}
    counts = {what: int(each.sum()) for what, each in blank.items()}
    if not any(counts.values()):
        return
    spans = (each.take(~blank[what]).span for what, each in tables.items())
    rest = around((*spans, attribution.apart.span))
    first = trace.host_span is not None and trace.host_span.first_ns == 0
    late = rest is None or not 0 <= rest.first_ns <= _CLOCK_START_NS
    if late or (counts["device events"] and not first):
        what, events = next((what, each) for what, each in tables.items() if counts[what])
        told = ", ".join(f"{counts[w]} of {len(tables[w])} {w}" for w in tables if counts[w])
        example = trace.names[events.name[blank[what]][0]]
        message = f"{told} have neither a start nor a duration"
        yield Finding(DAMAGE, "no-timestamps", message, sum(counts.values()), 0, example)


def _impossible(attribution: Attribution) -> Iterator[Finding]:
    """Of these the sums have nothing; what they overlap is right."""
    trace, odd = attribution.trace, attribution.apart
    if not len(odd):
        return
    ns, total = int(odd.dur_ns.sum()), len(odd) + len(trace.device)
    share = ns / (ns + int(trace.device.dur_ns.sum()))
    by_name = sum_by_scope(odd.name, odd.dur_ns, len(trace.names))
    name = trace.names[int(np.argmax(by_name))]
    yield Finding(
        WARNING if share >= _SMALL_SHARE else NOTE,
        "impossible-duration",
        f"{len(odd)} of {total} device events, such as {name}, outlast others that ran after them "
        f"on their stream, so their durations are wrong: their {ns} ns ({share:.1%} of all device "
        "time) stand apart, in no sum",
        count=len(odd),
        ns=ns,
        example=name,
    )


def _outlasts_the_trace(attribution: Attribution) -> Iterator[Finding]:
    """A corrupt duration is longer than all other events of the trace together."""
    trace = attribution.trace
    device, launches = trace.device, trace.launches.span
    if len(device) < 2 or launches is None:
        return
    longest = int(np.argmax(device.dur_ns))
    rest = np.delete(device.end_ns, longest)
    around = launches | (trace.host_span or launches)
    if device.dur_ns[longest] > max(around.last_ns, int(rest.max())) - around.first_ns:
        odd = np.zeros(len(device), bool)
        odd[longest] = True
        yield _finding(
            attribution, DAMAGE, "endless", odd, "device event is longer than all the rest together"
        )


def _lies_apart(attribution: Attribution) -> Iterator[Finding]:
    trace = attribution.trace
    span = trace.span
    if span is not None and span.last_ns - span.first_ns > LONGEST_TRACE_NS:
        tables = [table for table in (trace.host, trace.launches, trace.device) if len(table)]
        latest = max(tables, key=lambda table: int(table.end_ns.max()))
        days = (span.last_ns - span.first_ns) // (86_400 * 10**9)
        message = f"the first and the last event lie {days} days apart: their clocks disagree"
        example = trace.names[latest.name[np.argmax(latest.end_ns)]]
        yield Finding(DAMAGE, "clock-jump", message, 1, span.last_ns - span.first_ns, example)


def _duplicate_launches(attribution: Attribution) -> Iterator[Finding]:
    """A driver call may repeat the id of the runtime call around it; nothing else may."""
    trace = attribution.trace
    known = np.flatnonzero(trace.launches.correlation != NO_CORRELATION)
    ids = np.sort(trace.launches.correlation[known])
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if not len(repeated):
        return
    known = known[np.isin(trace.launches.correlation[known], repeated)]
    known = known[np.isin(trace.launches.correlation[known], trace.device.correlation)]
    calls = trace.launches.take(known)
    # The outermost call of each id, as the attribution chose it, and the others of that id.
    order = np.lexsort((calls.category, -calls.dur_ns, calls.start_ns, calls.correlation))
    calls = calls.take(order)
    _, first = np.unique(calls.correlation, return_index=True)
    outer = first[np.cumsum(np.isin(np.arange(len(calls)), first)) - 1]
    inside = (calls.track == calls.track[outer]) & (calls.end_ns <= calls.end_ns[outer])
    if not inside.all():
        ids = calls.correlation[~inside]
        yield _finding(
            attribution,
            DAMAGE,
            "duplicate-launch",
            np.isin(trace.device.correlation, ids),
            "device events have several launches of the same id",
        )


def _shared_launches(attribution: Attribution) -> Iterator[Finding]:
    """One call launches one kernel; only a graph launches many under its id."""
    trace, launch = attribution.trace, attribution.launch
    one_kernel = which(trace.names, is_kernel_launch)
    linked = np.flatnonzero(launch != NO_LAUNCH_EVENT)
    alone = linked[one_kernel[trace.launches.name[launch[linked]]]]
    counts = np.bincount(launch[alone], minlength=len(trace.launches))
    shared = np.zeros(len(launch), bool)
    shared[alone] = counts[launch[alone]] > 1
    if shared.any():
        yield _finding(
            attribution, DAMAGE, "shared-launch", shared,
            "device events share the id of a call that launches one kernel",
        )  # fmt: skip


def _starts_before_launch(attribution: Attribution) -> Iterator[Finding]:
    trace, launch = attribution.trace, attribution.launch
    linked = launch != NO_LAUNCH_EVENT
    lead_ns = np.zeros(len(launch), np.int64)
    launched = trace.launches.start_ns[launch[linked]]
    lead_ns[linked] = launched - trace.device.start_ns[linked]
    # Events without timestamps have a finding of their own.
    early = (lead_ns > 0) & (trace.device.start_ns != 0)
    if early.any():
        worst = int(lead_ns[early].max())
        severity = DAMAGE if worst > _CLOCK_JUMP_NS else WARNING
        yield _finding(
            attribution,
            severity,
            "clock-jump" if severity == DAMAGE else "before-launch",
            early,
            f"device events start before their launch, by up to {microseconds(worst)} us",
        )


def _events_without_launch(attribution: Attribution) -> Iterator[Finding]:
    for reason in (Reason.NO_LAUNCH, Reason.BEFORE_WINDOW):
        mine = attribution.owner == reason
        if mine.any():
            code = "event-without-launch" if reason is Reason.NO_LAUNCH else "before-window"
            what = f"device events cannot be given to a label: {reason.text}"
            yield _finding(attribution, WARNING, code, mine, what)


def _longer_than_step(attribution: Attribution) -> Iterator[Finding]:
    step = attribution.device_step
    length = np.array([s.end_ns - s.start_ns for s in attribution.steps], np.int64)
    inside = step != NO_STEP
    longer = np.zeros(len(step), bool)
    longer[inside] = attribution.trace.device.dur_ns[inside] > length[step[inside]]
    if longer.any():
        yield _finding(
            attribution,
            WARNING,
            "longer-than-step",
            longer,
            "device events are longer than the step that launched them",
        )


def _overlaps(attribution: Attribution) -> Iterator[Finding]:
    device = attribution.trace.device
    overlaps = np.zeros(len(device), bool)
    order: Int64 = np.lexsort((device.start_ns, device.track))
    for part in np.split(order, np.flatnonzero(np.diff(device.track[order])) + 1):
        reach = np.maximum.accumulate(device.end_ns[part])
        overlaps[part[1:]] = device.start_ns[part][1:] < reach[:-1]
    overlaps &= ~attribution.in_graph
    if overlaps.any():
        yield _finding(
            attribution,
            NOTE,
            "overlap",
            overlaps,
            "device events overlap others on their stream, outside graphs: their sum exceeds busy",
        )


def _crossing(attribution: Attribution) -> Iterator[Finding]:
    found = attribution.scopes.crossing
    if found.count:
        of_one = "range begins inside another one and ends after it"
        cross = of_one if found.count == 1 else "ranges begin inside another one and end after it"
        message = (
            f"{found.count} {cross}: the rest counts outside of it; the innermost range is the one "
            "that began last"
        )
        yield Finding(WARNING, "ranges-cross", message, found.count, found.ns, found.example)


def _finding(
    attribution: Attribution, severity: str, code: str, events: Bool, what: str
) -> Finding:
    """A finding on some device events: how many of how many, their time, and one by name."""
    trace = attribution.trace
    count = int(events.sum())
    return Finding(
        severity=severity,
        code=code,
        message=f"{count} of {len(events)} {what}",
        count=count,
        ns=int(trace.device.dur_ns[events].sum()),
        example=trace.names[trace.device.name[events][0]],
    )
