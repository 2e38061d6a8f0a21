"""A trace as columns: parallel arrays of one entry per event, in integer nanoseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from qwen3_profile.trace.losses import LossCounts
    from qwen3_profile.trace.messages import Message, MessageCall

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NO_CORRELATION = -1
NO_SEQUENCE = -1
NO_NODE_ID = 0
# Operators from here on are read whatever their name: one may be what a device waited for.
LONG_OP_NS = 50_000


class Category(IntEnum):
    """Kineto's event categories that we read, under one number each."""

    CPU_OP = 0
    USER_ANNOTATION = 1
    PYTHON_FUNCTION = 2
    RUNTIME = 3
    DRIVER = 4
    KERNEL = 5
    GPU_MEMCPY = 6
    GPU_MEMSET = 7
    GPU_USER_ANNOTATION = 8


@dataclass(frozen=True, slots=True)
class Track:
    """Where events lie: a host thread (pid, tid), or a device and its stream."""

    pid: str
    tid: str


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """What one launch or device event says besides its time; None, 0 or "" where it says nothing.

    CUDA's launches name no kernel, HIP's do; HIP's kernels in a graph have no grid.

    grid, block: of a kernel, or of the launch of one.
    node_id: of a node of a graph, the number that CUPTI gives it; nodes count upwards as captured.
    kernel: of a launch, the name of what it launches.
    """

    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    node_id: int = NO_NODE_ID
    kernel: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Parallel arrays of length n, one entry per event.

    category: int8[n], a `Category`.
    name: int32[n], an index into `Trace.names`.
    track: int32[n], an index into `Trace.tracks`.
    start_ns: int64[n], nanoseconds since `TraceInfo.base_time_ns`.
    dur_ns: int64[n], at least 0.
    correlation: int64[n], the id that a launch shares with its device events, or -1.
    launch_config: int32[n], an index into `Trace.launch_configs`; None where it was not asked for.
    """

    category: Int8
    name: Int32
    track: Int32
    start_ns: Int64
    dur_ns: Int64
    correlation: Int64
    launch_config: Int32 | None = None

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def end_ns(self) -> Int64:
        return self.start_ns + self.dur_ns

    @property
    def span(self) -> Span | None:
        """None without events."""
        if not len(self):
            return None
        return Span(int(self.start_ns.min()), int(self.end_ns.max()))

    def take(self, index: Int64 | Bool) -> Events:
        """The events that `index`, positions or a mask, selects."""
        return Events(
            self.category[index],
            self.name[index],
            self.track[index],
            self.start_ns[index],
            self.dur_ns[index],
            self.correlation[index],
            None if self.launch_config is None else self.launch_config[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class AutogradOps:
    """Operators that autograd numbered, and all nodes that it evaluated, in order of their start.

    An operator and the node that is its backward share a sequence number, which counts upwards on
    each thread of a forward pass.

    name, track: int32[n], as in `Events`.
    start_ns, end_ns: int64[n].
    sequence: int64[n], or -1: a node that adds up a gradient has none.
    forward_thread: int64[n], autograd's own number of the thread whose operator a node is the
        backward of; 0 for an operator.
    """

    name: Int32
    track: Int32
    start_ns: Int64
    end_ns: Int64
    sequence: Int64
    forward_thread: Int64

    def __len__(self) -> int:
        return len(self.start_ns)

    def take(self, index: Int64 | Bool) -> AutogradOps:
        """The ops that `index`, positions or a mask, selects."""
        return AutogradOps(
            self.name[index],
            self.track[index],
            self.start_ns[index],
            self.end_ns[index],
            self.sequence[index],
            self.forward_thread[index],
        )


def no_autograd_ops() -> AutogradOps:
    """None of them."""
    few, many = np.empty(0, np.int32), np.empty(0, np.int64)
    return AutogradOps(few, few, many, many, many, many)


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """What the file says of itself, besides its events.

    damage: why the file is not whole, where it was read all the same; else empty.
    rank, world_size: which process of how many wrote it, if the file says so.
    versions: (key, version) pairs as the file has them, such as ("cuda_runtime_version", 13000).
    messages: warnings and errors of the profiler's log, which Kineto writes into the file.
    unread: (category, events) of the complete events of categories that nobody knows.
    ignored: fields of the header that are not of their type, and their values.
    losses: what of its events could not be used, or only in part; None if it is not known.
    unpaired: how many events begin or end a range that has no other end; these were left out.
    """

    path: str
    schema_version: int | None
    base_time_ns: int
    devices: tuple[str, ...]
    damage: str = ""
    rank: int | None = None
    world_size: int | None = None
    versions: tuple[tuple[str, int], ...] = ()
    messages: tuple[str, ...] = ()
    unread: tuple[tuple[str, int], ...] = ()
    ignored: tuple[str, ...] = ()
    unpaired: int = 0
    losses: LossCounts | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """From the start of the first of some events to the end of the last one."""

    first_ns: int
    last_ns: int

    def __or__(self, other: Span) -> Span:
        """Around both."""
        return Span(min(self.first_ns, other.first_ns), max(self.last_ns, other.last_ns))


@dataclass(frozen=True, slots=True, eq=False)
class SaidTwice:
    """What the file says a second time of its events, where that is to be compared.

    arrows: int64[4, n]: whether it is the end of one, its id, time and track; of those arrows that
        stand behind no event which they agree with.
    waits: int64[4, n]: 0, id, time and track of synchronisations, at which arrows may end.
    places: int64[5, n]: name and track of device events, the device and the stream that their args
        tell, or -1, and how many there are.
    copies: int64[4, n]: name, start and duration of copies, and how long their bytes take at their
        bandwidth.
    window: when the profiler says that it recorded.
    """

    arrows: Int64
    waits: Int64
    places: Int64
    copies: Int64
    window: Span | None

    def between(self, span: Span) -> SaidTwice:
        """That of the events which begin within a span."""
        arrows, copies = (
            rows[:, (rows[at] >= span.first_ns) & (rows[at] <= span.last_ns)]
            for rows, at in ((self.arrows, 2), (self.copies, 1))
        )
        return SaidTwice(arrows, self.waits, self.places, copies, self.window)


def nothing_twice() -> SaidTwice:
    """Nothing of it."""
    four, five = np.empty((4, 0), np.int64), np.empty((5, 0), np.int64)
    return SaidTwice(four, four, five, four, None)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One trace file.

    host: cpu_op, user_annotation and python_function events.
    launches: cuda_runtime and cuda_driver events.
    device: kernel, gpu_memcpy and gpu_memset events.
    gpu_annotations: gpu_user_annotation events, which are ranges and no device work.
    autograd: those of the cpu_op events that lead from a backward to its forward.
    left_out: when those cpu_op events were that the reader was told to leave out of `host`.
    launch_configs: what `launch_config` of the events stands for; empty where it is None.
    said: what the file says twice. doubled: events that stand in it again, in no other table.
    messages: name, track and correlation id of a collective's kernel -> what it carries, as far as
        it is told.
    message_calls: track -> the calls of collectives there, by start, as far as they tell.
    """

    info: TraceInfo
    names: tuple[str, ...]
    tracks: tuple[Track, ...]
    host: Events
    launches: Events
    device: Events
    gpu_annotations: Events
    autograd: AutogradOps = field(default_factory=no_autograd_ops)
    left_out: Span | None = None
    launch_configs: tuple[LaunchConfig, ...] = ()
    said: SaidTwice = field(default_factory=nothing_twice)
    doubled: tuple[Events, ...] = ()
    messages: Mapping[tuple[int, int, int], Message] = field(default_factory=dict)
    message_calls: Mapping[int, tuple[MessageCall, ...]] = field(default_factory=dict)

    def configs_of(self, events: Events) -> list[LaunchConfig]:
        """What each of these launches or device events says of itself.

        Raises:
            ValueError: the trace was read without its launch columns.
        """
        if events.launch_config is None:
            raise ValueError(f"{self.info.path} was read without its launch columns")
        return [self.launch_configs[number] for number in events.launch_config.tolist()]

    @property
    def host_span(self) -> Span | None:
        """Of the host events, with those that were left out; None without any."""
        return around((self.host.span, self.left_out))

    @property
    def span(self) -> Span | None:
        """Of host events, launches and device events; None without any."""
        return around((self.host_span, self.launches.span, self.device.span))


@lru_cache(maxsize=32)
def which(names: tuple[str, ...], holds: Callable[[str], object]) -> Bool:
    """bool[len(names)]: of which names something holds; the windows of a trace share their names.

    Args:
        holds: a function that is there once; what it says of a name never changes.
    """
    found = np.array([bool(holds(name)) for name in names], bool)
    found.flags.writeable = False
    return found


def occurring(numbers: Int32) -> Int64:
    """Which small numbers, of 0 or more, there are among these, in order.

    To sort them takes longer, and numpy's own function first imports a module for masks.
    """
    return np.flatnonzero(np.bincount(numbers))


def around(spans: Iterable[Span | None]) -> Span | None:
    """Around all of them; None if there is none."""
    known = [span for span in spans if span is not None]
    return reduce(or_, known) if known else None
