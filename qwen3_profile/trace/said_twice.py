"""What a file says a second time of its events, as far as it is needed to compare the two.

An arrow leads from a launch to its device event. Each end repeats id, start and track of an event,
and stands right behind it; one that agrees with it is forgotten at once, so that few are kept:

    {"ph": "X", "cat": "kernel", "pid": 0, "tid": 7, "ts": 5.110, "args": {"correlation": 91, ...}}
    {"ph": "f", "id": 91, "pid": 0, "tid": 7, "ts": 5.110, "cat": "ac2g", "name": "ac2g"}

The args of a device event repeat its device and stream; those of a copy tell bytes and bandwidth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile.trace.messages import Message, read_message

if TYPE_CHECKING:
    from qwen3_profile.trace.columns import Int64

# Kineto's names of today, of 2022 and of 2021.
ARROWS = frozenset({"ac2g", "async_cpu_to_gpu", "async"})
# They have arrows, too, and are nothing that is read.
SYNCHRONISATIONS = frozenset({"cuda_sync", "xpu_sync"})
WINDOW = "Trace"
NOTED = ARROWS | SYNCHRONISATIONS | {WINDOW}
_DEVICE = re.compile(rb'"device"\s*:\s*(\d{1,18})\s*[,}\n]')
_STREAM = re.compile(rb'"stream"\s*:\s*(\d{1,18})\s*[,}\n]')
_BYTES = re.compile(rb'"bytes"\s*:\s*(\d{1,18})\s*(?:[,}\n]|$)')
_BANDWIDTH = re.compile(rb'"memory bandwidth \(GB/s\)"\s*:\s*([0-9.eE+-]{1,30})\s*(?:[,}\n]|$)')
_LEAST_BANDWIDTH, _MOST_BANDWIDTH = 1e-9, 1e9


class Noted:
    """What was noted while a file was read, by the numbers of `EventKeys`.

    arrows: (whether it is the end of one, id, time, track).
    waits: (0, id, time, track) of synchronisations.
    places: how many device events of a key have a device and a stream in their args.
    copies: (key, start, duration, how long the copy of its bytes takes at its bandwidth).
    windows: from when to when the profiler recorded.
    messages: (key, correlation id) -> what the kernel of a collective carries; said once.
    calls: (track, start, duration, what the call of a collective carries).
    """

    # To make it a dataclass would take longer than to read a small file.
    def __init__(self) -> None:
        self.arrows: list[tuple[int, int, int, int]] = []
        self.waits: list[tuple[int, int, int, int]] = []
        self.places: Counter[tuple[int, int, int]] = Counter()
        self.copies: list[tuple[int, int, int, int]] = []
        self.windows: list[tuple[int, int]] = []
        self.messages: dict[tuple[int, int], Message] = {}
        self.calls: list[tuple[int, int, int, Message]] = []

    def note_message(self, key: int, correlation: int, args: bytes) -> None:
        """Notes what a kernel carries between devices, if its args tell."""
        message = read_message(args)
        if message is not None:
            self._keep_message((key, correlation), message)

    def note_call(self, track: int, start_ns: int, dur_ns: int, args: bytes) -> None:
        """Notes what the call of a collective carries, if its args tell."""
        message = read_message(args)
        if message is not None:
            self.calls.append((track, start_ns, dur_ns, message))

    def _keep_message(self, link: tuple[int, int], message: Message) -> None:
        """Of two for one link, as only damage makes them, the same whichever came first."""
        self.messages[link] = min(self.messages.get(link, message), message, key=repr)

    def receive(self, other: Noted, keys: Int64, tracks: Int64) -> None:
        """Adds what another process noted, whose numbers are those at these places here."""
        for mine, theirs in ((self.arrows, other.arrows), (self.waits, other.waits)):
            mine += [(end, each, at, int(tracks[on])) for end, each, at, on in theirs]
        self.copies += [(int(keys[key]), *rest) for key, *rest in other.copies]  # type: ignore[misc]
        for (key, *place), count in other.places.items():
            self.places[(int(keys[key]), *place)] += count  # type: ignore[index]
        self.windows += other.windows
        self.calls += [(int(tracks[track]), *rest) for track, *rest in other.calls]  # type: ignore[misc]
        for (key, link), message in other.messages.items():
            self._keep_message((int(keys[key]), link), message)


def as_columns(rows: Sequence[tuple[int, ...]], width: int) -> Int64:
    """Rows of `width` numbers each: int64[width, n]."""
    return np.ascontiguousarray(np.array(rows, np.int64).reshape(-1, width).T)


def place_in(args: bytes) -> tuple[int, int] | None:
    """Device and stream in the args of a device event, -1 where one does not stand there."""
    device, stream = _DEVICE.search(args), _STREAM.search(args)
    if device is None and stream is None:
        return None
    return int(device[1]) if device else -1, int(stream[1]) if stream else -1


def copy_ns(args: bytes) -> int | None:
    """How long it takes to copy the bytes of a copy's args at their bandwidth; None if unknown."""
    size, speed = _BYTES.search(args), _BANDWIDTH.search(args)
    if size is None or speed is None:
        return None
    try:
        gigabytes = float(speed[1])
    except ValueError:
        return None
    if not int(size[1]) or not _LEAST_BANDWIDTH < gigabytes < _MOST_BANDWIDTH:
        return None
    return min(round(int(size[1]) / gigabytes), 1 << 60)
