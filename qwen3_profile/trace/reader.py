"""Bytes of a Kineto trace file in, a `Trace` of columns out.

Two events as torch 2.11 writes them; torch 2.13 puts one field on a line:

    {
      "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 408, "tid": 408,
      "ts": 4587026371543.110, "dur": 9.731,
      "args": {"External id": 916484, "cbid": 211, "correlation": 916501}
    },
    {
      "ph": "X", "cat": "kernel", "name": "void at::native::...", "pid": 0, "tid": 7,
      "ts": 4587026371561.009, "dur": 2.017,
      "args": {"External id": 916484, "device": 0, "stream": 7, "correlation": 916501, ...}
    },

`ts` and `dur` are microseconds with up to three decimals, counted from `baseTimeNanoseconds` (2024
on) or from the epoch (before). They are read as text: a float64 of an epoch time is a multiple of
0.25 us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from qwen3_profile.trace.columns import (
    NO_CORRELATION,
    NO_SEQUENCE,
    AutogradOps,
    Category,
    Events,
    Int64,
    Trace,
    TraceInfo,
    Track,
)
from qwen3_profile.trace.document import Distributed, Event, damaged, read_document

# Kineto's names of today, those of 2021, and what our own normalised trace calls a launch.
_CATEGORIES = {
    "cpu_op": Category.CPU_OP,
    "Operator": Category.CPU_OP,
    "user_annotation": Category.USER_ANNOTATION,
    "python_function": Category.PYTHON_FUNCTION,
    "cuda_runtime": Category.RUNTIME,
    "runtime": Category.RUNTIME,
    "Runtime": Category.RUNTIME,
    "xpu_runtime": Category.RUNTIME,
    "mtia_runtime": Category.RUNTIME,
    "privateuse1_runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "xpu_driver": Category.DRIVER,
    "privateuse1_driver": Category.DRIVER,
    "kernel": Category.KERNEL,
    "Kernel": Category.KERNEL,
    "gpu_memcpy": Category.GPU_MEMCPY,
    "Memcpy": Category.GPU_MEMCPY,
    "gpu_memset": Category.GPU_MEMSET,
    "Memset": Category.GPU_MEMSET,
    "gpu_user_annotation": Category.GPU_USER_ANNOTATION,
}
# Complete events that are neither host ranges, launches nor device work.
_PASSED_OVER = frozenset(
    {
        "Trace", "collective_comm", "cpu_instant_event", "cuda_event", "cuda_profiler_range",
        "cuda_sync", "external_correlation", "glow_runtime", "gpu_pm_counter", "hpu_op",
        "mtia_ccp_events", "mtia_counters", "mtia_insight", "mtia_workloadd", "overhead",
        "xpu_sync",
    }
)  # fmt: skip
_HOST = (Category.CPU_OP, Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)
_LAUNCH = (Category.RUNTIME, Category.DRIVER)
_DEVICE = (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
# Stacks write an event for every Python call; only modules are scopes that we can use.
MODULE_PREFIX = "nn.Module: "
# What the autograd engine calls the evaluation of one node of a backward.
NODE_PREFIX = "autograd::engine::evaluate_function: "

_INT64_MAX = 2**63 - 1

_Key = TypeVar("_Key", str, tuple[str, str])

_decode_id = msgspec.json.Decoder(int | str).decode


class _Args(msgspec.Struct, gc=False):
    correlation: Annotated[int, msgspec.Meta(ge=-(2**63), le=_INT64_MAX)] | None = None


class _OpArgs(msgspec.Struct, gc=False):
    sequence: int = msgspec.field(name="Sequence number", default=NO_SEQUENCE)
    forward_thread: int = msgspec.field(name="Fwd thread id", default=0)


def read_trace(path: Path, *, accept_damaged: bool = False) -> Trace:
    """Reads a Kineto trace, `.json` or `.json.gz`.

    Args:
        path: the file.
        accept_damaged: of a file that is cut off, read what is whole; `TraceInfo.damage` says so.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    document, damage = read_document(path, accept_damaged)
    columns = _Columns(path)
    for event in document.trace_events or ():
        columns.add(event)
    distributed = document.distributed or Distributed()
    info = TraceInfo(
        path=str(path),
        schema_version=document.schema_version,
        base_time_ns=document.base_time_ns,
        devices=tuple(device.name for device in document.devices),
        damage=damage,
        rank=distributed.rank,
        world_size=distributed.world_size,
        versions=document.versions,
        messages=(*document.errors, *document.warnings),
        unread=columns.unread(),
    )
    return columns.trace(info)


