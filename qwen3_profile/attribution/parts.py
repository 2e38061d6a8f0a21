"""Times by label path, children inside parents: a tree of parts, held as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

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
    gap_ns: idle time of the device that ended with one of these events; starved_ns, launching_ns,
        queued_ns, blocked_ns: of it, by whose turn it was; the rest lay within graphs.
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
    starved_ns: int = 0
    launching_ns: int = 0
    queued_ns: int = 0
    blocked_ns: int = 0

    def __add__(self, other: Times) -> Times:  # type: ignore[override]
        return Times._make(map(int.__add__, self, other))


NO_TIMES = Times()


def sum_times(times: Iterable[Times]) -> Times:
    return sum(times, NO_TIMES)


_FIELDS = len(Times._fields)
_TOTAL, _OWN = slice(0, _FIELDS), slice(_FIELDS, None)
_IS_COUNT = np.array([not name.endswith("_ns") for name in Times._fields] * 2)


@dataclass(frozen=True, slots=True, eq=False)
class PartTree:
    """Parts as parallel arrays, parents before their children, roots before all.

    A trace may hold thousands of forward passes, and as objects the parts of one take as much
    memory as a hundredth of its text. So the times are in as few bytes as they allow.

    names: what `name` indexes. name: int32[p].
    parent: int32[p], the place of another part, or -1.
    counts, ns: the fields of `total` and of `own`, those that are counts and those that are not.
    """

    names: tuple[str, ...]
    name: Int32
    parent: Int32
    counts: npt.NDArray[Any]
    ns: npt.NDArray[Any]

    @staticmethod
    def of(
        names: Sequence[str], name: Int32, parent: Int32, times: Int64, like: PartTree | None = None
    ) -> PartTree:
        """A tree of these parts.

        Args:
            times: int64[p, 2 * fields], the fields of each part's `total` and of its `own`.
            like: another tree; what is the same in both is held once.
        """
        counts, ns = _smallest(times[:, _IS_COUNT]), _smallest(times[:, ~_IS_COUNT])
        if like is not None:
            name, parent = _one_of(like.name, name), _one_of(like.parent, parent)
            counts = _one_of(like.counts, counts)
        return PartTree(tuple(names), name, parent, counts, ns)

    def times(self) -> Int64:
        """int64[p, 2 * fields]: the fields of each part's `total` and of its `own`."""
        times = np.empty((len(self.name), 2 * _FIELDS), np.int64)
        times[:, _IS_COUNT] = self.counts
        times[:, ~_IS_COUNT] = self.ns
        return times

    def roots(self) -> tuple[Part, ...]:
        """The parts that lie in none."""
        return tuple(Part(self, row) for row in range(int((self.parent == NO_PART).sum())))

    def has_form_of(self, other: PartTree) -> bool:
        """Whether both have the same parts in the same places."""
        return (
            self.names == other.names
            and np.array_equal(self.name, other.name)
            and np.array_equal(self.parent, other.parent)
        )


_Array = TypeVar("_Array", bound=npt.NDArray[Any])


def _one_of(known: _Array, new: _Array) -> _Array:
    """One array for both, if they are the same."""
    return known if known.dtype == new.dtype and np.array_equal(known, new) else new


def _smallest(values: Int64) -> npt.NDArray[Any]:
    if values.size and values.min() >= 0:
        for width in (np.uint8, np.uint16, np.uint32):
            if values.max() <= np.iinfo(width).max:
                return values.astype(width)
    return values


class _Rows(NamedTuple):
    """A tree as Python's own objects: sooner read one by one. below: the children of each row."""

    names: list[str]
    total: list[Times]
    own: list[Times]
    below: list[list[int]]


