"""The tracks that a trace for viewers has beyond those of the raw files.

On tracks of their own above each stream lie the labels, on the device's time axis: the range of a
label reaches from the first device event that was launched inside it to the last one. So a person
sees `layer.12.ffn` above its kernels. (Kineto can draw `gpu_user_annotation` ranges, at the cost of
a call into CUPTI for every op, and gives them to the innermost annotation only: the product records
without.) A counter for each device says how many events were launched and had not ended.

Labels have twins on tracks of modules, and device events that cut across others of their stream
lie on a second track.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.scopes import NO_SCOPE
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.known import Known
from qwen3_profile.passes.read import Needs, read
from qwen3_profile.trace import Track
from qwen3_profile.views.tensorboard.nesting import lanes
from qwen3_profile.views.tensorboard.raw_events import RawEvent

QUEUE_TRACK = "queue depth"
_LABEL_CATEGORY = "gpu_user_annotation"
# The twins' process id: far above those of systems, and of one process for each process.
MODULE_PID_OFFSET = 1_000_000_000
# The thread ids of a stream's further tracks: far above the numbers of streams.
LANE_TID_OFFSET = 1_000_000
# Kineto sorts host processes by their ids, and its own spans at 2**29; this lies between.
_MODULE_SORT_INDEX = 2**29 - 1


def device_tracks(
    paths: Sequence[Path], base_time_ns: int, known: Known | None = None
) -> Iterator[bytes]:
    """The JSON texts of the events of these tracks, and of the tracks' names.

    Args:
        paths: raw traces; of one without labels or without device events there is less.
        base_time_ns: what the times of the result count from.
        known: of the traces, by their run.
    """
    found = (_attributed(path, known) for path in paths)
    attributions = [each for each in found if each is not None]
    places = _Places({stream for each in attributions for stream in _streams(each).values()})
    for attribution in attributions:
        shift_ns = attribution.trace.info.base_time_ns - base_time_ns
        for track, stream in _streams(attribution).items():
            yield from _label_events(attribution, track, places.of(stream), shift_ns)
        yield from _queue_events(attribution, shift_ns)
    yield from places.names()


def once(text: msgspec.Raw, said: set[bytes]) -> Iterator[bytes]:
    """Metadata, unless the same was said before, at whatever time."""
    fields = msgspec.json.decode(text, type=dict[str, Any])
    fields.pop("ts", None)
    key = msgspec.json.encode(fields, order="sorted")
    if key not in said:
        said.add(key)
        # It has no time of its own; an unshifted one would stretch the time line.
        yield msgspec.json.encode(fields)


def module_pid(event: RawEvent) -> int | str:
    """The process of a label's twin.

    The dashboard sorts ranges into threads by `tid` alone, so it finds the twins on the label's
    own thread; timelines go by both, and show them on a track of their own, not a second time
    on the thread.
    """
    return event.pid + MODULE_PID_OFFSET if isinstance(event.pid, int) else f"{event.pid} modules"


def lane_tid(event: RawEvent, lane: int) -> int | str:
    """The thread id of the stream's further track `lane`; Perfetto sorts it below the stream."""
    if isinstance(event.tid, int):
        return event.tid + lane * LANE_TID_OFFSET
    return f"{event.tid} ({lane + 1})"


def lane_track(event: RawEvent, lane: int, said: set[bytes]) -> Iterator[bytes]:
    """The name of that track, once; lane 0 is the stream itself, and Kineto named it."""
    if lane:
        common = {"ph": "M", "pid": event.pid, "tid": lane_tid(event, lane)}
        args = {"name": f"stream {event.tid} ({lane + 1})"}
        text = msgspec.json.encode({**common, "name": "thread_name", "args": args})
        yield from once(msgspec.Raw(text), said)


def module_track(event: RawEvent, said: set[bytes]) -> Iterator[bytes]:
    """The names of the twins' process and thread, once, and their place after the host's."""
    common = {"ph": "M", "pid": module_pid(event), "tid": event.tid}
    for name, args in (
        ("process_name", {"name": "modules"}),
        ("process_sort_index", {"sort_index": _MODULE_SORT_INDEX}),
        ("thread_name", {"name": f"modules of thread {event.tid}"}),
    ):
        yield from once(
            msgspec.Raw(msgspec.json.encode({**common, "name": name, "args": args})), said
        )


def _attributed(path: Path, known: Known | None) -> Attribution | None:
    try:
        return read(path, known, needs=Needs.LABELS).attribution
    except TraceError:
        # The normaliser mends text that is no JSON; such a trace is shown without.
        return None


def _streams(attribution: Attribution) -> dict[int, Track]:
    trace = attribution.trace
    return {number: trace.tracks[number] for number in np.unique(trace.device.track).tolist()}


@dataclass(slots=True)
class _Place:
    """Where the labels over one stream are drawn: a thread id for each lane."""

    stream: Track
    free: Iterator[int]
    tids: list[int] = field(default_factory=list)

    def tid(self, lane: int) -> int:
        while lane >= len(self.tids):
            self.tids.append(next(self.free))
        return self.tids[lane]


