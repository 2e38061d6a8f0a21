"""Reads what torch's profiler recorded of a device's memory in one pass, under our labels.

The profiler writes an instant for each block that an allocator hands out or takes back. Each is of
the innermost label that is open at that time, on whatever thread: a backward frees on its own.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch

from qwen3_profile import labels
from qwen3_profile.run_folder.memory_events import BLOCK, CLOSE, WORKSPACE, MemoryPass

_INSTANT = "[memory]"
_OPERATOR = "cpu_op"
# What labels are on the host; the profiler repeats some on the device's track.
_LABELS = (_OPERATOR, "user_annotation")
# As torch numbers devices in these instants.
_DEVICE_TYPES = {"cpu": 0, "cuda": 1 if torch.version.hip is None else 6}
# At one and the same time what begins comes first, and what ends last.
_BEGINS, _HAPPENS, _ENDS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Moment:
    """Something that happens in a pass; sorted by `key`."""

    key: tuple[int, int, int]
    event: dict[str, Any]
    kind: int


def read_events(
    path: Path, position: int, device: torch.device, facts: dict[str, int | None]
) -> MemoryPass:
    """The blocks of `device` in a trace of one pass, in the order of time.

    Args:
        facts: the fields of a `MemoryPass` that the trace does not tell.
    """
    events = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)["traceEvents"]
    moments = sorted(_moments(events, device), key=lambda each: each.key)
    stream = _Stream()
    for moment in moments:
        stream.take(moment)
    return MemoryPass(
        position=position,
        labels=tuple(stream.labels),
        what=tuple(stream.what),
        bytes=tuple(stream.bytes),
        block=tuple(stream.block),
        start_bytes=stream.start_bytes or 0,
        **facts,  # type: ignore[arg-type]
    )


def _moments(events: Iterable[dict[str, Any]], device: torch.device) -> Iterator[_Moment]:
    kind, index = _DEVICE_TYPES.get(device.type, -1), device.index
    for number, event in enumerate(events):
        if event.get("name") == _INSTANT:
            args = event["args"]
            is_ours = args["Device Type"] == kind and index in (None, args["Device Id"])
            if is_ours:
                yield _Moment((_ns(event["ts"]), _HAPPENS, number), event, _HAPPENS)
        elif event.get("ph") == "X" and (_is_label(event) or event.get("cat") == _OPERATOR):
            start, dur = _ns(event["ts"]), _ns(event.get("dur", 0))
            # Of two that begin together the longer one is outside.
            yield _Moment((start, _BEGINS, -dur), event, _BEGINS)
            yield _Moment((start + dur, _ENDS, dur), event, _ENDS)


def _is_label(event: dict[str, Any]) -> bool:
    return event.get("cat") in _LABELS and labels.parse(event["name"]) is not None


def _ns(us: Any) -> int:
    return int(Decimal(us) * 1000)


class _Stream:
    """What a `MemoryPass` holds, so far."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self.what: list[int] = []
        self.bytes: list[int] = []
        self.block: list[int] = []
        self.start_bytes: int | None = None
        self._numbers: dict[int, int] = {}
        # Of each thread how many operators are open, and the number of the outermost one.
        self._open: dict[Any, int] = {}
        self._outermost: dict[Any, int] = {}
        self._taken: dict[int, tuple[int, Any]] = {}
        self._operators = 0

    def take(self, moment: _Moment) -> None:
        event = moment.event
        if moment.kind == _HAPPENS:
            self._allocation(event)
        elif _is_label(event):
            is_begin = moment.kind == _BEGINS
            number = self.labels.setdefault(event["name"], len(self.labels))
            self._add(number if is_begin else CLOSE, 0, 0)
        else:
            self._operator(event["tid"], moment.kind == _BEGINS)

    def _operator(self, thread: Any, begins: bool) -> None:
        depth = self._open.get(thread, 0)
        if begins and not depth:
            self._operators += 1
            self._outermost[thread] = self._operators
        self._open[thread] = depth + (1 if begins else -1)

    def _allocation(self, event: dict[str, Any]) -> None:
        args, thread = event["args"], event["tid"]
        block = self._numbers.setdefault(args["Addr"], len(self._numbers))
        inside = self._outermost.get(thread, 0) if self._open.get(thread, 0) else 0
        size = int(args["Bytes"])
        if self.start_bytes is None:
            self.start_bytes = int(args["Total Allocated"]) - size
        what = BLOCK
        if size > 0:
            self._taken[block] = (len(self.what), (thread, inside))
        elif block in self._taken:
            at, taken_in = self._taken.pop(block)
            if inside and taken_in == (thread, inside):
                what = self.what[at] = WORKSPACE
        self._add(what, size, block)

    def _add(self, what: int, size: int, block: int) -> None:
        self.what.append(what)
        self.bytes.append(size)
        self.block.append(block)
