"""A trace file and its `Trace` in, what kernels and launches say of themselves beside their times.

Only the matching of graphs needs it, so it is read a second time and not with every trace:

    "cat": "kernel", ..., "args": {"correlation": 18, "grid": [8, 1, 1], "block": [128, 1, 1],
                                   "graph node id": 4294967301, ...}
    "cat": "cuda_runtime", "name": "hipLaunchKernel", ...,
        "args": {"kernel": "triton_poi_fused_0", "grid": [1036, 1, 1], "block": [512, 1, 1], ...}

CUDA's launches name no kernel, HIP's do; HIP's kernels in a graph have no grid.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_profile.errors import TraceError
from qwen3_profile.trace.columns import NO_CORRELATION, Events, Trace
from qwen3_profile.trace.reader import nanoseconds

NO_NODE_ID = 0

_GZIP_MAGIC = b"\x1f\x8b"

_Key = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """What one event says beside its time; None, 0 or an empty text where it says nothing.

    grid, block: of a kernel, or of the launch of one.
    node_id: of a node of a graph, the number that CUPTI gives it; nodes count upwards as captured.
    kernel: of a launch, the name of what it launches.
    """

    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    node_id: int = NO_NODE_ID
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Geometry:
    """device: one entry per event of `Trace.device`; launches: one per event of `.launches`."""

    device: tuple[Shape, ...]
    launches: tuple[Shape, ...]


class _Event(msgspec.Struct, gc=False):
    ph: str = ""
    name: str | None = None
    ts: msgspec.Raw = msgspec.Raw(b"")
    args: msgspec.Raw = msgspec.Raw(b"")


class _Document(msgspec.Struct, gc=False):
    events: list[_Event] = msgspec.field(name="traceEvents", default_factory=list)


class _Args(msgspec.Struct, gc=False):
    correlation: int = NO_CORRELATION
    grid: list[int] | None = None
    block: list[int] | None = None
    node_id: int = msgspec.field(name="graph node id", default=NO_NODE_ID)
    kernel: str = ""


_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_args = msgspec.json.Decoder(_Args).decode


def read_geometry(path: Path, trace: Trace) -> Geometry:
    """Reads the shapes of the device events and launches of `trace` from its file.

    Of a file that is not whole, and whose events were read all the same, nothing is known.

    Raises:
        TraceError: the file is not there any more.
    """
    known: dict[_Key, deque[Shape]] = defaultdict(deque)
    wanted = set(trace.device.correlation.tolist()) | set(trace.launches.correlation.tolist())
    for event in _read_events(path):
        if event.ph != "X" or event.name is None or b'"correlation"' not in bytes(event.args):
            continue
        args = _read_args(event)
        if args is not None and args.correlation in wanted:
            key = (args.correlation, nanoseconds(bytes(event.ts)), event.name)
            known[key].append(_shape(args))
    return Geometry(_shapes(trace, trace.device, known), _shapes(trace, trace.launches, known))


def event_names(path: Path) -> frozenset[str]:
    """The names of all events of a file; none where it is no trace, or not whole.

    Raises:
        TraceError: it is not there.
    """
    return frozenset(event.name for event in _read_events(path) if event.name)


def _read_events(path: Path) -> list[_Event]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == _GZIP_MAGIC else raw).lstrip()
        if text[:1] == b"[":
            return msgspec.json.decode(text, type=list[_Event])
        return msgspec.json.decode(text, type=_Document).events
    except (*_NOT_JSON, EOFError, gzip.BadGzipFile, zlib.error):
        return []
    except OSError as error:
        raise TraceError(str(path), f"cannot be read: {error.strerror or error}") from error


def _read_args(event: _Event) -> _Args | None:
    """None of args that are not as Kineto writes them: nothing is known of such an event."""
    try:
        return _decode_args(event.args)
    except _NOT_JSON:
        return None


def _shape(args: _Args) -> Shape:
    grid = tuple(args.grid) if args.grid else None
    block = tuple(args.block) if args.block else None
    return Shape(grid, block, args.node_id, args.kernel)


def _shapes(trace: Trace, events: Events, known: dict[_Key, deque[Shape]]) -> tuple[Shape, ...]:
    columns = (events.correlation.tolist(), events.start_ns.tolist(), events.name.tolist())
    found = []
    for correlation, start_ns, name in zip(*columns, strict=True):
        same = known.get((correlation, start_ns, trace.names[name]))
        found.append(same.popleft() if same else Shape())
    return tuple(found)
