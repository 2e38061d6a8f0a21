"""Times by label path, children inside parents: a tree of parts, held small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from qwen3_profile.trace.columns import Int32, Int64

NO_PART = -1


class Times(NamedTuple):
    """What was summed over the calls of one scope name. Nanoseconds and counts, all integers.

    calls: how often the scope was opened.
    cpu_ns: wall-clock on the host from start to end.
    device_ns: durations of the device events launched inside, whenever they ran.
    device_events: how many. graph_events: of them, those launched as part of a graph.
    launch_ns: time in runtime and driver calls.
    gap_ns: idle time of the device that ended with one of these events.
    queue_ns: from the end of each launch to the start of its event.
    """

    calls: int = 0
    cpu_ns: int = 0
    device_ns: int = 0
    device_events: int = 0
    graph_events: int = 0
    launch_ns: int = 0
    gap_ns: int = 0
    queue_ns: int = 0

    def __add__(self, other: Times) -> Times:  # type: ignore[override]
        return Times(
            self.calls + other.calls,
            self.cpu_ns + other.cpu_ns,
            self.device_ns + other.device_ns,
            self.device_events + other.device_events,
            self.graph_events + other.graph_events,
            self.launch_ns + other.launch_ns,
            self.gap_ns + other.gap_ns,
            self.queue_ns + other.queue_ns,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One scope name under its parents' names.

    name: the scope's name as the trace has it, such as `layer.7.attn.q_proj`.
    total: with children. own: without them; what of a container no child explains.
    parts: the children, in the order in which they first ran.
    """

    name: str
    total: Times
    own: Times
    parts: Sequence[Part] = ()

    def find(self, name: str) -> Part | None:
        """The direct child called `name`."""
        return next((part for part in self.parts if part.name == name), None)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Part]]:
        """This part and all below it, each with its path of names, outermost first."""
        # Ranges that were never closed nest by thousands; recursion would end before them.
        waiting = [((*path, self.name), self)]
        while waiting:
            path, part = waiting.pop()
            yield path, part
            waiting += [((*path, child.name), child) for child in reversed(part.parts)]

    def each(self) -> Iterator[Part]:
        """This part and all below it, in the order of `walk`."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.parts)


class PackedParts(Sequence[Part]):
    """The children of a root, held as numbers until somebody asks for them.

    A trace may hold thousands of forward passes, and as objects the parts of one take as much
    memory as a hundredth of its text.
    """

    __slots__ = ("_count", "_root", "_tree")

    def __init__(self, tree: PartTree, root: int, count: int) -> None:
        self._tree = tree
        self._root = root
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...
    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        return self._unpacked()[index]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._unpacked())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedParts):
            return self._unpacked() == other._unpacked()
        return self._unpacked() == other

    def __hash__(self) -> int:
        return hash(self._unpacked())

    def __repr__(self) -> str:
        return repr(self._unpacked())

    def _unpacked(self) -> tuple[Part, ...]:
        return _unpack(self._tree)[self._root]


class PackedTimes:
    """int64[p, 16] in as few bytes as they allow, counts apart from nanoseconds."""

    __slots__ = ("_counts", "_ns")

    def __init__(self, times: Int64) -> None:
        self._counts = _smallest(times[:, _IS_COUNT])
        self._ns = _smallest(times[:, ~_IS_COUNT])

    def unpacked(self) -> Int64:
        times = np.empty((len(self._ns), len(_IS_COUNT)), np.int64)
        times[:, _IS_COUNT] = self._counts
        times[:, ~_IS_COUNT] = self._ns
        return times


_IS_COUNT = np.array([not name.endswith("_ns") for name in Times._fields] * 2)


def _smallest(values: Int64) -> npt.NDArray[Any]:
    if values.size and values.min() >= 0:
        for width in (np.uint8, np.uint16, np.uint32):
            if values.max() <= np.iinfo(width).max:
                return values.astype(width)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class PartTree:
    """Parts as parallel arrays, parents before their children, roots before all.

    names: what `name` indexes. name: int32[p].
    parent: int32[p], the place of another part, or -1.
    times: the fields of `total` and of `own`.
    """

    names: tuple[str, ...]
    name: Int32
    parent: Int32
    times: PackedTimes

    def roots(self) -> tuple[Part, ...]:
        """The parts that lie in none, their children packed."""
        count = int((self.parent == NO_PART).sum())
        below = np.bincount(self.parent[count:], minlength=count).tolist()
        times = self.times.unpacked()[:count].tolist()
        return tuple(
            Part(
                self.names[self.name[root]],
                *_both(times[root]),
                PackedParts(self, root, below[root]) if below[root] else (),
            )
            for root in range(count)
        )


# Who looks at the parts of one pass looks at all of them, several times.
@lru_cache(maxsize=2)
def _unpack(tree: PartTree) -> dict[int, tuple[Part, ...]]:
    """The children of each root."""
    parents, names, times = tree.parent.tolist(), tree.name.tolist(), tree.times.unpacked().tolist()
    below: list[list[Part]] = [[] for _ in parents]
    roots = parents.count(NO_PART)
    for place in range(len(parents) - 1, roots - 1, -1):
        children = below[place]
        children.reverse()
        part = Part(tree.names[names[place]], *_both(times[place]), tuple(children))
        below[place] = []
        below[parents[place]].append(part)
    return {root: tuple(reversed(below[root])) for root in range(roots)}


def _both(times: list[int]) -> tuple[Times, Times]:
    """Those with children, and those without."""
    return Times._make(times[:_TIMES]), Times._make(times[_TIMES:])


_TIMES = len(Times._fields)
_NOTHING = (Times(), Times())


def sum_times(times: Iterable[Times]) -> Times:
    return sum(times, Times())


def merge_parts(parts: Sequence[Part]) -> Part:
    """The sum of the same part over several forward passes, child by child; at least one."""
    if len(parts) == 1:
        return parts[0]
    name = parts[0].name
    sums: dict[tuple[str, ...], tuple[Times, Times]] = {}
    below: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for part in parts:
        for path, each in part.walk():
            path = (name, *path[1:])
            total, own = sums.get(path, _NOTHING)
            sums[path] = (total + each.total, own + each.own)
            below.setdefault(path[:-1], {})[path] = None
    built: dict[tuple[str, ...], Part] = {}
    for path in sorted(sums, key=len, reverse=True):
        total, own = sums[path]
        children = tuple(built.pop(child) for child in below.get(path, ()))
        built[path] = Part(path[-1], total, own, children)
    return built[name,]
