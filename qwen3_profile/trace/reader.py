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

import gzip
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace.columns import (
    NO_CORRELATION,
    Category,
    Events,
    Trace,
    TraceInfo,
    Track,
)
from qwen3_profile.trace.salvage import inflate_some, whole_prefixes

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
_HOST = (Category.CPU_OP, Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)
_LAUNCH = (Category.RUNTIME, Category.DRIVER)
_DEVICE = (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
# Stacks write an event for every Python call; only modules are scopes that we can use.
MODULE_PREFIX = "nn.Module: "

_INT64_MAX = 2**63 - 1
_GZIP_MAGIC = b"\x1f\x8b"


class _Args(msgspec.Struct, gc=False):
    correlation: Annotated[int, msgspec.Meta(ge=-(2**63), le=_INT64_MAX)] | None = None


class _Event(msgspec.Struct, gc=False):
    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: msgspec.Raw = msgspec.Raw(b"")
    tid: msgspec.Raw = msgspec.Raw(b"")
    ts: msgspec.Raw = msgspec.Raw(b"")
    dur: msgspec.Raw = msgspec.Raw(b"")
    args: msgspec.Raw = msgspec.Raw(b"")


class _Device(msgspec.Struct):
    name: str = ""


class _Document(msgspec.Struct):
    trace_events: list[_Event] | None = msgspec.field(name="traceEvents", default=None)
    schema_version: int | None = msgspec.field(name="schemaVersion", default=None)
    base_time_ns: int = msgspec.field(name="baseTimeNanoseconds", default=0)
    devices: list[_Device] = msgspec.field(name="deviceProperties", default_factory=list)


def read_trace(path: Path, *, accept_damaged: bool = False) -> Trace:
    """Reads a Kineto trace, `.json` or `.json.gz`.

    Args:
        path: the file.
        accept_damaged: of a file that is cut off, read what is whole; `TraceInfo.damage` says so.

    Raises:
        TraceError: the file cannot be read, or is not a trace.
        DamagedTraceError: it was a trace, but its text is cut off or broken.
    """
    document, damage = _read_document(path, accept_damaged)
    columns = _Columns(path)
    for event in document.trace_events or ():
        columns.add(event)
    info = TraceInfo(
        path=str(path),
        schema_version=document.schema_version,
        base_time_ns=document.base_time_ns,
        devices=tuple(device.name for device in document.devices),
        damage=damage,
    )
    return columns.trace(info)


def _read_document(path: Path, accept_damaged: bool) -> tuple[_Document, str]:
    try:
        return _decode(path, _read_bytes(path)), ""
    except DamagedTraceError as error:
        if not accept_damaged:
            raise
        return _salvage(path, error), error.what


def _salvage(path: Path, error: DamagedTraceError) -> _Document:
    raw = path.read_bytes()
    text = inflate_some(raw) if raw[:2] == _GZIP_MAGIC else raw
    for prefix in whole_prefixes(text):
        try:
            return _decode(path, prefix)
        except TraceError:
            continue
    raise DamagedTraceError(str(path), error.what, "nothing of it is whole; record it again")


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == _GZIP_MAGIC else raw
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(path, f"is not whole gzip: {error}") from error
        raise TraceError(str(path), f"cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise _damaged(path, f"is cut off or not whole gzip: {error}") from error


def _decode(path: Path, text: bytes) -> _Document:
    text = text.lstrip()
    if not text:
        raise _damaged(path, "is empty")
    try:
        if text[:1] == b"[":
            return _Document(trace_events=msgspec.json.decode(text, type=list[_Event]))
        document = msgspec.json.decode(text, type=_Document)
    except msgspec.ValidationError as error:
        raise TraceError(str(path), f"is not a Kineto trace: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b'"traceEvents"' not in text[: 1 << 20]:
            raise TraceError(
                str(path),
                f"is not a Kineto trace: {error}",
                "give a file that torch.profiler wrote",
            ) from error
        raise _damaged(path, f"is cut off or not JSON: {error}") from error
    if document.trace_events is None:
        raise TraceError(
            str(path), 'holds no "traceEvents"', "give a trace that torch.profiler wrote"
        )
    return document


def _damaged(path: Path, what: str) -> DamagedTraceError:
    return DamagedTraceError(str(path), what, "export the trace again, or copy the file again")


class _Columns:
    """Gathers events into growing lists, one set per kind of event."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, int] = {}
        self._tracks: dict[tuple[bytes, bytes], int] = {}
        self._rows: dict[Category, list[tuple[int, int, int, int, int, int]]] = {
            category: [] for category in Category
        }
        self._correlation = msgspec.json.Decoder(_Args).decode

    def add(self, event: _Event) -> None:
        category = _CATEGORIES.get(event.cat)
        if event.ph != "X" or category is None:
            return
        if category is Category.PYTHON_FUNCTION and not event.name.startswith(MODULE_PREFIX):
            return
        track = (bytes(event.pid), bytes(event.tid))
        linked = category in _LAUNCH or category in _DEVICE
        self._rows[category].append(
            (
                int(category),
                self._names.setdefault(event.name, len(self._names)),
                self._tracks.setdefault(track, len(self._tracks)),
                self._time_ns(event, "ts", event.ts),
                self._duration_ns(event),
                self._read_correlation(event) if linked else NO_CORRELATION,
            )
        )

    def trace(self, info: TraceInfo) -> Trace:
        return Trace(
            info=info,
            names=tuple(self._names),
            tracks=tuple(Track(_plain(pid), _plain(tid)) for pid, tid in self._tracks),
            host=self._events(*_HOST),
            launches=self._events(*_LAUNCH),
            device=self._events(*_DEVICE),
            gpu_annotations=self._events(Category.GPU_USER_ANNOTATION),
        )

    def _events(self, *categories: Category) -> Events:
        rows = [row for category in categories for row in self._rows[category]]
        table = np.array(rows, dtype=np.int64).reshape(-1, 6)
        return Events(
            category=table[:, 0].astype(np.int8),
            name=table[:, 1].astype(np.int32),
            track=table[:, 2].astype(np.int32),
            start_ns=table[:, 3].copy(),
            dur_ns=table[:, 4].copy(),
            correlation=table[:, 5].copy(),
        )

    def _time_ns(self, event: _Event, key: str, text: msgspec.Raw) -> int:
        try:
            time_ns = nanoseconds(bytes(text))
        except (ValueError, ArithmeticError):
            shown = bytes(text).decode(errors="replace") or "nothing"
            raise _damaged(self._path, f'event {event.name!r} has {shown} as its "{key}"') from None
        if abs(time_ns) > _INT64_MAX // 2:
            raise _damaged(self._path, f'event {event.name!r} has an impossible "{key}"')
        return time_ns

    def _duration_ns(self, event: _Event) -> int:
        dur_ns = self._time_ns(event, "dur", event.dur)
        if dur_ns < 0:
            raise _damaged(self._path, f"event {event.name!r} has a negative duration")
        return dur_ns

    def _read_correlation(self, event: _Event) -> int:
        if not bytes(event.args):
            return NO_CORRELATION
        try:
            correlation = self._correlation(event.args).correlation
        except msgspec.ValidationError as error:
            raise _damaged(self._path, f"event {event.name!r} has odd args: {error}") from error
        return NO_CORRELATION if correlation is None else correlation


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


def _plain(text: bytes) -> str:
    return text.decode("utf-8", errors="replace").strip('"')