class _Places:
    """Thread ids for the labels' tracks, the same in every file.

    Perfetto sorts the tracks of a device by these ids, so labels get the nearest that is free
    below the number of their stream, and lie right above its kernels.
    """

    def __init__(self, streams: set[Track]) -> None:
        taken: dict[str, set[int]] = {}
        for stream in streams:
            taken.setdefault(stream.pid, set()).add(_stream_number(stream))
        self._places: dict[Track, _Place] = {}
        for stream in sorted(streams, key=_stream_number):
            free = _free(_stream_number(stream), taken[stream.pid])
            self._places[stream] = _Place(stream, free)

    def of(self, stream: Track) -> _Place:
        return self._places[stream]

    def names(self) -> Iterator[bytes]:
        # Kineto names a device after the program, and Perfetto does not show its label, "GPU 0".
        for pid in dict.fromkeys(stream.pid for stream in self._places):
            yield _metadata(pid, 0, "process_name", {"name": "GPU"})
        for stream, place in self._places.items():
            for lane, tid in enumerate(place.tids):
                name = f"labels over stream {stream.tid}" + (f" ({lane + 1})" if lane else "")
                yield _metadata(stream.pid, tid, "thread_name", {"name": name})
                yield _metadata(stream.pid, tid, "thread_sort_index", {"sort_index": tid})


def _free(number: int, taken: set[int]) -> Iterator[int]:
    """Ids that nothing has, from right below `number` downwards, and then from above all."""
    for tid in chain(range(number - 1, -1, -1), count(max(taken) + 1)):
        if tid not in taken:
            taken.add(tid)
            yield tid


def _label_events(
    attribution: Attribution, track: int, place: _Place, shift_ns: int
) -> Iterator[bytes]:
    """The labels' ranges on one stream."""
    scopes = attribution.scopes
    drawn = list(_hulls(attribution, track))
    lane_of = lanes([(start, end) for _, start, end in drawn])
    for (scope, start, end), lane in zip(drawn, lane_of, strict=True):
        yield msgspec.json.encode(
            {
                "ph": "X",
                "cat": _LABEL_CATEGORY,
                "name": scopes.names[scopes.name[scope]],
                "pid": _number(place.stream.pid),
                "tid": place.tid(lane),
                "ts": _microseconds(start + shift_ns),
                "dur": _microseconds(end - start),
            }
        )


def _hulls(attribution: Attribution, track: int) -> Iterator[tuple[int, int, int]]:
    """(scope, start, end) of what each label launched on the stream `track`, outer ones first."""
    device, size = attribution.trace.device, len(attribution.scopes)
    mine = np.flatnonzero((device.track == track) & (attribution.owner >= 0))
    start = np.full(size, np.iinfo(np.int64).max)
    end = np.full(size, np.iinfo(np.int64).min)
    np.minimum.at(start, attribution.owner[mine], device.start_ns[mine])
    np.maximum.at(end, attribution.owner[mine], device.end_ns[mine])
    # Children come after their parents: from the last one upwards each passes its hull on.
    for scope in range(size - 1, -1, -1):
        parent = attribution.scopes.parent[scope]
        if parent != NO_SCOPE:
            start[parent] = min(start[parent], start[scope])
            end[parent] = max(end[parent], end[scope])
    for scope in range(size):
        if end[scope] > start[scope] and _is_label(attribution, scope):
            yield scope, int(start[scope]), int(end[scope])


def _is_label(attribution: Attribution, scope: int) -> bool:
    scopes = attribution.scopes
    return labels.parse(scopes.names[scopes.name[scope]]) is not None


def _queue_events(attribution: Attribution, shift_ns: int) -> Iterator[bytes]:
    """How many events of each device were launched and had not ended, at every change.

    An event counts from the start of the call that launched it, or from its own where nothing says
    who launched it.
    """
    trace, device = attribution.trace, attribution.trace.device
    linked = attribution.launch != NO_LAUNCH_EVENT
    asked = device.start_ns.copy()
    asked[linked] = np.minimum(asked[linked], trace.launches.start_ns[attribution.launch[linked]])
    pids = np.array([trace.tracks[number].pid for number in device.track])
    for pid in dict.fromkeys(pids.tolist()):
        mine = pids == pid
        times = np.concatenate([asked[mine], device.end_ns[mine]])
        changes = np.repeat([1, -1], int(mine.sum()))
        order = np.argsort(times, kind="stable")
        times, depth = times[order], changes[order].cumsum()
        last = np.append(times[1:] != times[:-1], True)
        for time_ns, waiting in zip(times[last].tolist(), depth[last].tolist(), strict=True):
            yield msgspec.json.encode(
                {
                    "ph": "C",
                    "name": QUEUE_TRACK,
                    "pid": _number(pid),
                    "ts": _microseconds(time_ns + shift_ns),
                    "args": {"events": waiting},
                }
            )


def _metadata(pid: str, tid: int, name: str, args: dict[str, object]) -> bytes:
    return msgspec.json.encode(
        {"ph": "M", "name": name, "pid": _number(pid), "tid": tid, "args": args}
    )


def _stream_number(stream: Track) -> int:
    return int(stream.tid) if stream.tid.isdecimal() else 0


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _microseconds(ns: int) -> msgspec.Raw:
    """Text, since a float64 loses nanoseconds of times since the epoch."""
    whole, rest = divmod(ns, 1000)
    return msgspec.Raw(f"{whole}.{rest:03}".encode())
