"""Puts the times of less disturbed passes into the attribution of the traced one.

The traced pass says which label launched what, and is slow. Two passes beside it know less and are
nearer to what runs without any of us: one whose labels read the host's clock, and one in which the
device's work alone was recorded. Where they did the same as the traced pass, label by label and
event by event, their times are taken; where not, the first difference is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qwen3_profile import label_parts
from qwen3_profile.attribution.attribute import Attribution, attribute, device_number
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import DAMAGE, NOTE, Finding
from qwen3_profile.attribution.idle import NO_FLOOR, find_idle, split_idle
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree, Step
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.cuda_graphs.match import Work, match
from qwen3_profile.run_folder.clocked import ClockedLabels
from qwen3_profile.trace import Category, Trace, read_trace
from qwen3_profile.trace.columns import Bool, Int64, which

CLOCK_REFUSED, DEVICE_REFUSED = "clock-refused", "device-refused"
_TRACED = "the traced pass"
# The clocks of host and device are never so far apart; on an H200 they were by less than 0.4 ms.
_SKEW_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class DeviceTrace:
    """The trace of a pass of which the device's work alone was recorded.

    started_ns: when the pass began: ns since 1970, as the trace counts them.
    wall_ns: how long it took.
    """

    path: Path
    started_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What was measured beside a traced pass, in passes that are disturbed less.

    phase: the label of the pass.
    """

    phase: str
    clock: ClockedLabels | None = None
    device: DeviceTrace | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Retimed:
    """The attribution with the times that were taken, and from where they are.

    has_clock: the scopes lie where the labels of the clock pass did.
    has_device: the device events lie where those of the device pass did.
    """

    attribution: Attribution
    findings: tuple[Finding, ...] = ()
    has_clock: bool = False
    has_device: bool = False


def retime(attribution: Attribution, ranges: int, beside: Undisturbed) -> Retimed:
    """Takes what times can be taken.

    Args:
        ranges: how many of the scopes, the first ones, are ranges of the trace.
    """
    root = _root(attribution, beside.phase)
    if root is None:
        return Retimed(attribution)
    found = Retimed(attribution)
    if beside.device is not None:
        found = _with_device(found, root, beside.device)
    if beside.clock is not None:
        found = _with_clock(found, root, ranges, beside.clock)
    return found


def _root(attribution: Attribution, phase: str) -> int | None:
    """The one pass of this label."""
    scopes = attribution.scopes
    tops = np.flatnonzero(scopes.parent == NO_SCOPE).tolist()
    mine = [top for top in tops if scopes.names[scopes.name[top]] == phase]
    return mine[0] if len(mine) == 1 and attribution.scope_step[mine[0]] >= 0 else None


# --- the host's clock -----------------------------------------------------------------------------


def _with_clock(found: Retimed, root: int, ranges: int, clock: ClockedLabels) -> Retimed:
    scopes = found.attribution.scopes
    labels = _labels_of(scopes, root, ranges)
    why = _label_difference(scopes, labels, clock)
    if why:
        message = f"CPU times are of {_TRACED}, under the profiler: {why}"
        finding = Finding(NOTE, CLOCK_REFUSED, message, 1, 0, scopes.names[scopes.name[root]])
        return replace(found, findings=(*found.findings, finding))
    attribution = _retimed(found.attribution, root, labels, clock, ranges)
    return replace(found, attribution=attribution, has_clock=True)


def _labels_of(scopes: ScopeTree, root: int, ranges: int) -> Int64:
    """The labels of the pass on its own thread, in the order in which they were opened."""
    inside = scopes.below(np.arange(len(scopes)) == root)
    inside[root] = True
    inside &= ~scopes.is_gap & (scopes.track == scopes.track[root])
    # The clock was not read where an operator makes a stage of a Linear.
    inside &= ~which(scopes.names, _is_stage)[scopes.name]
    found = np.flatnonzero(inside)
    return found[found < ranges]


def _is_stage(name: str) -> bool:
    return name.rpartition(".")[2] in label_parts.stages()