class _Columns:
    """Gathers events into growing lists, one set per kind of event."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, int] = {}
        self._tracks: dict[tuple[str, str], int] = {}
        self._places: dict[tuple[bytes, bytes], int] = {}
        self._rows: dict[Category, list[tuple[int, int, int, int, int, int]]] = {
            category: [] for category in Category
        }
        self._autograd: list[tuple[int, int, int, int, int, int]] = []
        self._correlation = msgspec.json.Decoder(_Args).decode
        self._op_args = msgspec.json.Decoder(_OpArgs).decode
        self._unread: Counter[str] = Counter()

    def add(self, event: Event) -> None:
        category = _CATEGORIES.get(event.cat)
        if category is None:
            if event.ph == "X" and event.cat not in _PASSED_OVER:
                self._unread[event.cat] += 1
            return
        if event.ph != "X" and not bytes(event.dur):
            return
        if event.name is None or event.ph != "X":
            raise damaged(self._path, f"an event of category {event.cat} {_lack(event)}")
        if category is Category.PYTHON_FUNCTION and not event.name.startswith(MODULE_PREFIX):
            return
        linked = category in _LAUNCH or category in _DEVICE
        start_ns = self._time_ns(event, "ts", event.ts)
        dur_ns = self._duration_ns(event)
        correlation = self._read_correlation(event) if linked else NO_CORRELATION
        place = self._places.get((bytes(event.pid), bytes(event.tid)))
        if place is None:
            place = self._new_place(event)
        name = self._names.setdefault(event.name, len(self._names))
        self._rows[category].append((int(category), name, place, start_ns, dur_ns, correlation))
        if category is Category.CPU_OP:
            ids = self._read_sequence(event)
            if ids is not None:
                self._autograd.append((name, place, start_ns, start_ns + dur_ns, *ids))

    def _new_place(self, event: Event) -> int:
        """The number of the event's track; 7 and "7" are one."""
        track = (self._id(event, "pid", event.pid), self._id(event, "tid", event.tid))
        place = self._tracks.setdefault(track, len(self._tracks))
        self._places[bytes(event.pid), bytes(event.tid)] = place
        return place

    def _id(self, event: Event, key: str, text: msgspec.Raw) -> str:
        try:
            return str(_decode_id(text))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            shown = bytes(text).decode(errors="replace") or "nothing"
            raise damaged(self._path, f'event {event.name!r} has {shown} as its "{key}"') from None

    def unread(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self._unread.items()))

    def trace(self, info: TraceInfo) -> Trace:
        """The columns, by start; the order of the file leaves no trace in them."""
        return Trace(
            info=info,
            names=tuple(sorted(self._names)),
            tracks=tuple(Track(pid, tid) for pid, tid in sorted(self._tracks)),
            host=self._events(*_HOST),
            launches=self._events(*_LAUNCH),
            device=self._events(*_DEVICE),
            gpu_annotations=self._events(Category.GPU_USER_ANNOTATION),
            autograd=self._autograd_ops(),
        )

    def _autograd_ops(self) -> AutogradOps:
        table = np.array(self._autograd, np.int64).reshape(-1, 6)
        table[:, 0] = _sorted_positions(self._names)[table[:, 0]]
        table[:, 1] = _sorted_positions(self._tracks)[table[:, 1]]
        # Of those that start together the longer one is outside.
        table = table[np.lexsort((*table.T[[5, 4, 0, 1]], -table[:, 3], table[:, 2]))]
        few, many = table[:, :2].T.astype(np.int32), table[:, 2:].T.copy()
        return AutogradOps(*few, *many)

    def _events(self, *categories: Category) -> Events:
        rows = [row for category in categories for row in self._rows[category]]
        table = np.array(rows, dtype=np.int64).reshape(-1, 6)
        if table[:, 4].sum(dtype=np.float64) > _INT64_MAX // 2:
            raise damaged(self._path, "has durations that add up to more than a century")
        table[:, 1] = _sorted_positions(self._names)[table[:, 1]]
        table[:, 2] = _sorted_positions(self._tracks)[table[:, 2]]
        table = table[np.lexsort(table.T[[5, 1, 4, 2, 0, 3]])]
        return Events(
            category=table[:, 0].astype(np.int8),
            name=table[:, 1].astype(np.int32),
            track=table[:, 2].astype(np.int32),
            start_ns=table[:, 3].copy(),
            dur_ns=table[:, 4].copy(),
            correlation=table[:, 5].copy(),
        )

    def _time_ns(self, event: Event, key: str, text: msgspec.Raw) -> int:
        try:
            time_ns = nanoseconds(bytes(text))
        except (ValueError, ArithmeticError):
            shown = bytes(text).decode(errors="replace") or "nothing"
            raise damaged(self._path, f'event {event.name!r} has {shown} as its "{key}"') from None
        if abs(time_ns) > _INT64_MAX // 2:
            raise damaged(self._path, f'event {event.name!r} has an impossible "{key}"')
        return time_ns

    def _duration_ns(self, event: Event) -> int:
        dur_ns = self._time_ns(event, "dur", event.dur)
        if dur_ns < 0:
            raise damaged(self._path, f"event {event.name!r} has a negative duration")
        return dur_ns

    def _read_correlation(self, event: Event) -> int:
        if not bytes(event.args):
            return NO_CORRELATION
        try:
            correlation = self._correlation(event.args).correlation
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(self._path, f"event {event.name!r} has odd args: {error}") from error
        return NO_CORRELATION if correlation is None else correlation

    def _read_sequence(self, event: Event) -> tuple[int, int] | None:
        """Sequence number and forward thread of what autograd numbered or evaluated, else None."""
        is_node = event.name is not None and event.name.startswith(NODE_PREFIX)
        if b'"Sequence number"' not in bytes(event.args):
            return (NO_SEQUENCE, 0) if is_node else None
        try:
            found = self._op_args(event.args)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(self._path, f"event {event.name!r} has odd args: {error}") from error
        if not (0 <= found.sequence <= _INT64_MAX and 0 <= found.forward_thread <= _INT64_MAX):
            return (NO_SEQUENCE, 0) if is_node else None
        return found.sequence, found.forward_thread


def nanoseconds(text: bytes) -> int:
    """Microseconds as JSON writes them, in exact integer nanoseconds.

    Digits beyond the third decimal are rounded, half to even.

    Raises:
        ValueError, ArithmeticError: `text` is not a finite number, or beyond all reason.
    """
    whole, _, decimals = text.partition(b".")
    if len(decimals) <= 3 and decimals.isdigit() and whole.isdigit():
        return int(whole) * 1000 + int(decimals.ljust(3, b"0"))
    if not decimals and whole.isdigit():
        return int(whole) * 1000
    exact = Decimal(text.decode("ascii")) * 1000
    return int(exact.to_integral_value())


def _sorted_positions(known: Mapping[_Key, int]) -> Int64:
    """Where each of the keys, numbered 0 upwards, stands when they are sorted."""
    positions = np.empty(len(known), np.int64)
    positions[[known[key] for key in sorted(known)]] = np.arange(len(known))
    return positions


def _lack(event: Event) -> str:
    return 'has no "name"' if event.name is None else f'has {event.ph!r} as its "ph", not "X"'
