"""An event of a raw file in; out, the track beside the file's own that it goes on, and its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from qwen3_profile.views.tensorboard.raw_events import RawEvent

# The twins' process id: far above those of systems, and of one process for each process.
MODULE_PID_OFFSET = 1_000_000_000
# The thread ids of a stream's further tracks: far above the numbers of streams.
LANE_TID_OFFSET = 1_000_000
# Kineto sorts host processes by their ids, and its own spans at 2**29; this lies between.
_MODULE_SORT_INDEX = 2**29 - 1


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