# Who looks at the parts of one pass looks at all of them, several times.
@lru_cache(maxsize=2)
def _rows(tree: PartTree) -> _Rows:
    parents = tree.parent.tolist()
    below: list[list[int]] = [[] for _ in parents]
    for row, parent in enumerate(parents):
        if parent != NO_PART:
            below[parent].append(row)
    names = [tree.names[name] for name in tree.name.tolist()]
    times = tree.times().tolist()
    total, own = ([Times._make(row[at]) for row in times] for at in (_TOTAL, _OWN))
    return _Rows(names, total, own, below)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Part:
    """One scope name under its parents' names: a row of a tree, with all below it."""

    tree: PartTree
    row: int
    # Held by all parts that were reached from one, so that none is made twice.
    _held: _Rows | None = None

    @property
    def name(self) -> str:
        """The scope's name as the trace has it, such as `layer.7.attn.q_proj`."""
        if self._held is not None:
            return self._held.names[self.row]
        return self.tree.names[int(self.tree.name[self.row])]

    @property
    def total(self) -> Times:
        """With children."""
        return self._held.total[self.row] if self._held else self._read(_TOTAL)

    @property
    def own(self) -> Times:
        """Without children; what of a container no child explains."""
        return self._held.own[self.row] if self._held else self._read(_OWN)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The children, in the order in which they first ran."""
        if self._held is None and not (self.tree.parent == self.row).any():
            return ()
        rows = self._held or _rows(self.tree)
        return tuple([Part(self.tree, row, rows) for row in rows.below[self.row]])

    def _read(self, fields: slice) -> Times:
        times = np.empty(2 * _FIELDS, np.int64)
        times[_IS_COUNT], times[~_IS_COUNT] = self.tree.counts[self.row], self.tree.ns[self.row]
        return Times._make(times[fields].tolist())

    def find(self, name: str) -> Part | None:
        """The direct child called `name`."""
        return next((part for part in self.parts if part.name == name), None)

    def walk(self) -> Iterator[tuple[tuple[str, ...], Part]]:
        """This part and all below it, each with its path of names, outermost first."""
        # Ranges that were never closed nest by thousands; recursion would end before them.
        waiting: list[tuple[tuple[str, ...], Part]] = [((self.name,), self)]
        while waiting:
            path, part = waiting.pop()
            yield path, part
            waiting += [((*path, child.name), child) for child in reversed(part.parts)]

    def each(self) -> Iterator[Part]:
        """This part and all below it, in the order of `walk`."""
        return (part for _, part in self.walk())

    def __eq__(self, other: object) -> bool:
        """Whether both have the same times under the same names, all the way down."""
        return isinstance(other, Part) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((self.name, self.total, self.own))

    def _content(self) -> list[tuple[tuple[str, ...], Times, Times]]:
        return [(path, part.total, part.own) for path, part in self.walk()]

    def __repr__(self) -> str:
        return f"Part({self.name!r}, {self.total}, {self.own}, {len(self.parts)} parts)"

    def __reduce__(self) -> tuple[type[Part], tuple[PartTree, int]]:
        return Part, (self.tree, self.row)


def make_part(
    name: str, total: Times = NO_TIMES, own: Times = NO_TIMES, parts: Sequence[Part] = ()
) -> Part:
    """A part of these times, with copies of `parts` in it."""
    sums = PartSums()
    row = sums.add_row(NO_PART, name, (*total, *own))
    for part in parts:
        sums.add(part, row, part.name)
    return sums.root()


def merge_parts(parts: Sequence[Part]) -> Part:
    """The sum of the same part over several forward passes, child by child; at least one."""
    first, others = parts[0], parts[1:]
    if not others:
        return first
    if all(part.row == first.row and part.tree.has_form_of(first.tree) for part in others):
        # As those of one model mostly are.
        tree, times = first.tree, first.tree.times()
        for part in others:
            times += part.tree.times()
        return Part(PartTree.of(tree.names, tree.name, tree.parent, times), first.row)
    sums = PartSums()
    for part in parts:
        sums.add(part, NO_PART, first.name)
    return sums.root()


class PartSums:
    """A tree of one root in the making: what comes under the same path is summed.

    A row holds the fields of a part's `total` and of its `own`; the root's is the first.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], int] = {}  # (parent, name) of each
        self._times: list[Sequence[int]] = []

    def add(self, part: Part, parent: int, name: str) -> None:
        """Adds `part`, called `name`, and all below it to the row `parent`."""
        waiting = [(part, parent, name)]
        for each, above, called in waiting:
            row = self.add_row(above, called, (*each.total, *each.own))
            waiting += [(child, row, child.name) for child in each.parts]

    def add_row(self, parent: int, name: str, times: Sequence[int]) -> int:
        """The row of this name in the row `parent`, to which `times` are added."""
        row = self._rows.setdefault((parent, name), len(self._times))
        if row == len(self._times):
            self._times.append(times)
        else:
            self._times[row] = [
                one + other for one, other in zip(self._times[row], times, strict=True)
            ]
        return row

    def root(self) -> Part:
        names = {
            name: number for number, name in enumerate(dict.fromkeys(n for _, n in self._rows))
        }
        tree = PartTree.of(
            tuple(names),
            np.array([names[name] for _, name in self._rows], np.int32),
            np.array([parent for parent, _ in self._rows], np.int32),
            np.array(self._times, np.int64),
        )
        return Part(tree, 0)
