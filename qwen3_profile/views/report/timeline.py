"""The time line of one forward pass: its labels over the lanes of the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.trace.columns import Int32, Int64
from qwen3_profile.views.report.kernel_rows import ScopeRows, owners

LABELS, STREAM = "labels", "stream"
NO_NAME = -1
NOT_LAUNCHED = -1

# Streams beyond these are drawn on one lane together.
_MOST_STREAMS = 6
# Beyond these changes of the queue's depth it is drawn as the mean of so many stretches.
_MOST_CHANGES = 12_000
_STRETCHES = 3_000


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """The bars of one lane, in order of their start.

    start_ns, dur_ns: int64[n], from the start of the pass.
    name: int32[n], an index into `Timeline.names`; -1 for a label whose part and layer name it,
        and for several events of different names.
    part: int32[n], an index into the rows of the pass, or -1. layer: int32[n], or -1.
    op: int32[n], the operator that launched it, an index into `Timeline.names`, or -1.
    launch_ns: int64[n], when it was launched, or `NOT_LAUNCHED`.
    count: int32[n], how many events the bar stands for. work_ns: int64[n], the sum of these.
    """

    start_ns: Int64
    dur_ns: Int64
    name: Int32
    part: Int32
    layer: Int32
    op: Int32
    launch_ns: Int64
    count: Int32
    work_ns: Int64

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One line of the picture. kind: `LABELS` of a thread at one depth, or a device's `STREAM`."""

    kind: str
    title: str
    bars: Bars


@dataclass(frozen=True, slots=True)
class Queue:
    """How many device events had been launched and had not ended.

    times_ns, depth: from each time on how many; joined: the mean of each of many short stretches,
        for it changes too often to be shown.
    deepest: the most of all. empty_ns: how long, of the whole pass, there was none.
    """

    times_ns: tuple[int, ...]
    depth: tuple[float, ...]
    joined: bool
    deepest: int
    empty_ns: int


