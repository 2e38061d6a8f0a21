"""What lies in what in one raw file, thread by thread and stream by stream.

Four rules of the normalised trace need it: which module a label lies in, which op a call of the
runtime was made by, which Python frames cut across the label that they should lie in, and which
device events cut across another one of their stream.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from qwen3_profile import labels
from qwen3_profile.errors import TraceError
from qwen3_profile.trace.event_keys import MODULE_PREFIX
from qwen3_profile.views.tensorboard.raw_events import RawEvent, RawFile

LAUNCH_FLOW = "ac2g"
LAUNCH_CATEGORIES = frozenset({"cuda_runtime", "cuda_driver", "runtime"})
_DEVICE_CATEGORIES = frozenset(
    {"cuda_sync", "gpu_memcpy", "gpu_memset", "gpu_user_annotation", "kernel"}
)
_RANGE_CATEGORIES = frozenset({"cpu_op", "user_annotation", "python_function"})

# Of two ranges that cut across each other the lower one yields.
_FUNCTION, _MODULE, _OP = range(3)
# The indices of the events on each (pid, tid), in the file's order.
_Threads = defaultdict[tuple[int | str, int | str], list[int]]
_Time = TypeVar("_Time", int, Decimal)


class ModuleTree:
    """One id for each place of a label in the tree of labels, the same in every step and file.

    The dashboard shows a tree for each different set of ids that it meets. With an id for each
    place, not for each call, all steps fall into one.
    """

    def __init__(self, first_id: int) -> None:
        self._first_id = first_id
        self._ids: dict[tuple[int | None, str], int] = {}

    def place(self, parent: int | None, label: str) -> int:
        """The id of `label` directly under the place `parent`, or under nothing."""
        return self._ids.setdefault((parent, label), self._first_id + len(self._ids))


@dataclass(frozen=True, slots=True)
class Place:
    """A label's place in the tree: its own id, and that of the label around it."""

    id: int
    parent: int | None


@dataclass(slots=True)
class Nesting:
    """What lies in what, in one file; all keys are indices of its events.

    place: of each of our labels.
    op: of each call of the runtime or driver, the innermost op or label around it, or None.
    cut: Python frames that cut across another range of their thread, to be left out.
    lane: of each device event that cuts across another of its stream, which track next to it, 1 or
        more; the ends of arrows that lead to it have the same.
    """

    place: dict[int, Place] = field(default_factory=dict)
    op: dict[int, int | None] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    lane: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Open:
    """A range that is open; `op` and `module` are those of itself or the nearest around it."""

    index: int
    end: Decimal
    rank: int
    op: int | None
    module: int | None


def nest(raw: RawFile, tree: ModuleTree) -> Nesting:
    """Finds what lies in what in `raw`, and gives each label its place in `tree`.

    Raises:
        TraceError: two labels of one thread overlap, and neither lies in the other.
    """
    threads: _Threads = defaultdict(list)
    streams: _Threads = defaultdict(list)
    for index, event in enumerate(raw.events):
        if event.ph == "X" and (event.cat in _RANGE_CATEGORIES or event.cat in LAUNCH_CATEGORIES):
            threads[event.pid, event.tid].append(index)
        elif event.ph == "X" and event.cat in _DEVICE_CATEGORIES:
            streams[event.pid, event.tid].append(index)
    nesting = Nesting(lane=_device_lanes(raw, streams))
    events = raw.events
    for thread in threads.values():
        # Kineto writes a range before what lies in it, so the file's order breaks ties.
        thread.sort(key=lambda i: (events[i].start, -events[i].end, i))
        _sweep(raw, thread, tree, nesting)
    return nesting


def lanes(ranges: Sequence[tuple[_Time, _Time]]) -> list[int]:
    """The lane of each range, counted from 0: the first one on which it cuts across no other.

    Perfetto draws ranges that lie in each other, and drops one of two that overlap otherwise.
    Kernels of one stream do where the next one starts before the last one has drained.

    Args:
        ranges: (start, end); of equal ones the outer one first.
    """
    found = [0] * len(ranges)
    open_ends: list[list[_Time]] = []
    for index in sorted(range(len(ranges)), key=lambda i: (ranges[i][0], -ranges[i][1], i)):
        start, end = ranges[index]
        lane = next((n for n, ends in enumerate(open_ends) if _fits(start, end, ends)), None)
        if lane is None:
            lane = len(open_ends)
            open_ends.append([])
        open_ends[lane].append(end)
        found[index] = lane
    return found


def _device_lanes(raw: RawFile, streams: _Threads) -> dict[int, int]:
    found: dict[int, int] = {}
    for stream in streams.values():
        ranges = [(raw.events[i].start, raw.events[i].end) for i in stream]
        found.update((i, lane) for i, lane in zip(stream, lanes(ranges), strict=True) if lane)
    arrows = {raw.events[i].args.correlation: lane for i, lane in found.items()}
    for index, event in enumerate(raw.events if found else ()):
        if event.cat == LAUNCH_FLOW and event.ph == "f" and event.id in arrows:
            found[index] = arrows[event.id]
    return found


def _sweep(raw: RawFile, thread: Iterable[int], tree: ModuleTree, nesting: Nesting) -> None:
    stack: list[_Open] = []
    for index in thread:
        event = raw.events[index]
        while stack and stack[-1].end <= event.start:
            stack.pop()
        if event.cat in LAUNCH_CATEGORIES:
            nesting.op[index] = stack[-1].op if stack else None
        elif _lies_inside(raw, index, stack, nesting):
            stack.append(_opened(raw, index, stack[-1] if stack else None, tree, nesting))


def _lies_inside(raw: RawFile, index: int, stack: list[_Open], nesting: Nesting) -> bool:
    """Whether the event lies in the innermost open range, once what yields to it is out.

    Viewers drop one of two ranges that cut across each other: here it is the Python function, and
    of a module and an op the module.
    """
    event = raw.events[index]
    rank = _rank(event)
    while stack and event.end > stack[-1].end:
        if rank < _OP and rank <= stack[-1].rank:
            nesting.cut.add(index)
            return False
        if stack[-1].rank == _OP:
            around = raw.events[stack[-1].index]
            if labels.parse(event.name) and labels.parse(around.name):
                what = f"the label {event.name!r} starts in {around.name!r} and ends after it"
                raise TraceError(str(raw.path), what, "open and close labels on one thread, nested")
            return True
        nesting.cut.add(stack.pop().index)
    return True


def _rank(event: RawEvent) -> int:
    if event.cat != "python_function":
        return _OP
    return _MODULE if event.name.startswith(MODULE_PREFIX) else _FUNCTION


def _opened(
    raw: RawFile, index: int, around: _Open | None, tree: ModuleTree, nesting: Nesting
) -> _Open:
    event = raw.events[index]
    is_label = event.cat != "python_function" and labels.parse(event.name) is not None
    module = around.module if around else None
    if is_label:
        nesting.place[index] = Place(tree.place(module, event.name), module)
        module = nesting.place[index].id
    is_op = is_label or event.cat == "cpu_op"
    return _Open(
        index=index,
        end=event.end,
        rank=_rank(event),
        op=index if is_op else around.op if around else None,
        module=module,
    )


def _fits(start: _Time, end: _Time, ends: list[_Time]) -> bool:
    """Whether a range lies in what is open on a lane; what ended before it is taken off `ends`."""
    while ends and ends[-1] <= start:
        ends.pop()
    return not ends or end <= ends[-1]