def _label_difference(scopes: ScopeTree, labels: Int64, clock: ClockedLabels) -> str:
    """The first label that the two passes do not have in common; empty where they have all."""
    traced = [scopes.names[name] for name in scopes.name[labels].tolist()]
    clocked = [clock.names[number] for number in clock.label]
    for index, (one, other) in enumerate(zip(traced, clocked, strict=False)):
        if one != other:
            return f"label {index} is {other} in the clock pass and {one} in {_TRACED}"
    if len(traced) != len(clocked):
        return f"the clock pass has {len(clocked)} labels and {_TRACED} {len(traced)}"
    return ""


def _retimed(
    attribution: Attribution, root: int, labels: Int64, clock: ClockedLabels, ranges: int
) -> Attribution:
    scopes = attribution.scopes
    zero = int(scopes.start_ns[root])
    begin = zero + np.array(clock.start_ns, np.int64)
    end = begin + np.array(clock.dur_ns, np.int64)
    time = _TimeMap.of(
        np.concatenate((scopes.start_ns[labels], scopes.end_ns[labels])),
        np.concatenate((begin, end)),
    )
    step = int(attribution.scope_step[root])
    mine = attribution.scope_step == step
    start_ns, end_ns = scopes.start_ns.copy(), scopes.end_ns.copy()
    start_ns[mine], end_ns[mine] = time.of_all(start_ns[mine]), time.of_all(end_ns[mine])
    start_ns[labels], end_ns[labels] = begin, end
    _lay_gaps(scopes, start_ns, end_ns, mine, ranges)
    made = slice(ranges, None)
    lengths = _lengths_of_sums(scopes, ranges, time)
    end_ns[made] = np.where(mine[made], start_ns[made] + lengths, end_ns[made])
    trace = attribution.trace
    launches = replace(trace.launches, start_ns=time.of_all(trace.launches.start_ns))
    return replace(
        attribution,
        trace=replace(trace, launches=launches),
        scopes=replace(scopes, start_ns=start_ns, end_ns=end_ns),
        steps=_until(attribution.steps, step, int(end_ns[mine].max()) + 1),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _TimeMap:
    """From the host's times in the traced pass to those in the clock pass: straight between labels'
    begins and ends, which both know, and shifted outside of them.
    """

    traced_ns: Int64
    clock_ns: Int64

    @staticmethod
    def of(traced_ns: Int64, clock_ns: Int64) -> _TimeMap:
        order = np.lexsort((clock_ns, traced_ns))
        known, first = np.unique(traced_ns[order], return_index=True)
        return _TimeMap(known, np.maximum.accumulate(clock_ns[order])[first])

    def of_all(self, time_ns: Int64) -> Int64:
        zero, goal = self.traced_ns[0], self.clock_ns[0]
        inside = np.interp(time_ns - zero, self.traced_ns - zero, self.clock_ns - goal)
        before = np.minimum(time_ns - zero, 0)
        after = np.maximum(time_ns - self.traced_ns[-1], 0)
        mapped: Int64 = inside.astype(np.int64) + goal + before + after
        return mapped


def _lay_gaps(scopes: ScopeTree, start_ns: Int64, end_ns: Int64, mine: Bool, ranges: int) -> None:
    """Lets each gap reach from the end of the label before it to the next one, or to the end of
    what it lies in. Scopes that were made to hold sums lie nowhere, and are no neighbours.
    """
    child = np.flatnonzero(scopes.parent[:ranges] != NO_SCOPE)
    child = child[np.argsort(scopes.parent[child], kind="stable")]
    parent = scopes.parent[child]
    gap = np.flatnonzero(scopes.is_gap[child] & mine[child])
    last = np.append(parent[1:] != parent[:-1], True)[gap]
    after = child[np.minimum(gap + 1, len(child) - 1)]
    start_ns[child[gap]] = end_ns[child[gap - 1]]
    end_ns[child[gap]] = np.where(last, end_ns[parent[gap]], start_ns[after])


def _lengths_of_sums(scopes: ScopeTree, ranges: int, time: _TimeMap) -> Int64:
    """How long the scopes are that hold sums: the time of each itself, taken from one pass to the
    other, and what lies in it, so that no rounding is left between the two.
    """
    start_ns, parent = scopes.start_ns[ranges:], scopes.parent[ranges:] - ranges
    own_ns = scopes.end_ns[ranges:] - start_ns
    inner = np.flatnonzero(parent >= 0)
    np.subtract.at(own_ns, parent[inner], (scopes.end_ns[ranges:] - start_ns)[inner])
    lengths = time.of_all(start_ns + own_ns) - time.of_all(start_ns)
    for place in inner[::-1].tolist():
        lengths[parent[place]] += lengths[place]
    return lengths


def _until(steps: Sequence[Step], step: int, end_ns: int) -> tuple[Step, ...]:
    """The steps, of which one lasts at least until a time."""
    found = list(steps)
    found[step] = replace(found[step], end_ns=max(found[step].end_ns, end_ns))
    return tuple(found)


# --- the device alone -----------------------------------------------------------------------------


def _with_device(found: Retimed, root: int, seen: DeviceTrace) -> Retimed:
    attribution = found.attribution
    events = np.flatnonzero(attribution.device_step == attribution.scope_step[root])
    if not len(events):
        return found
    trace, why = _read(seen)
    if not why and trace is not None:
        why = _outside(trace, seen)
    if not why and trace is not None:
        events = events[np.argsort(attribution.trace.device.start_ns[events], kind="stable")]
        matched = match(_work(trace), _work(attribution.trace, events), _TRACED, ran="device pass")
        why = matched.difference
        if not why:
            order = np.argsort(trace.device.start_ns, kind="stable")
            same = order, events[list(matched.places)]
            return replace(
                found,
                attribution=_with_events(attribution, root, trace, same, seen),
                has_device=True,
            )
    message = f"times of the device are of {_TRACED}, under the profiler: {why}"
    finding = Finding(NOTE, DEVICE_REFUSED, message, len(events), 0, seen.path.name)
    return replace(found, findings=(*found.findings, finding))


def _read(seen: DeviceTrace) -> tuple[Trace | None, str]:
    """The trace, or why there is none that can be used."""
    try:
        trace = read_trace(seen.path)
    except TraceError as error:
        return None, error.english
    nothing = np.zeros(len(trace.host), bool)
    checked = check_trace(attribute(trace, build_scopes(trace, nothing), ()))
    return trace, next((each.message for each in checked if each.severity == DAMAGE), "")


def _outside(trace: Trace, seen: DeviceTrace) -> str:
    """Why the events of a trace cannot be those of the pass: empty where they lie in it."""
    device = trace.device
    if not len(device):
        return ""
    pass_ns = seen.started_ns - trace.info.base_time_ns
    first_ns, last_ns = int(device.start_ns.min()), int((device.start_ns + device.dur_ns).max())
    if first_ns < pass_ns - _SKEW_NS or last_ns > pass_ns + seen.wall_ns + _SKEW_NS:
        return "the events of the device pass do not lie in the time that it is said to have taken"
    return ""


def _work(trace: Trace, events: Int64 | None = None) -> tuple[Work, ...]:
    """What ran, in order of its start."""
    device = trace.device
    order = np.argsort(device.start_ns, kind="stable") if events is None else events
    tracks = [f"{track.pid}/{track.tid}" for track in trace.tracks]
    columns = (device.category[order], device.name[order], device.track[order])
    return tuple(
        Work(Category(category).name, trace.names[name], stream=tracks[track])
        for category, name, track in zip(*(column.tolist() for column in columns), strict=True)
    )


def _with_events(
    attribution: Attribution,
    root: int,
    trace: Trace,
    same: tuple[Int64, Int64],
    seen: DeviceTrace,
) -> Attribution:
    """With the times of the device pass, from the begin of the pass on.

    Args:
        same: which event of `trace` is which of the attribution.
    """
    theirs, ours = same
    device = attribution.trace.device
    zero = int(attribution.scopes.start_ns[root])
    shift = zero - (seen.started_ns - trace.info.base_time_ns)
    start_ns, dur_ns = device.start_ns.copy(), device.dur_ns.copy()
    start_ns[ours] = trace.device.start_ns[theirs] + shift
    dur_ns[ours] = trace.device.dur_ns[theirs]
    fresh = replace(attribution.trace, device=replace(device, start_ns=start_ns, dur_ns=dur_ns))
    floor = np.where(np.isin(np.arange(len(device)), ours), zero, NO_FLOOR)
    nobody = np.full(len(device), -1, np.int32)
    whole = find_idle(fresh, nobody, np.zeros(len(device), bool), device_number(fresh), floor)
    idle = split_idle(whole.sum(axis=1), attribution.idle)
    return replace(attribution, trace=fresh, idle=idle)