NO_QUEUE = Queue((), (), False, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One forward pass. Times from the start of the pass's own label, which may lie behind that
    of the device's first event.

    span_ns: until the last label or device event has ended.
    queue: what the device had before it.
    events: how many events and labels the bars stand for.
    slower: how many times as long the pass took that the device events are of, where it is another
        than that of the labels: then they lie where `lay_under_labels` put them, and nobody knows
        when they were launched.
    """

    span_ns: int
    names: tuple[str, ...]
    lanes: tuple[Lane, ...]
    queue: Queue
    events: int
    slower: float | None = None

    @property
    def bars(self) -> int:
        return sum(len(lane.bars) for lane in self.lanes)


def make_timeline(
    attribution: Attribution,
    step: int,
    events: Int64,
    op: Int32,
    rows: ScopeRows,
    scopes: int,
    slower: float | None = None,
) -> Timeline:
    """The time line of one step.

    Args:
        events: the device events of the step. op: for each, as `launching_ops` has it.
        scopes: how many of the scopes, the first ones, lie on the time line; later ones were only
            made to hold sums.
        slower: as in `Timeline`.
    """
    inside = np.flatnonzero((rows.path >= 0) & (np.arange(len(rows.path)) < scopes))
    zero = (
        int(attribution.scopes.start_ns[inside].min())
        if len(inside)
        else attribution.steps[step].start_ns
    )
    lanes = [*_label_lanes(attribution, inside, rows, zero)]
    lanes += _device_lanes(attribution, events, op, rows, zero)
    if slower is not None:
        lanes = [replace(lane, bars=_without_launch(lane.bars)) for lane in lanes]
    names, lanes = _only_used((*attribution.trace.names, *attribution.scopes.names), lanes)
    ends = [int((lane.bars.start_ns + lane.bars.dur_ns).max()) for lane in lanes if len(lane.bars)]
    span_ns = max(ends, default=0)
    return Timeline(
        span_ns=span_ns,
        names=names,
        lanes=tuple(lanes),
        queue=_queue(attribution, events, zero, span_ns) if slower is None else NO_QUEUE,
        events=sum(int(lane.bars.count.sum()) for lane in lanes),
        slower=slower,
    )


def _without_launch(bars: Bars) -> Bars:
    return replace(bars, launch_ns=np.full(len(bars), NOT_LAUNCHED, np.int64))


def _label_lanes(
    attribution: Attribution, inside: Int64, rows: ScopeRows, zero: int
) -> Iterable[Lane]:
    """A lane for each thread and depth."""
    scopes = attribution.scopes
    depth = scopes.depth()
    for track in np.unique(scopes.track[inside]).tolist():
        on_track = inside[scopes.track[inside] == track]
        thread = attribution.trace.tracks[track].tid
        for level in range(int(depth[on_track].max()) + 1):
            mine = on_track[depth[on_track] == level]
            mine = mine[np.argsort(scopes.start_ns[mine], kind="stable")]
            dur_ns = scopes.end_ns[mine] - scopes.start_ns[mine]
            none = np.full(len(mine), -1, np.int32)
            # Behind the trace's own names come those of its scopes.
            name = scopes.name[mine] + len(attribution.trace.names)
            bars = Bars(
                start_ns=scopes.start_ns[mine] - zero,
                dur_ns=dur_ns,
                name=np.where(rows.has_row[mine], NO_NAME, name).astype(np.int32),
                part=rows.path[mine],
                layer=rows.layer[mine],
                op=none,
                launch_ns=none.astype(np.int64),
                count=np.ones(len(mine), np.int32),
                work_ns=dur_ns,
            )
            if len(mine):
                yield Lane(LABELS, f"thread {thread}", bars)


def _device_lanes(
    attribution: Attribution, events: Int64, op: Int32, rows: ScopeRows, zero: int
) -> list[Lane]:
    """A lane for each stream, the busiest first; the rest on one lane."""
    trace = attribution.trace
    track = trace.device.track[events]
    work = np.zeros(len(trace.tracks), np.int64)
    np.add.at(work, track, trace.device.dur_ns[events])
    by_work = sorted(set(track.tolist()), key=lambda number: (-int(work[number]), number))
    single, rest = by_work[:_MOST_STREAMS], by_work[_MOST_STREAMS:]
    groups = [(_stream_title(attribution, number), [number]) for number in sorted(single)]
    if rest:
        groups.append((f"{len(rest)} more streams", rest))
    lanes = []
    for title, tracks in groups:
        mine = np.flatnonzero(np.isin(track, tracks))
        mine = mine[np.argsort(trace.device.start_ns[events[mine]], kind="stable")]
        lanes.append(
            Lane(STREAM, title, _device_bars(attribution, events[mine], op[mine], rows, zero))
        )
    return lanes


def _device_bars(
    attribution: Attribution, events: Int64, op: Int32, rows: ScopeRows, zero: int
) -> Bars:
    device = attribution.trace.device
    part, layer = owners(attribution, events, rows)
    launch = attribution.launch[events]
    linked = launch != NO_LAUNCH_EVENT
    launch_ns = np.full(len(events), NOT_LAUNCHED, np.int64)
    launch_ns[linked] = (attribution.trace.launches.start_ns[launch[linked]] - zero).clip(0)
    return Bars(
        start_ns=device.start_ns[events] - zero,
        dur_ns=device.dur_ns[events],
        name=device.name[events],
        part=part,
        layer=layer,
        op=op,
        launch_ns=launch_ns,
        count=np.ones(len(events), np.int32),
        work_ns=device.dur_ns[events],
    )


def _stream_title(attribution: Attribution, track: int) -> str:
    place = attribution.trace.tracks[track]
    return f"device {place.pid} stream {place.tid.removeprefix('stream ')}"


def _only_used(every: Sequence[str], lanes: list[Lane]) -> tuple[tuple[str, ...], list[Lane]]:
    """The names that the bars use, and the lanes with indices into these alone."""
    columns = [column for lane in lanes for column in (lane.bars.name, lane.bars.op)]
    used = np.unique(np.concatenate(columns)) if columns else np.empty(0, np.int32)
    used = used[used >= 0]
    fresh = [
        replace(
            lane,
            bars=replace(
                lane.bars, name=_renumber(lane.bars.name, used), op=_renumber(lane.bars.op, used)
            ),
        )
        for lane in lanes
    ]
    return tuple(every[at] for at in used.tolist()), fresh


def _renumber(values: Int32, used: Int32) -> Int32:
    return np.where(values >= 0, np.searchsorted(used, values), values).astype(np.int32)


def _queue(attribution: Attribution, events: Int64, zero: int, span_ns: int) -> Queue:
    device, launch = attribution.trace.device, attribution.launch[events]
    mine = events[launch != NO_LAUNCH_EVENT]
    if not len(mine) or not span_ns:
        return Queue((), (), False, 0, span_ns)
    launched = attribution.trace.launches.start_ns[launch[launch != NO_LAUNCH_EVENT]] - zero
    # Two clocks may disagree by a little, and an event end before its launch began.
    ended = np.maximum(device.end_ns[mine] - zero, launched)
    at = np.concatenate((ended, launched)).clip(0, span_ns)
    change = np.repeat(np.array([-1, 1], np.int64), len(mine))
    order = np.argsort(at, kind="stable")
    times, depth = at[order], np.cumsum(change[order])
    final = np.append(np.diff(times) != 0, True)  # of changes at one time, the last
    times, depth = times[final], depth[final]
    lasts = np.diff(times, append=span_ns)
    empty_ns = int(times[0] + lasts[depth == 0].sum())
    deepest = int(depth.max())
    if len(times) <= _MOST_CHANGES:
        return Queue(tuple(times.tolist()), tuple(depth.tolist()), False, deepest, empty_ns)
    edges = np.linspace(0, span_ns, _STRETCHES + 1)
    area = np.interp(edges, np.append(times, span_ns), np.append(0, np.cumsum(depth * lasts)))
    means = np.diff(area) / np.diff(edges)
    starts = edges[:-1].round().astype(np.int64)
    return Queue(tuple(starts.tolist()), tuple(means.round(2).tolist()), True, deepest, empty_ns)
