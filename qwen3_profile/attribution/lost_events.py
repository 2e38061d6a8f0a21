"""Launches whose device events the profiler lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT, is_graph_launch, is_outer
from qwen3_profile.trace.columns import NO_CORRELATION, Bool, Category, Events, Int64, Trace, which

# Calls that put work on the device, of CUDA, HIP and XPU (Unified Runtime and Level Zero).
# Allocations, synchronisations and queries do not.
_KERNEL = re.compile(
    r"(cuda|cu|hip)(Ext)?(Module)?Launch\w*Kernel(?!MultiDevice)\w*"
    r"|(ur|pi)EnqueueKernelLaunch\w*|zeCommandListAppendLaunch\w*Kernel\w*"
)
_COPY = re.compile(
    r"(cuda|cu|hip)Memcpy\w*|(ur|pi)\w*Enqueue(USM|Mem)\w*(Memcpy|Copy|Read|Write)\w*"
    r"|zeCommandListAppendMemoryCopy\w*"
)
_FILL = re.compile(
    r"(cuda|cu|hip)Memset\w*|(ur|pi)\w*Enqueue(USM|Mem)\w*(Fill|Memset)\w*"
    r"|zeCommandListAppendMemoryFill\w*"
)
_CAPTURE = re.compile(r"(cuda|cu|hip)StreamBeginCapture\w*")

is_kernel_launch = _KERNEL.fullmatch
_GRAPHS, _FILLS = "graphs", "fills"
_KINDS = {
    "kernels": is_kernel_launch,
    _GRAPHS: is_graph_launch,
    "copies": _COPY.fullmatch,
    _FILLS: _FILL.fullmatch,
}
_CATEGORIES = {
    "kernels": Category.KERNEL,
    _GRAPHS: Category.KERNEL,
    "copies": Category.GPU_MEMCPY,
    _FILLS: Category.GPU_MEMSET,
}


def check_lost(attribution: Attribution) -> Iterator[Finding]:
    """Tells of each kind of launch how many have no device event, of how many."""
    for kind, (lost, total) in _lost_by_kind(attribution).items():
        if len(lost):
            yield _finding(attribution, kind, lost, total)


def lost_launches(attribution: Attribution) -> Int64:
    """Which calls, an index into the launches each, put work on the device that the trace lacks.

    What is launched while a graph is captured does not run; a fill may be of nothing.
    """
    kinds = {_GRAPHS} if captures(attribution.trace) else _KINDS.keys() - {_FILLS}
    found = _lost_by_kind(attribution)
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(found[kind][0] for kind in kinds & found.keys())])


def _lost_by_kind(attribution: Attribution) -> dict[str, tuple[Int64, int]]:
    """The launches of each kind that have no device event, of how many.

    Where device events of that kind have no id, that many have one of these, whichever.
    """
    trace = attribution.trace
    if not len(trace.launches):
        return {}
    calls, empty = _calls_without_event(attribution)
    found = {}
    for kind, is_such in _KINDS.items():
        mine = which(trace.names, is_such)[trace.launches.name[calls]]
        lost = calls[mine & empty]
        if len(lost):
            nameless = trace.device.correlation == NO_CORRELATION
            nameless &= trace.device.category == _CATEGORIES[kind]
            found[kind] = (lost[int(nameless.sum()) :], int(mine.sum()))
    return found


def captures(trace: Trace) -> bool:
    """Whether a graph was captured in the trace."""
    return bool(which(trace.names, _CAPTURE.match).any())


def _finding(attribution: Attribution, kind: str, lost: Int64, total: int) -> Finding:
    trace = attribution.trace
    severity, why = WARNING, "the profiler lost their events, so that sums and means lack them"
    if kind != _GRAPHS and captures(trace):
        severity, why = NOTE, "graph capture records them"
    elif kind == _FILLS:
        severity, why = NOTE, "they filled nothing, or the profiler lost their events"
    elif not len(trace.device):
        why = "the profiler lost all device events; this was no run on the CPU alone"
    share = f"{len(lost) / total:.1%}"
    return Finding(
        severity,
        "launch-without-event",
        f"{len(lost)} of {total} launches of {kind} have no device event ({share}): {why}",
        count=len(lost),
        ns=int(trace.launches.dur_ns[lost].sum()),
        example=trace.names[trace.launches.name[lost[0]]],
    )


def _calls_without_event(attribution: Attribution) -> tuple[Int64, Bool]:
    """The calls that put work on the device, and which of them have no device event.

    A call inside another one, as a driver's is inside the runtime's, is one with it.
    """
    trace = attribution.trace
    works = np.zeros(len(trace.names), bool)
    for is_such in _KINDS.values():
        works |= which(trace.names, is_such)
    calls = np.flatnonzero(works[trace.launches.name])
    calls = calls[trace.launches.correlation[calls] != NO_CORRELATION]
    launches = trace.launches.take(calls)
    ran = np.zeros(len(trace.launches), bool)
    ran[attribution.launch[attribution.launch != NO_LAUNCH_EVENT]] = True
    empty = ~ran[calls]
    left = np.flatnonzero(empty)
    if len(left):
        # Of several calls of one id only the outermost was linked.
        for events in (trace.device, attribution.apart):
            empty[left] &= ~np.isin(launches.correlation[left], events.correlation)
    outer = is_outer(launches)
    if not outer.all():
        _settle_nested(launches, outer, empty)
    return calls[outer], empty[outer]


def _settle_nested(launches: Events, outer: Bool, empty: Bool) -> None:
    """A call has an event if one inside it has."""
    order = np.lexsort((~outer, launches.start_ns, launches.track))
    last_outer = np.maximum.accumulate(np.where(outer[order], np.arange(len(order)), 0))
    inside = ~outer[order] & ~empty[order]
    empty[order[last_outer[inside]]] = False
